"""What a sender may ask for beside delivery: honoured here, passed on, or refused; each extension by real sessions."""

from __future__ import annotations

import base64
import email
import re
import smtplib
import sqlite3
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from mailserver.delivery.queue.scheduler import Timing
from mailserver.delivery.queue.spool import Spool
from mailserver.mail import structure
from tests.unit.delivery.peers import Records, Script, Sink
from tests.unit.delivery.test_queue import RECORDS, relaying, report, spool_of, submit, wait
from tests.unit.smtp.serving import Client, Server, messages, serving, stripped

ALL = ["DELIVERBY", "MT-PRIORITY", "DSN", "CHUNKING", "BINARYMIME", "8BITMIME", "PIPELINING"]
QUICK = Timing(first=0.05, longest=0.1)
TLS_RECORDS: Records = RECORDS | {
    ("tls.example", "MX"): ["10 localhost."],
    ("far.example", "MX"): ["10 localhost."],
}
BINARY = bytes(range(256)) * 20
BINARY_MESSAGE = (
    b'Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
    b"Content-Transfer-Encoding: binary\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa4\r\n--b\r\nContent-Type: image/x\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\n" + BINARY + b"\r\n--b--\r\n"
)


def words(client: Client) -> dict[str, str]:
    return dict((line[4:] + " ").split(" ", 1) for line in client.capabilities.splitlines()[1:])


def contents(octets: bytes) -> list[bytes]:
    return [structure.decoded_body(octets, part) for part in structure.parse(octets).children]


# -- announced, and only then understood


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("SIZE", "smtp", "MAIL FROM:<> SIZE=1"),
        ("8BITMIME", "smtp", "MAIL FROM:<> BODY=8BITMIME"),
        ("BINARYMIME", "smtp", "MAIL FROM:<> BODY=BINARYMIME"),
        ("SMTPUTF8", "smtp", "MAIL FROM:<> SMTPUTF8"),
        ("DSN", "smtp", "MAIL FROM:<> RET=HDRS"),
        ("DELIVERBY", "smtp", "MAIL FROM:<> BY=60;N"),
        ("MT-PRIORITY", "smtp", "MAIL FROM:<> MT-PRIORITY=1"),
        ("CHUNKING", "smtp", "BDAT 0 LAST"),
        ("HELP", "smtp", "HELP"),
        ("VRFY", "smtp", "VRFY alice"),
        ("EXPN", "smtp", "EXPN list"),
        ("FUTURERELEASE", "submission", "MAIL FROM:<alice@example.com> HOLDFOR=1"),
    ],
)
def test_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, line: str) -> None:
    with Sink() as sink:
        with relaying(tmp_path / "on", sink, monkeypatch, kind=kind) as server, Client(server) as client:
            _log_in(client, kind)
            assert name in words(client) or name in ("VRFY", "EXPN")
            assert client.say(line)[0] == ("5" if name == "CHUNKING" else "2")
        monkeypatch.undo()
        off = {"disabled_extensions": (name,)}
        with relaying(tmp_path / "off", sink, monkeypatch, kind=kind, own=off) as server, Client(server) as client:
            _log_in(client, kind)
            assert name not in words(client)
            assert client.say(line)[:3] in ("555", "502")
            assert client.say("NOOP").startswith("250 2.0.0")


def _log_in(client: Client, kind: str) -> None:
    if kind == "submission":
        token = base64.b64encode(b"\0alice\0secret").decode()
        assert client.say(f"AUTH PLAIN {token}").startswith("235")


def test_without_a_queue_nothing_is_promised(tmp_path: Path) -> None:
    off = ("ENHANCEDSTATUSCODES", "CHUNKING", "LIMITS")
    with serving(tmp_path, disabled_extensions=off) as server, Client(server) as client:
        assert not {"DELIVERBY", "MT-PRIORITY", "FUTURERELEASE", "REQUIRETLS", "DSN"} & set(words(client))
        assert not {"BINARYMIME", "LIMITS", "ENHANCEDSTATUSCODES"} & set(words(client))
        assert client.say("MAIL FROM:<> BY=60;R").startswith("555 BY is not known")
        assert client.say("NOOP") == "250 OK"


