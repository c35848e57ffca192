"""One attempt: MX, addresses, null MX, TLS, what servers answer."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailserver.auth.secret import Secret
from mailserver.delivery.queue.relay import Relay, RelayHost
from mailserver.delivery.queue.resolver import Resolver
from mailserver.delivery.queue.transfer import Outcome, stuffed
from mailserver.delivery.target import Envelope, Recipient, Refused
from tests.unit.delivery.peers import DnsServer, Records, Script, Sink

RECORDS: Records = {
    ("one.example", "MX"): ["10 mx.one.example.", "5 dead.one.example.", "20 backup.one.example."],
    ("mx.one.example", "A"): ["127.0.0.1"],
    ("dead.one.example", "A"): ["127.0.0.99"],
    ("backup.one.example", "A"): ["127.0.0.1"],
    ("direct.example", "A"): ["127.0.0.1"],
    ("null.example", "MX"): ["0 ."],
    ("nothing.example", "TXT"): ["x"],
    ("broken.example", "MX"): ["SERVFAIL"],
    ("self.example", "MX"): ["10 us.example.", "20 mx.one.example."],
    ("backup.example", "MX"): ["10 mx.one.example.", "20 us.example.", "30 dead.one.example."],
    ("nohost.example", "MX"): ["10 missing.example."],
    ("six.example", "AAAA"): ["::1"],
    ("six.example", "A"): ["127.0.0.1"],
    ("xn--bcher-kva.example", "A"): ["127.0.0.1"],
}


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    with DnsServer(RECORDS) as server:
        yield server


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "message"
    path.write_bytes(b"Subject: x\r\n\r\n.dot\r\n..\r\nlast\r\n")
    return path


def send(
    dns: DnsServer,
    sink: Sink | None,
    message: Path,
    *addresses: str,
    relay_host: RelayHost | None = None,
    context: ssl.SSLContext | None = None,
    envelope: Envelope | None = None,
    recipients: Sequence[Recipient] = (),
) -> list[Outcome]:
    port = sink.port if sink is not None else 1
    relay = Relay(
        "us.example",
        Resolver(["us.example"], dns.resolver()),
        relay_host,
        port=port,
        connect_seconds=5,
        reply_seconds=5,
        context=context,
    )
    given = recipients or [Recipient(address) for address in addresses]
    size = message.stat().st_size
    return relay.deliver(envelope or Envelope("id", "from@us.example", body="8BITMIME"), str(message), size, given)


def status(outcomes: list[Outcome]) -> list[str]:
    return [f"{outcome.status.code} {outcome.status.enhanced}" for outcome in outcomes]


def test_order_of_hosts(dns: DnsServer) -> None:
    resolver = Resolver(["us.example"], dns.resolver())
    assert resolver.route("one.example").hosts == ["dead.one.example", "mx.one.example", "backup.one.example"]
    assert resolver.route("direct.example").hosts == ["direct.example"]
    assert resolver.route("backup.example").hosts == ["mx.one.example"]
    assert resolver.route("[192.0.2.1]").hosts == ["192.0.2.1"]
    assert resolver.route("[IPv6:2001:db8::1]").hosts == ["2001:db8::1"]
    assert resolver.addresses("six.example") == ["::1", "127.0.0.1"]
    assert resolver.addresses("nothing.example") == []
    for name, code in (("null", "5.1.10"), ("broken", "4.4.3"), ("self", "5.4.6"), ("missing", "5.1.2")):
        with pytest.raises(Refused) as refused:
            resolver.route(f"{name}.example")
        assert refused.value.status.enhanced == code


def test_delivered_by_the_second_host(dns: DnsServer, message: Path) -> None:
    with Sink() as sink:
        outcomes = send(dns, sink, message, "a@one.example", "b@ONE.example")
        assert status(outcomes) == ["250 2.0.0", "250 2.0.0"]
        assert outcomes[0].peer == "mx.one.example"
        (got,) = sink.got
    assert got.octets == message.read_bytes()
    assert got.mail == "MAIL FROM:<from@us.example> SIZE=30 BODY=8BITMIME"
    assert got.rcpts == ["RCPT TO:<a@one.example>", "RCPT TO:<b@ONE.example>"]
    assert sink.lines[0].upper() == "EHLO US.EXAMPLE"
    assert sink.lines[-1].upper() == "QUIT"


def test_without_mx_and_by_address(dns: DnsServer, message: Path) -> None:
    with Sink() as sink:
        for address in ("a@direct.example", "a@[127.0.0.1]", "a@six.example", "a@bücher.example"):
            if "ü" in address:
                sink.script.keywords.append("SMTPUTF8")
            assert status(send(dns, sink, message, address)) == ["250 2.0.0"], address


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("a@null.example", "556 5.1.10"),
        ("a@missing.example", "550 5.1.2"),
        ("a@broken.example", "451 4.4.3"),
        ("a@self.example", "554 5.4.6"),
        ("a@nothing.example", "550 5.4.4"),
        ("a@nohost.example", "550 5.1.2"),
        ("a@direct.example", "451 4.4.1"),  # nobody listens
    ],
)
def test_unreachable(dns: DnsServer, message: Path, address: str, wanted: str) -> None:
    assert status(send(dns, None, message, address)) == [wanted]


@pytest.mark.parametrize(
    ("replies", "wanted"),
    [
        ({"MAIL": "550 5.7.1 go away"}, ["550 5.7.1", "550 5.7.1"]),
        ({"MAIL": "451 busy"}, ["451 4.0.0", "451 4.0.0"]),
        ({"RCPT TO:<a@": "550 5.1.1 who"}, ["550 5.1.1", "250 2.0.0"]),
        ({"RCPT TO:<a@": "450-4.2.0 two\r\n450 4.2.0 lines"}, ["450 4.2.0", "250 2.0.0"]),
        ({"DATA": "554 5.3.0 no"}, ["554 5.3.0", "554 5.3.0"]),
        ({"EHLO": "421 4.3.2 full"}, ["451 4.4.1", "451 4.4.1"]),
        ({"MAIL": "421 4.3.2 full"}, ["421 4.3.2", "421 4.3.2"]),
    ],
)
def test_answers(dns: DnsServer, message: Path, replies: dict[str, str], wanted: list[str]) -> None:
    with Sink(Script(replies=replies)) as sink:
        found = status(send(dns, sink, message, "a@direct.example", "b@direct.example"))
    if replies.get("EHLO"):
        assert all(one.startswith("4") for one in found)
    else:
        assert found == wanted


def test_answer_at_the_end(dns: DnsServer, message: Path) -> None:
    for end, wanted in (("552 5.2.2 full", "552 5.2.2"), ("452 4.3.1 later", "452 4.3.1")):
        with Sink(Script(end=end)) as sink:
            assert status(send(dns, sink, message, "a@direct.example")) == [wanted]


def test_greeting_that_refuses_is_temporary(dns: DnsServer, message: Path) -> None:
    with Sink(Script(greeting="554 no mail here")) as sink:
        assert status(send(dns, sink, message, "a@direct.example")) == ["451 4.4.0"]


def test_old_server(dns: DnsServer, message: Path) -> None:
    with Sink(Script(replies={"EHLO": "500 what"})) as sink:
        assert status(send(dns, sink, message, "a@direct.example")) == ["250 2.0.0"]
        assert sink.got[0].mail == "MAIL FROM:<from@us.example>"


def test_what_the_next_server_cannot(dns: DnsServer, message: Path) -> None:
    with Sink(Script(keywords=["SIZE 10"])) as sink:
        assert status(send(dns, sink, message, "a@direct.example")) == ["552 5.3.4"]
        assert status(send(dns, sink, message, "ü@direct.example")) == ["553 5.6.7"]
        assert not any(line.startswith("MAIL") for line in sink.lines)


def test_dsn_parameters_go_along(dns: DnsServer, message: Path) -> None:
    envelope = Envelope("id", "from@us.example", ret="HDRS", envid="a+b")
    recipients = [Recipient("a@direct.example", notify="SUCCESS,DELAY", orcpt="rfc822;x+y@z")]
    with Sink(Script(keywords=["DSN"])) as sink:
        (outcome,) = send(dns, sink, message, envelope=envelope, recipients=recipients)
        assert outcome.dsn
        assert sink.got[0].mail == "MAIL FROM:<from@us.example> RET=HDRS ENVID=a+2Bb"
        assert sink.got[0].rcpts == ["RCPT TO:<a@direct.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@z"]
    with Sink() as sink:
        send(dns, sink, message, envelope=envelope, recipients=recipients)
        assert sink.got[0].rcpts == ["RCPT TO:<a@direct.example>"]


def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_opportunistic_tls(dns: DnsServer, message: Path, certificate: tuple[Path, Path]) -> None:
    with Sink(Script(tls=server_context(certificate))) as sink:
        assert status(send(dns, sink, message, "a@direct.example")) == ["250 2.0.0"]
        assert sink.got[0].tls
    broken = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate every handshake fails
    with Sink(Script(tls=broken)) as sink:
        assert status(send(dns, sink, message, "a@direct.example")) == ["250 2.0.0"]
        assert not sink.got[0].tls


def test_relay_host_with_login(dns: DnsServer, message: Path, certificate: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    with Sink(Script(keywords=["AUTH PLAIN"], tls=server_context(certificate))) as sink:
        host = RelayHost("localhost", sink.port, "us", Secret(b"secret"))
        assert status(send(dns, sink, message, "a@far.example", relay_host=host, context=trusting)) == ["250 2.0.0"]
        assert sink.got[0].tls
        assert sink.got[0].user.startswith("AUTH PLAIN ")
        # a certificate that nobody vouches for: no password, no mail, no bounce
        assert status(send(dns, sink, message, "a@far.example", relay_host=host)) == ["451 4.7.5"]
        assert len(sink.got) == 1
    with Sink(Script(keywords=["AUTH PLAIN"])) as sink:
        host = RelayHost("localhost", sink.port, "us", Secret(b"secret"))
        assert status(send(dns, sink, message, "a@far.example", relay_host=host)) == ["451 4.7.5"]
        assert not any(line.startswith("AUTH") for line in sink.lines)


@pytest.mark.parametrize(
    "octets", [b"", b".", b".\r\n", b"a\r\n.\r\n", b"a\r\n..b\r\n", b"a", b"a\n.b\r\n", b"a\r", b"a\r\n.", b"\r\n" * 3]
)
def test_stuffing_both_ways(tmp_path: Path, octets: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailserver.delivery.queue import transfer
    from mailserver.smtp.data import DotReader

    path = tmp_path / "m"
    path.write_bytes(octets)
    for size in (1, 2, 3, 1000):
        monkeypatch.setattr(transfer, "_CHUNK", size)
        reader = DotReader()
        found = b"".join(reader.feed(piece) for piece in stuffed(str(path)))
        assert reader.done
        assert not reader.rest
        assert found == (octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n")
