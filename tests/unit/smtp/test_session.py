"""What a transcript cannot say: octets in the store, memory, faults, limits, the end of the server."""

from __future__ import annotations

import re
import smtplib
import ssl
import tracemalloc
from pathlib import Path

import pytest

from mailserver import SmtpConfig, SmtpServer
from mailserver.config.schema import DeliveryConfig, LimitsConfig
from mailserver.delivery.local import LocalDelivery
from mailserver.delivery.target import Status
from mailserver.ops import metrics
from mailserver.smtp import replies
from mailserver.smtp.context import LMTP, SMTP, SUBMISSION
from mailserver.smtp.replies import encode
from mailserver.smtp.table import table_of
from mailserver.smtp.trace import Trace, protocol_name, received
from tests.messages import corpus
from tests.unit.smtp.serving import Client, Server, bodies, messages, serving, stripped


def wire(message: bytes) -> bytes:
    """The message with dots doubled and its end, for DATA; line ends as they are."""
    return (
        (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]
        + (b"" if message.endswith(b"\r\n") else b"\r\n")
        + b".\r\n"
    )


def kept(message: bytes) -> bytes:
    """What the store must have: bare LF became CRLF, the last line ended."""
    text = message if message.endswith(b"\r\n") else message + b"\r\n"  # as DATA needs it
    return re.sub(rb"(?<!\r)\n", b"\r\n", text)


@pytest.mark.parametrize("chunked", [False, True])
def test_corpus_octet_for_octet(tmp_path: Path, chunked: bool) -> None:
    texts = [text for text in corpus() if b"eturn-" not in text[:20000] and re.match(rb"[!-9;-~]+[ \t]*:", text)]
    assert len(texts) > 30
    with serving(tmp_path) as server, Client(server) as client:
        for text in texts:
            client.begin()
            if chunked:
                client.send(b"BDAT %d LAST\r\n" % len(text) + text)
            else:
                assert client.say("DATA").startswith("354")
                client.send(wire(text))
            assert client.reply().startswith("250"), text[:100]
        stored = bodies(server)
    for text, found in zip(texts, stored, strict=True):
        wanted = kept(text) if not chunked else re.sub(rb"(?<!\r)\n", b"\r\n", text)
        assert found == wanted


def test_return_path_of_the_client_goes(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server) as client:
        client.begin()
        client.say("DATA")
        client.send(b"Return-Path: <x@y>\r\n\tfolded\r\nA: b\r\nReturn-path: <>\r\n\r\nReturn-Path: stays\r\n.\r\n")
        assert client.reply().startswith("250")
        (message,) = messages(server)
    assert message.startswith(
        b"Return-Path: <sender@elsewhere.example>\r\nDelivered-To: alice@example.com\r\nReceived: from "
    )
    assert stripped(message) == b"A: b\r\n\r\nReturn-Path: stays\r\n"


@pytest.mark.parametrize("text", [b"", b"no header\r\n", b"\r\nbody\r\n", b"Subject: x\r\n", b"only: header\r\n\r\n"])
def test_messages_without_much_of_a_header(tmp_path: Path, text: bytes) -> None:
    with serving(tmp_path) as server, Client(server) as client:
        client.begin()
        client.say("DATA")
        client.send(wire(text) if text else b".\r\n")
        assert client.reply().startswith("250")
        (body,) = bodies(server)
    assert body in (text, b"\r\n" + text)


def test_several_users_share_one_file(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server) as client:
        client.begin()
        for recipient in ("bob@example.com", "alice+x@example.com", "carol@other.example"):
            assert client.say(f"RCPT TO:<{recipient}>").startswith("250")
        client.say("DATA")
        client.send(b"Subject: all\r\n\r\nhi\r\n.\r\n")
        assert client.reply().startswith("250")
        for user in ("alice", "bob", "carol@other.example"):
            (message,) = messages(server, user)
            assert b"Delivered-To" not in message
            assert b"\r\n\tfor <" not in message
        links = {path.stat().st_nlink for path in (tmp_path / "mail").rglob("new/*")}
        assert links == {3}
        assert not list((tmp_path / "mail").rglob("tmp/*"))