# -- BINARYMIME: RFC 3030 section 3


def send_binary(server: Server, *recipients: str, message: bytes = BINARY_MESSAGE, pieces: int = 1) -> str:
    with Client(server) as client:
        assert client.say("MAIL FROM:<alice@example.com> BODY=BINARYMIME RET=FULL").startswith("250")
        for recipient in recipients:
            assert client.say(f"RCPT TO:<{recipient}>").startswith("250")
        step = -(-len(message) // pieces)
        for start in range(0, len(message), step):
            piece = message[start : start + step]
            last = b" LAST" if start + step >= len(message) else b""
            client.send(b"BDAT %d%b\r\n" % (len(piece), last) + piece)
            reply = client.reply()
        return reply


def test_binary_here_and_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink(Script(keywords=ALL)) as sink, relaying(tmp_path, sink, monkeypatch) as server:
        assert send_binary(server, "bob@example.com", "a@far.example", pieces=7).startswith("250")
        (got,) = sink.wait(1)
        assert "BODY=BINARYMIME" in got.mail
        assert stripped(got.octets) == BINARY_MESSAGE
        assert f"BDAT {len(got.octets)} LAST" in sink.lines
        (kept,) = messages(server, "bob")
    assert contents(kept) == ["ä".encode(), BINARY]
    assert b"\0" not in kept
    assert kept.count(b"\n") == kept.count(b"\r\n")


@pytest.mark.parametrize(("keywords", "body"), [(["8BITMIME", "CHUNKING"], "BODY=8BITMIME"), (["BINARYMIME"], "")])
def test_binary_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keywords: list[str], body: str) -> None:
    with Sink(Script(keywords=keywords)) as sink, relaying(tmp_path, sink, monkeypatch) as server:
        send_binary(server, "a@far.example")
        (got,) = sink.wait(1)
        wait(lambda: spool_of(server).count() == 0)
    assert got.mail.endswith(body if body else "example.com>")
    assert contents(got.octets) == ["ä".encode(), BINARY]
    assert b"\0" not in got.octets
    assert bool(body) != got.octets.isascii()


@pytest.mark.parametrize("keywords", [["8BITMIME"], ["8BITMIME", "CHUNKING"], []])
def test_binary_cannot_smuggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keywords: list[str]) -> None:
    """Bare LF in a header, between parts and in an encoded part: the next server sees lines, and one message."""
    end = b"\n.\nMAIL FROM:<evil@x>\n"
    message = (
        b"Subject: x" + end + b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble" + end
    )
    message += b"\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA" + end + b"\r\n--b--\r\nepilogue" + end
    with Sink(Script(keywords=keywords)) as sink, relaying(tmp_path, sink, monkeypatch) as server:
        send_binary(server, "a@far.example", message=message)
        (got,) = sink.wait(1)
        wait(lambda: spool_of(server).count() == 0)
        assert len(sink.got) == 1
    assert got.octets.count(b"\n") == got.octets.count(b"\r\n")
    assert got.octets.count(b"MAIL FROM:<evil@x>") == 4


def test_what_cannot_be_converted_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink(Script(keywords=[])) as sink, relaying(tmp_path, sink, monkeypatch) as server:
        send_binary(server, "a@far.example", message=b"Subject: \xe4\r\n\r\n\xe4\r\n")
        _, fields = report(wait(lambda: messages(server))[0])
        assert fields["status"] == "5.6.3"
        assert not sink.got


def test_data_is_not_for_binary(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server) as client:
        client.say("MAIL FROM:<> BODY=BINARYMIME")
        client.say("RCPT TO:<alice@example.com>")
        assert client.say("DATA").startswith("503 5.5.1")
        client.send(b"BDAT 1 LAST\r\nx")
        assert client.reply().startswith("503 5.5.1")
        assert client.say("RSET").startswith("250")
        assert messages(server) == []


