"""One connection for many messages; pipelining and BDAT; the next host; what a bad server can do to us."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailserver.delivery.queue.client import Broken, Client
from mailserver.delivery.queue.relay import Relay, RelayHost, Way
from mailserver.delivery.queue.resolver import Resolver
from mailserver.delivery.target import Envelope, Recipient
from tests.unit.delivery.peers import DnsServer, Records, Script, Sink

RECORDS: Records = {
    ("two.example", "MX"): ["10 first.two.example.", "20 second.two.example."],
    ("first.two.example", "A"): ["127.0.0.1"],
    ("second.two.example", "A"): ["127.0.0.2"],
    ("both.example", "AAAA"): ["::1"],
    ("both.example", "A"): ["127.0.0.1"],
    ("six.example", "AAAA"): ["::1"],
    ("alias.example", "CNAME"): ["real.example."],
    ("real.example", "MX"): ["10 mxalias.example."],
    ("mxalias.example", "CNAME"): ["host.example."],
    ("host.example", "A"): ["127.0.0.1"],
    ("xn--bcher-kva.example", "A"): ["127.0.0.1"],
    ("tls.example", "MX"): ["10 localhost."],
}
MESSAGE = b"Subject: x\r\n\r\n.dot\r\n"


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    with DnsServer(RECORDS) as server:
        yield server


class Sender:
    """A way to ``two.example``, or where a test wants, with the message."""

    def __init__(self, dns: DnsServer, folder: Path, port: int, **options: object) -> None:
        self.path = folder / "message"
        self.path.write_bytes(MESSAGE)
        self.relay = Relay(
            "us.example",
            Resolver(["us.example"], dns.resolver()),
            port=port,
            connect_seconds=5,
            reply_seconds=5,
            **options,  # type: ignore[arg-type]
        )
        self.way: Way | None = None

    def send(self, *addresses: str, destination: str = "host.example", **envelope: object) -> list[str]:
        if self.way is None:
            self.way = self.relay.way(destination)
        made = Envelope("id", str(envelope.pop("sender", "from@us.example")), **envelope)  # type: ignore[arg-type]
        size = self.path.stat().st_size
        recipients = [Recipient(a) for a in addresses or ("a@host.example",)]
        outcomes = self.way.deliver(made, str(self.path), size, recipients)
        return [f"{outcome.status.code} {outcome.status.enhanced}" for outcome in outcomes]


@pytest.fixture
def sender(dns: DnsServer, tmp_path: Path) -> Iterator[Callable[..., Sender]]:
    made: list[Sender] = []

    def make(port: int, **options: object) -> Sender:
        made.append(Sender(dns, tmp_path, port, **options))
        return made[-1]

    yield make
    for one in made:
        if one.way is not None:
            one.way.close()


Make = Callable[..., Sender]


def test_one_connection_for_many_messages(sender: Make) -> None:
    with Sink() as sink:
        made = sender(sink.port)
        for _ in range(5):
            assert made.send() == ["250 2.0.0"]
        assert sink.connections == 1
        assert len(sink.got) == 5
        assert made.way is not None
        made.way.close()
        sink.wait_line("QUIT")


@pytest.mark.parametrize("keywords", [["PIPELINING"], ["CHUNKING"], ["PIPELINING", "CHUNKING"], []])
def test_a_refused_message_does_not_spoil_the_next(sender: Make, keywords: list[str]) -> None:
    with Sink(Script(keywords=keywords, replies={"RCPT TO:<no@": "550 5.1.1 nobody"})) as sink:
        made = sender(sink.port)
        assert made.send("no@host.example") == ["550 5.1.1"]
        assert made.send("yes@host.example", "no@host.example") == ["250 2.0.0", "550 5.1.1"]
        sink.script.replies["MAIL"] = "451 4.3.0 later"
        assert made.send("a@host.example", "b@host.example") == ["451 4.3.0"] * 2
        del sink.script.replies["MAIL"]
        assert made.send() == ["250 2.0.0"]
        assert sink.connections == 1
        assert [got.octets for got in sink.got] == [MESSAGE] * 2
        assert ("BDAT 20 LAST" in sink.lines) == ("CHUNKING" in keywords)


def test_limits_of_the_server(sender: Make) -> None:
    with Sink(Script(keywords=["PIPELINING", "LIMITS RCPTMAX=2 MAILMAX=3"])) as sink:
        made = sender(sink.port)
        assert made.send(*(f"r{n}@host.example" for n in range(5))) == ["250 2.0.0"] * 5
        assert [len(got.rcpts) for got in sink.got] == [2, 2, 1]
        for _ in range(5):
            made.send()
        assert sink.connections > 1


def test_a_connection_that_has_gone_is_made_again(sender: Make) -> None:
    with Sink() as sink:
        made = sender(sink.port)
        made.send()
        sink.script.replies["RSET"] = sink.script.replies["MAIL FROM:<stale"] = "hang up"
        assert made.send(sender="stale@us.example") == ["451 4.4.2"]  # the new one hangs up as well
        sink.script.replies.clear()
        assert made.send() == ["250 2.0.0"]
        sink.script.replies["MAIL"] = "421 4.3.2 enough"
        assert made.send() == ["421 4.3.2"]
        sink.script.replies.clear()
        assert made.send() == ["250 2.0.0"]
        assert len(sink.got) == 3


def test_next_host_after_a_bad_greeting(sender: Make) -> None:
    with Sink(Script(greeting="450 4.3.2 not now")) as first, Sink(address="127.0.0.2", port=first.port) as second:
        assert sender(first.port).send("a@two.example", destination="two.example") == ["250 2.0.0"]
        assert first.connections == 1
        assert len(second.got) == 1


def test_no_next_host_when_the_first_may_have_it(sender: Make) -> None:
    with Sink(Script(end="2 lost")) as first, Sink(address="127.0.0.2", port=first.port) as second:
        assert sender(first.port).send("a@two.example", destination="two.example") == ["451 4.4.2"]
        assert len(first.got) == 1
        assert not second.got


def test_cname_and_both_families(sender: Make) -> None:
    with Sink() as sink:
        made = sender(sink.port)
        for domain in ("alias.example", "both.example"):  # nobody listens on ::1: the IPv4 address is next
            made.way = None
            assert made.send(f"a@{domain}", destination=domain) == ["250 2.0.0"]
            assert made.way is not None
            made.way.close()


def test_ipv6(sender: Make) -> None:
    try:
        sink = _Sink6("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with sink:
        assert sender(sink.port).send("a@six.example", destination="six.example") == ["250 2.0.0"]


class _Sink6(Sink):
    address_family = socket.AF_INET6

    def __init__(self, address: str) -> None:
        super().__init__(None, address)


def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.mark.parametrize(
    ("tls", "offered", "trusted", "wanted"),
    [
        ("opportunistic", False, False, "250 2.0.0"),
        ("required", False, False, "451 4.7.5"),
        ("required", True, False, "250 2.0.0"),
        ("verified", True, False, "451 4.7.5"),
        ("verified", True, True, "250 2.0.0"),
    ],
)
def test_tls_policy(
    sender: Make, certificate: tuple[Path, Path], tls: str, offered: bool, trusted: bool, wanted: str
) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]) if trusted else None)
    with Sink(Script(tls=server_context(certificate) if offered else None)) as sink:
        made = sender(sink.port, tls=tls, context=context)
        assert made.send("a@tls.example", destination="tls.example") == [wanted]
        assert [got.tls for got in sink.got] == ([offered] if wanted.startswith("2") else [])


def test_relay_host_with_required_tls(sender: Make, certificate: tuple[Path, Path]) -> None:
    with Sink() as sink:
        assert sender(sink.port, relay_host=RelayHost("localhost", sink.port, tls="required")).send() == ["451 4.7.5"]
        sink.script.tls = server_context(certificate)
        assert sender(sink.port, relay_host=RelayHost("localhost", sink.port, tls="required")).send() == ["250 2.0.0"]
        assert sink.got[0].tls


def test_login_where_only_login_is_offered(sender: Make, certificate: tuple[Path, Path]) -> None:
    from mailserver.auth.secret import Secret

    context = ssl.create_default_context(cafile=str(certificate[0]))
    script = Script(
        keywords=["AUTH LOGIN"], replies={"AUTH LOGIN": "334 VXNlcm5hbWU6"}, tls=server_context(certificate)
    )
    script.replies |= {"dXM=": "334 UGFzc3dvcmQ6", "c2VjcmV0": "235 2.7.0 in"}
    with Sink(script) as sink:
        host = RelayHost("localhost", sink.port, "us", Secret(b"secret"))
        assert sender(sink.port, relay_host=host, context=context).send() == ["250 2.0.0"]
        sink.script.replies["c2VjcmV0"] = "535 5.7.8 wrong"
        assert sender(sink.port, relay_host=host, context=context).send() == ["451 4.7.8"]


def test_domains_are_spelt_in_ascii_where_smtputf8_is_missing(sender: Make) -> None:
    with Sink(Script(keywords=[])) as sink:
        made = sender(sink.port)
        found = made.send("a@bücher.example", sender="x@bücher.example", utf8=True, destination="bücher.example")
        assert found == ["250 2.0.0"]
        assert sink.got[0].mail == "MAIL FROM:<x@xn--bcher-kva.example>"
        assert sink.got[0].rcpts == ["RCPT TO:<a@xn--bcher-kva.example>"]
        assert made.send("ä@bücher.example") == ["553 5.6.7"]
        made.path.write_bytes("Subject: ä\r\n\r\n".encode())
        assert made.send("a@bücher.example") == ["553 5.6.7"]


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                try:
                    talk(sock)
                except OSError:
                    pass  # we hung up: that is what is tested

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(20)


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"220-x\r\n" * 20000, "this is no SMTP"),
        (b"x" * 200000, "endless line"),
        (b"hello\r\n", "this is no SMTP"),
        (b"220-x\r\n999 x\r\n", "this is no SMTP"),
        (b"", "hung up"),
    ],
)
def test_nonsense_ends_the_connection(octets: bytes, text: str) -> None:
    with talking(lambda sock: sock.sendall(octets)) as port:
        client = Client("x", socket.create_connection(("127.0.0.1", port)), 5)
        with pytest.raises(Broken, match=text):
            client.reply()
        client.close()


def test_dripping_is_no_reply() -> None:
    def drip(sock: socket.socket) -> None:
        stop = threading.Event()
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(b"2")
                stop.wait(0.02)

    with talking(drip) as port:
        client = Client("x", socket.create_connection(("127.0.0.1", port)), 0.3)
        with pytest.raises(Broken, match="timed out"):
            client.reply()
        client.close()


def test_octets_in_clear_behind_starttls(sender: Make, certificate: tuple[Path, Path]) -> None:
    def talk(sock: socket.socket) -> None:
        sock.sendall(b"220 x\r\n")
        sock.recv(1000)
        sock.sendall(b"250-x\r\n250 STARTTLS\r\n")
        sock.recv(1000)
        sock.sendall(b"220 go\r\n250 forged\r\n")
        sock.recv(1000)

    with talking(talk) as port:
        assert sender(port, tls="required").send() == ["451 4.7.5"]


def test_a_server_that_refuses_within_the_data_is_heard(sender: Make) -> None:
    def talk(sock: socket.socket) -> None:
        file = sock.makefile("rb")
        sock.sendall(b"220 x\r\n")
        for line in file:
            if line.startswith(b"EHLO"):
                sock.sendall(b"250-x\r\n250 CHUNKING\r\n")
            elif line.startswith(b"BDAT"):
                sock.sendall(b"552 5.3.4 too big\r\n")
                sock.shutdown(socket.SHUT_RDWR)
                break
            else:
                sock.sendall(b"250 ok\r\n")
        file.close()

    with talking(talk) as port:
        made = sender(port)
        made.path.write_bytes(b"Subject: x\r\n\r\n" + b"y" * 8_000_000)
        assert made.send()[0] in ("552 5.3.4", "451 4.4.2")  # a reset may take the reply away from us