def test_refused_message_leaves_nothing(tmp_path: Path) -> None:
    size = 3 << 20
    with serving(tmp_path, max_message_size=1 << 20) as server, Client(server) as client:
        client.begin()
        client.say("DATA")
        tracemalloc.start()
        try:
            for _ in range(size // 64000):
                client.send((b"x" * 998 + b"\r\n") * 64)
            client.send(b".\r\n")
            assert client.reply() == "552 5.3.4 Message too big"
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2 << 20
        assert client.say("NOOP").startswith("250")
        assert messages(server) == []
        assert not list((tmp_path / "mail").rglob("tmp/*"))


def test_lost_connection_within_data_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with Client(server) as client:
            client.begin()
            client.say("DATA")
            client.send(b"Subject: x\r\n\r\n" + b"y" * 600000)
        server.stop()
        assert messages(server) == []
        assert not list((tmp_path / "mail").rglob("tmp/*"))


def test_a_loop_ends(tmp_path: Path) -> None:
    with serving(tmp_path, limits=LimitsConfig(max_hops=10)) as server, Client(server) as client:
        for hops, answer in ((9, "250"), (10, "554 5.4.6")):
            client.begin()
            client.say("DATA")
            client.send(b"Received: from x\r\n\tby y\r\n" * hops + b"\r\nReceived: in the body\r\n.\r\n")
            assert client.reply().startswith(answer)


def test_a_fault_is_temporary_and_has_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    def broken(self: LocalDelivery) -> None:
        raise ZeroDivisionError

    with serving(tmp_path) as server, Client(server) as client:
        monkeypatch.setattr(LocalDelivery, "commit", broken)
        client.begin()
        client.say("DATA")
        client.send(b"a: b\r\n\r\n.\r\n")
        answer = client.reply()
        assert answer.startswith("451 4.3.0 Internal error ")
        assert sum(answer.split()[-1] in line and "trace=" in line for line in log_lines) == 1
        assert client.say("QUIT").startswith("221")
        assert not list((tmp_path / "mail").rglob("tmp/*"))


def test_full_disk_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailserver.store.formats.maildir.incoming import Incoming

    def full(self: Incoming, internaldate: int | None = None) -> None:
        raise OSError(28, "No space left on device")

    with serving(tmp_path) as server, Client(server) as client:
        monkeypatch.setattr(Incoming, "finish", full)
        client.begin()
        client.say("DATA")
        client.send(b"a: b\r\n\r\n.\r\n")
        assert client.reply() == "451 4.3.0 Mail storage: the disk is full"


def test_the_header_says_what_happened(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with serving(tmp_path, "submission", certificate) as server:
        with smtplib.SMTP("localhost", server.port, local_hostname="[10.0.0.1]") as client:
            client.starttls(context=context)
            client.login("alice", "secret")
            client.sendmail("alice@example.com", ["bob@example.com"], "Subject: x\r\n\r\nhi")
        (message,) = messages(server, "bob")
    text = message.decode()
    assert re.search(
        r"Received: from \[10\.0\.0\.1\] \(\[127\.0\.0\.1\]\)\r\n\tby mx\.example\.com with ESMTPSA id \w+", text
    )
    assert "\r\n\t(using TLSv1.3 with cipher TLS_" in text
    assert "\r\n\tfor <bob@example.com>;\r\n\t" in text
    assert re.search(r"\r\nDate: .*\r\nMessage-ID: <\w+@mx\.example\.com>\r\nSubject: x\r\n\r\nhi\r\n\Z", text)


def test_submission_adds_only_what_is_missing(tmp_path: Path) -> None:
    with serving(tmp_path, "submission") as server, smtplib.SMTP("127.0.0.1", server.port) as client:
        client.login("alice", "secret")
        text = "Date: then\r\nmessage-id: <x@y>\r\n\r\nhi\r\n"
        client.sendmail("alice@example.com", ["bob@example.com"], text)
        assert bodies(server, "bob") == [text.encode()]


def test_implicit_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with (
        serving(tmp_path, "submission", certificate, ssl_port=0) as server,
        smtplib.SMTP_SSL("localhost", server.ssl_port, context=context) as client,
    ):
        client.login("alice", "secret")
        client.sendmail("alice@example.com", ["bob@example.com"], "Subject: x\r\n\r\nhi")
        assert len(messages(server, "bob")) == 1


def test_smtputf8(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server, "EHLO bücher.example") as client:
        assert client.say("MAIL FROM:<jürgen@bücher.example> SMTPUTF8 BODY=8BITMIME").startswith("250")
        assert client.say("RCPT TO:<alice@example.com>").startswith("250")
        client.say("DATA")
        client.send("Subject: ü\r\n\r\nü\r\n.\r\n".encode())
        assert client.reply().startswith("250")
        (message,) = messages(server)
    assert message.startswith("Return-Path: <jürgen@bücher.example>\r\n".encode())
    assert "from bücher.example (".encode() in message
    assert b"with UTF8SMTP id" in message


def test_hello_cannot_write_header_lines(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server, "EHLO x(y)\x0bz;<a>") as client:
        assert client.capabilities.startswith("501")
        assert client.say(b"EHLO x(y)z;<a>\x80").startswith("501")
        assert client.say("EHLO x(y)z;<a>").startswith("250")
        client.begin()
        client.say("DATA")
        client.send(b"a: b\r\n\r\n.\r\n")
        assert client.reply().startswith("250")
        assert b"Received: from x?y?z??a? ([127.0.0.1])" in messages(server)[0]


def test_spam_goes_to_its_folder(tmp_path: Path) -> None:
    with serving(tmp_path, delivery=DeliveryConfig(spam_folder="Junk")) as server, Client(server) as client:
        for text in (b"X-Spam-Flag: YES\r\n\r\nspam\r\n", b"X-Spam-Flag: NO\r\n\r\nX-Spam-Flag: YES\r\n"):
            client.begin()
            client.say("DATA")
            client.send(text + b".\r\n")
            assert client.reply().startswith("250")
        assert len(messages(server, folder="Junk")) == 1
        assert len(messages(server)) == 1


def test_spam_with_another_mark_and_where_there_is_no_junk(tmp_path: Path) -> None:
    own = DeliveryConfig(spam_folder="Spam", spam_header="X-Verdict: bad.")
    with serving(tmp_path, delivery=own) as server, Client(server) as client:
        alice, bob = server.services.store.account("alice"), server.services.store.account("bob")
        bob.delete("Junk")
        for text in (b"X-Verdict :  BAD.\r\n\r\n", b"X-Verdict: bad.news\r\n\r\n", b"X-Spam-Flag: YES\r\n\r\n"):
            client.begin()
            assert client.say("RCPT TO:<bob@example.com>").startswith("250")
            client.say("DATA")
            client.send(text + b".\r\n")
            assert client.reply().startswith("250")
        assert len(messages(server)) == len(messages(server, "bob")) == 2
        assert len(messages(server, folder="Junk")) == 1  # what is marked as the folder for junk, whatever its name
        assert len(messages(server, "bob", "Spam")) == 1  # made, and marked so
        assert not alice.exists("Spam")
        assert any(box.special_use == "\\Junk" and box.name == "Spam" for box in bob.mailboxes())


def test_timeout(tmp_path: Path) -> None:
    with serving(tmp_path, connection_timeout_seconds=1) as server, Client(server) as client:
        assert client.rest() == encode(replies.TIMEOUT).decode()


def test_shutdown(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server) as client:
        server.stop()
        assert client.rest() == encode(replies.SHUTTING_DOWN).decode()


def test_too_many_connections(tmp_path: Path) -> None:
    with serving(tmp_path, max_connections=1) as server, Client(server), Client(server, "") as second:
        assert second.greeting.startswith("421 4.3.2 ")


def test_long_lines(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server) as client:
        assert client.say("NOOP " + "x" * 3000) == "500 5.5.2 Line too long"
        assert client.say("NOOP " + "x" * 300000) == "500 5.5.2 Line too long"
        assert client.say("RCPT TO:<" + "x" * 1900 + "@example.com>").startswith("503")
        client.say("MAIL FROM:<>")
        assert client.say("RCPT TO:<" + "x" * 1900 + "@example.com>") == "501 5.1.3 Bad address: address too long"
        assert client.say("AUTH PLAIN " + "A" * 9000).startswith("5")


def test_recipients_limit(tmp_path: Path) -> None:
    with serving(tmp_path, limits=LimitsConfig(max_recipients=100)) as server, Client(server) as client:
        client.say("MAIL FROM:<a@b.example>")
        client.send(b"".join(b"RCPT TO:<alice+%d@example.com>\r\n" % n for n in range(101)))
        answers = [client.reply() for _ in range(101)]
        assert {answer[:9] for answer in answers[:100]} == {"250 2.1.5"}
        assert answers[100] == "452 4.5.3 Too many recipients"
        client.say("DATA")
        client.send(b"a: b\r\n\r\n.\r\n")
        assert client.reply().startswith("250")
        assert len(messages(server)) == 1


def test_guessing_names_ends_the_session(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server) as client:
        client.say("MAIL FROM:<a@b.example>")
        client.send(b"".join(b"RCPT TO:<guess%d@example.com>\r\n" % n for n in range(120)))
        said = client.rest()
        assert said.count("550 5.1.1") == 100
        assert said.endswith("421 4.7.0 Too many errors\r\n")


def test_metrics_and_log(tmp_path: Path, log_lines: list[str]) -> None:
    before = metrics.SMTP_ACCEPTED.value(protocol="smtp"), metrics.SMTP_OCTETS.value(protocol="smtp")
    with serving(tmp_path) as server, Client(server) as client:
        client.begin()
        client.say("RCPT TO:<nobody@example.com>")
        client.say("DATA")
        client.send(b"a: b\r\n\r\n.\r\n")
        client.reply()
        assert metrics.SMTP_ACCEPTED.value(protocol="smtp") == before[0] + 1
        assert metrics.SMTP_OCTETS.value(protocol="smtp") == before[1] + 8
    (line,) = [line for line in log_lines if "event=message" in line]
    assert "sender=<sender@elsewhere.example> rcpts=1 to=alice@example.com size=8" in line
    assert any("event=recipient-refused" in line and "rcpt=nobody@example.com" in line for line in log_lines)


def test_a_server_of_its_own(tmp_path: Path) -> None:
    config = SmtpConfig(
        host="127.0.0.1", port=0, mailbox_path=str(tmp_path), users={"alice@example.net": "x", "bob": "y"}
    )
    with SmtpServer(config) as server, Client(server) as client:
        assert client.say("MAIL FROM:<>").startswith("250")
        assert client.say("RCPT TO:<Alice@Example.Net>").startswith("250")
        assert client.say("RCPT TO:<bob@localhost>").startswith("250")
        assert client.say("RCPT TO:<bob@example.net>").startswith("550")
        assert client.say("RCPT TO:<carol@example.net>").startswith("550")


# every word that EHLO says is a command, or is proved elsewhere in these tests
def test_ehlo_is_true(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with serving(tmp_path, certificate=certificate) as server, Client(server) as client:
        words = {line[4:].split()[0] for line in client.capabilities.splitlines()[1:]}
    proved = {"PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "SIZE", "LIMITS", "HELP", "CHUNKING"}
    proved |= {"BINARYMIME"}
    assert words <= proved | {"STARTTLS", "AUTH", "DSN"}
    assert words >= proved | {"STARTTLS", "AUTH"}


def test_every_reply_fits_its_enhanced_code() -> None:
    named = [value for value in vars(replies).values() if isinstance(value, Status)]
    assert len(named) > 30
    for status in named:
        assert not status.enhanced or status.enhanced[0] == str(status.code)[0]
        assert len(encode(status)) <= 512
    assert encode(Status(550, "5.1.1", "a\nb\r\x00ü")) == b"550-5.1.1 a\r\n550 5.1.1 b???\r\n"


def test_every_command_of_the_table_is_in_help() -> None:
    assert set(table_of(SMTP)) - set(table_of(LMTP)) == {"EHLO", "HELO"}
    assert table_of(SUBMISSION) is table_of(SMTP)


def test_with() -> None:
    def name(**changes: bool) -> str:
        base = {"lmtp": False, "extended": True, "utf8": False, "tls": False, "authenticated": False}
        return protocol_name(**base | changes)

    assert name() == "ESMTP"
    assert name(extended=False) == "SMTP"
    assert name(tls=True, authenticated=True) == "ESMTPSA"
    assert name(utf8=True, tls=True) == "UTF8SMTPS"
    assert name(lmtp=True, tls=True) == "LMTPS"
    assert name(lmtp=True, utf8=True, authenticated=True) == "UTF8LMTPA"


def test_received() -> None:
    trace = Trace("a b\r\nX: y", "2001:db8::1", "mx", "ESMTP", "1", "a@b", "TLS (x)")
    assert received(trace, 0) == (
        b"Received: from a?b??X:?y ([IPv6:2001:db8::1])\r\n\tby mx with ESMTP id 1\r\n\t(TLS ?x?)\r\n"
        b"\tfor <a@b>;\r\n\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
    )


def test_lmtp_over_a_unix_socket(tmp_path: Path) -> None:
    import socket

    path = str(tmp_path / "s")
    with serving(tmp_path, "lmtp", host=path) as server, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        sock.sendall(b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<alice>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n")
        data = b""
        while b"354" not in data:
            data += sock.recv(4096)
        sock.sendall(b"a: b\r\n\r\n.\r\nQUIT\r\n")
        rest = b"".join(iter(lambda: sock.recv(4096), b""))
        assert rest.count(b"250 2.0.0 OK id=") == 2
        assert b"from x (unix socket)\r\n\tby mx.example.com with LMTP id" in messages(server)[0]


def test_lmtp_says_who_failed(tmp_path: Path) -> None:
    with serving(tmp_path, "lmtp") as server, Client(server, "LHLO x") as client:
        _spoil(server, "bob")
        client.say("MAIL FROM:<>")
        for user in ("alice", "bob", "carol@other.example"):
            assert client.say(f"RCPT TO:<{user}>").startswith("250")
        client.say("DATA")
        client.send(b"a: b\r\n\r\n.\r\n")
        answers = [client.reply()[:3] for _ in range(3)]
        assert answers == ["250", "451", "250"]
        assert len(messages(server)) == 1


def _spoil(server: Server, user: str) -> None:
    """Nothing can be stored for this user."""
    root = Path(server.services.store.directory(user))
    root.parent.mkdir(parents=True, exist_ok=True)
    root.write_text("a file in place of a directory")