def test_a_binary_mailbox_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "mail" / "bob"
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch, QUICK) as server:
        blocker.parent.mkdir(exist_ok=True)
        blocker.write_text("in the way")
        assert send_binary(server, "alice@example.com", "bob@example.com").startswith("250")
        blocker.unlink()
        (kept,) = wait(lambda: messages(server, "bob"))
        assert contents(kept) == contents(messages(server)[0]) == ["ä".encode(), BINARY]


# -- 8BITMIME: RFC 6152 section 3


def test_eight_bits_become_seven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Subject: x\r\n\r\nschön = 1 \r\n.punkt\r\n".encode()
    with Sink(Script(keywords=["PIPELINING"])) as sink, relaying(tmp_path, sink, monkeypatch) as server:
        submit(server, "a@far.example", text=text.replace(b"\r\n.", b"\r\n.."))
        (got,) = sink.wait(1)
    assert got.octets.isascii()
    assert got.octets.startswith(b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n")
    assert email.message_from_bytes(got.octets).get_payload(decode=True) == text.partition(b"\r\n\r\n")[2]


# -- DELIVERBY: RFC 2852


def test_deliverby_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink(Script(keywords=["DELIVERBY 10"])) as sink, relaying(tmp_path, sink, monkeypatch) as server:
        submit(server, "a@far.example", sender="<alice@example.com> BY=120;R")
        (got,) = sink.wait(1)
        found = re.search(r" BY=(\d+);R$", got.mail)
        assert found is not None
        assert 110 <= int(found[1]) <= 120
        submit(server, "a@far.example", sender="<alice@example.com> BY=5;R")
        _, fields = report(wait(lambda: messages(server))[0])
        assert fields["status"] == "5.4.7"
        submit(server, "a@far.example", sender="<alice@example.com> BY=5;NT")  # every hop is told
        assert " BY=" in sink.wait(2)[1].mail
        assert report(wait(lambda: messages(server)[1:])[0])[1]["action"] == "relayed"


def test_deliverby_where_it_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink(Script(keywords=[])) as sink, relaying(tmp_path, sink, monkeypatch) as server:
        submit(server, "a@far.example", sender="<alice@example.com> BY=120;R")
        assert report(wait(lambda: messages(server))[0])[1]["status"] == "5.4.7"
        assert not sink.got
        submit(server, "b@far.example", "<c@far.example> NOTIFY=NEVER", sender="<alice@example.com> BY=120;N")
        _, fields = report(wait(lambda: messages(server)[1:])[0])
        assert (fields["action"], fields["final-recipient"]) == ("relayed", "rfc822; b@far.example")
        assert "BY=" not in sink.got[0].mail


@pytest.mark.parametrize(("mode", "action"), [("R", "failed"), ("N", "delayed")])
def test_deliverby_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, action: str) -> None:
    script = Script(keywords=["DELIVERBY"], end="451 4.3.0 later")
    with Sink(script) as sink, relaying(tmp_path, sink, monkeypatch, Timing(first=0.1, longest=60)) as server:
        submit(server, "a@far.example", sender=f"<alice@example.com> BY=1;{mode}")
        _, fields = report(wait(lambda: messages(server))[0])
        assert fields["action"] == action
        assert (fields["status"] == "5.4.7") == (mode == "R")
        waits = spool_of(server).count()
        assert waits == (1 if mode == "N" else 0) or wait(lambda: spool_of(server).count() == 0)


# -- FUTURERELEASE: RFC 4865


def test_held_until_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch, kind="submission") as server:
        with Client(server) as client:
            _log_in(client, "submission")
            assert re.match(r"2592000 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", words(client)["FUTURERELEASE"])
            for line, reply in (
                ("HOLDFOR=9999999", "501 5.5.4"),
                ("HOLDUNTIL=2099-01-01T00:00:00Z", "501 5.5.4"),
                ("HOLDFOR=60 BY=60;R", "501 5.5.4"),
                ("HOLDFOR=1", "250 2.1.0"),
            ):
                assert client.say(f"MAIL FROM:<alice@example.com> {line}").startswith(reply), line
            begun = time.time()
            for recipient in ("bob@example.com", "a@far.example"):
                client.say(f"RCPT TO:<{recipient}>")
            client.say("DATA")
            client.send(b"Subject: later\r\n\r\n.\r\n")
            assert client.reply().startswith("250")
        (waiting,) = spool_of(server).all()
        assert min(w.due for w in waiting.waiting) >= begun + 0.9
        assert not sink.got
        assert not messages(server, "bob")
        sink.wait(1)
        assert time.time() >= begun + 0.9
        wait(lambda: messages(server, "bob"))


# -- MT-PRIORITY: RFC 6710


def test_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(keywords=["MT-PRIORITY"], replies={"EHLO": "421 4.3.2 not yet", "HELO": "421 4.3.2 not yet"})
    with Sink(script) as sink, relaying(tmp_path, sink, monkeypatch, Timing(first=30, per_destination=1)) as server:
        for priority in (-3, 4, 9):
            submit(server, f"p{priority}@far.example", sender=f"<alice@example.com> MT-PRIORITY={priority}")
        wait(lambda: all(w.attempts for m in spool_of(server).all() for w in m.waiting))
        script.replies.clear()
        spool = spool_of(server)
        names = [message.envelope.id for message in spool.all()]
        with spool._transaction() as db:  # all at the same instant
            db.execute("update recipient set due = 1")
        spool.on_new()
        sink.wait(3)
        assert len(names) == 3
    assert [got.rcpts[0] for got in sink.got] == [f"RCPT TO:<p{n}@far.example>" for n in (9, 4, -3)]
    assert sink.got[0].mail.endswith(" MT-PRIORITY=9")
    assert b"\r\n\tpriority 9\r\n" in sink.got[0].octets


def test_strangers_get_no_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"trusted_networks": ()}
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch, own=own) as server, Client(server) as client:
        assert client.say("MAIL FROM:<x@y.example> MT-PRIORITY=5").startswith("250 2.3.6 0 ")
        client.say("RSET")
        assert client.say("MAIL FROM:<x@y.example> MT-PRIORITY=-5").startswith("250 2.1.0")


# -- REQUIRETLS: RFC 8689


class Secure:
    """A submission client over TLS."""

    def __init__(self, server: Server, certificate: tuple[Path, Path]) -> None:
        self.smtp = smtplib.SMTP("localhost", server.port, timeout=10)
        self.smtp.starttls(context=ssl.create_default_context(cafile=str(certificate[0])))
        self.smtp.ehlo("x")

    def send(self, recipient: str, options: Sequence[str], text: str = "Subject: x\r\n\r\nsecret\r\n") -> None:
        with self.smtp:
            self.smtp.sendmail("alice@example.com", [recipient], text, mail_options=options)


def server_context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.mark.parametrize(
    ("keywords", "tls", "validated", "trusted", "status"),
    [
        (["REQUIRETLS"], True, True, True, ""),
        ([], True, True, True, "5.7.30"),
        (["REQUIRETLS"], False, True, True, "5.7.10"),
        (["REQUIRETLS"], True, False, True, "5.7.10"),
        (["REQUIRETLS"], True, True, False, "5.7.10"),
    ],
    ids=["honoured", "not-known-there", "no-tls", "no-dnssec", "certificate"],
)
def test_requiretls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    certificate: tuple[Path, Path],
    keywords: list[str],
    tls: bool,
    validated: bool,
    trusted: bool,
    status: str,
) -> None:
    script = Script(keywords=["8BITMIME"], secure_keywords=["8BITMIME", *keywords])
    script.tls = server_context(certificate) if tls else None
    context = ssl.create_default_context(cafile=str(certificate[0]) if trusted else None)
    with (
        Sink(script) as sink,
        relaying(
            tmp_path,
            sink,
            monkeypatch,
            certificate=certificate,
            records=TLS_RECORDS,
            validated=validated,
            relay={"context": context},
        ) as server,
    ):
        with Client(server) as client:  # in clear it is neither announced nor taken
            assert "REQUIRETLS" not in words(client)
            assert client.say("MAIL FROM:<> REQUIRETLS").startswith("555 5.5.4")
        client_tls = Secure(server, certificate)
        assert client_tls.smtp.has_extn("requiretls")
        client_tls.send("a@tls.example", ["REQUIRETLS", "RET=FULL"])
        if not status:
            (got,) = sink.wait(1)
            assert got.tls
            assert got.mail.endswith(" REQUIRETLS")
            return
        octets = wait(lambda: messages(server))[0]
        assert report(octets)[1]["status"] == status
        assert b"secret" not in octets  # RFC 8689 section 5: the header only
        assert not sink.got


def test_the_report_about_requiretls_asks_for_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]
) -> None:
    script = Script(keywords=[], secure_keywords=["REQUIRETLS"], replies={"RCPT TO:<no@": "550 5.1.1 nobody"})
    script.tls = server_context(certificate)
    context = ssl.create_default_context(cafile=str(certificate[0]))
    options = {"certificate": certificate, "records": TLS_RECORDS, "validated": True, "relay": {"context": context}}
    with Sink(script) as sink, relaying(tmp_path, sink, monkeypatch, **options) as server:  # type: ignore[arg-type]
        client = Secure(server, certificate)
        with client.smtp as smtp:
            smtp.sendmail("back@far.example", ["no@tls.example"], "Subject: x\r\n\r\nsecret\r\n", ["REQUIRETLS"])
        (got,) = sink.wait(1)
        assert re.match(r"MAIL FROM:<> .*REQUIRETLS", got.mail)
        # and where it is not known the report goes all the same
        sink.wait_line("QUIT", 2)
        script.secure_keywords = ["8BITMIME"]
        client = Secure(server, certificate)
        with client.smtp as smtp:
            smtp.sendmail("back@far.example", ["no@tls.example"], "Subject: x\r\n\r\nsecret\r\n", ["REQUIRETLS"])
        assert "REQUIRETLS" not in sink.wait(2)[1].mail


@pytest.mark.parametrize("optional", [True, False])
def test_tls_required_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optional: bool) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch, QUICK, relay={"tls": "required"}) as server:
        field = b"TLS-Required: No\r\n" if optional else b""
        submit(server, "a@far.example", text=field + b"Subject: x\r\n\r\nhi\r\n")
        if optional:
            sink.wait(1)
            return
        (waiting,) = wait(lambda: [m for m in spool_of(server).all() if m.waiting[0].last])
        assert "4.7.5" in str(waiting.waiting[0].last)
        assert not sink.got


@pytest.mark.parametrize("binary", [False, True])
def test_what_was_held_comes_once_though_its_end_was_not_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binary: bool
) -> None:
    settle, failures = Spool.settle, [1, 2]

    def failing(this: Spool, *arguments: object) -> bool:
        if failures:
            failures.pop()
            raise sqlite3.OperationalError("killed")
        return settle(this, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Spool, "settle", failing)
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch, kind="submission") as server:
        with Client(server) as client:
            _log_in(client, "submission")
            client.say(f"MAIL FROM:<alice@example.com> HOLDFOR=1{' BODY=BINARYMIME' if binary else ''}")
            client.say("RCPT TO:<bob@example.com>")
            client.say("RCPT TO:<carol@other.example>")
            octets = BINARY_MESSAGE if binary else b"Subject: x\r\n\r\nhi\r\n"
            client.send(b"BDAT %d LAST\r\n" % len(octets) + octets)
            assert client.reply().startswith("250")
        spool = spool_of(server)
        wait(lambda: not failures)
        wait(lambda: spool.count() == 0)
        assert len(messages(server, "bob")) == len(messages(server, "carol@other.example")) == 1
