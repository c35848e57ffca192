"""POP3 beside Dovecot's on the same Maildir: numbers, sizes, unique-ids, and every octet of RETR and TOP."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.interop.dovecot import Dovecot
from tests.interop.fetchmail import fetchmail
from tests.interop.serving import PASSWORD, serve
from tests.interop.wire import Wire
from tests.messages import corpus

_ODD = [
    b"a: b\n\nno last line end",
    b"a: b\r\n\r\nno last line end",
    b"a: b\n\n.\n..\n.x\n\n.",
    b"a: b\n\nx\r",
    b"a: b\n",
    b"a: b",
    b"\n",
    b"\nbody only\n",
    b"a: b\n\n" + b"x" * 5000 + b"\n",
    "Subject: grüße\n\nä\n".encode(),
]


def raw(port: int, count: int) -> list[bytes]:
    """All answers to one session that asks for everything, each with its text behind +OK removed."""
    asked = [b"STAT", b"LIST", b"UIDL"]
    for number in range(1, count + 2):
        asked += [b"LIST %d" % number, b"UIDL %d" % number, b"TOP %d 3" % number, b"TOP %d 0" % number]
        asked += [b"RETR %d" % number]
    asked += [b"DELE 1", b"DELE 1", b"LIST", b"RETR 1", b"RSET", b"STAT", b"NOOP"]
    answers = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client, client.makefile("rb") as lines:
        lines.readline()
        for command in (b"USER user1", b"PASS " + PASSWORD.encode()):
            client.sendall(command + b"\r\n")
            assert lines.readline().startswith(b"+OK")
        for command in asked:
            client.sendall(command + b"\r\n")
            answers.append(command + b": " + _answer(command, lines))  # type: ignore[arg-type]
        client.sendall(b"QUIT\r\n")
        assert lines.readline().startswith(b"+OK")
    return answers


def _answer(command: bytes, lines: object) -> bytes:
    first = lines.readline()  # type: ignore[attr-defined]
    many = command in (b"LIST", b"UIDL") or command.startswith((b"TOP", b"RETR"))
    if not first.startswith(b"+OK") or not many:
        # of texts only the numbers are meant for programs
        exact = first.startswith(b"+OK") and command.startswith((b"STAT", b"LIST", b"UIDL"))
        return bytes(first) if exact else bytes(first[:3])
    size = re.match(rb"\+OK (\d+ octets)", first)
    found = [size[1] if size else b"+OK"]
    while (line := lines.readline()) != b".\r\n":  # type: ignore[attr-defined]
        assert line
        found.append(line)
    return b"\n".join(found)


def _maildir(dovecot: Dovecot, messages: list[bytes]) -> None:
    dovecot.deliver("user1", messages)


def _same(theirs: list[bytes], ours: list[bytes]) -> None:
    for their, our in zip(theirs, ours, strict=True):
        assert our == their


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("%08Xu%08Xv", "dovecot"), ("%v.%u", "cyrus"), ("%v-%u", "uidvalidity-uid"), ("%f", "filename")],
)
def test_unique_ids(theirs: str, ours: str) -> None:
    messages = [*corpus()[:5], *_ODD]
    with Dovecot(extra=f"protocol pop3 {{\n  pop3_uidl_format = {theirs}\n}}") as dovecot:
        _maildir(dovecot, messages)
        before = raw(dovecot.pop3_port, len(messages))
        with serve(dovecot.mail_root, pop3={"uidl_format": ours}) as app:
            _same(before, raw(app.ports["pop3"], len(messages)))


def test_every_message_of_the_corpus_first_here_then_there() -> None:
    messages = [*corpus(), *_ODD]
    with Dovecot() as dovecot:
        _maildir(dovecot, messages)
        with serve(dovecot.mail_root) as app:
            before = raw(app.ports["pop3"], len(messages))
        dovecot.own(dovecot.mail_root)
        _same(raw(dovecot.pop3_port, len(messages)), before)


def test_fetchmail_notices_no_change_of_server(tmp_path: Path) -> None:
    nothing_new = 1
    with Dovecot() as dovecot:
        _maildir(dovecot, corpus()[:6])
        assert len(fetchmail(dovecot.pop3_port, tmp_path, "keep")) == 6
        assert fetchmail(dovecot.pop3_port, tmp_path, "keep", accept=(nothing_new,)) == []
        with serve(dovecot.mail_root) as app:
            assert fetchmail(app.ports["pop3"], tmp_path, "keep", accept=(nothing_new,)) == []
            with Wire(app.ports["imap"], "user1", PASSWORD) as wire:
                wire.append("INBOX", b"From: a@b\r\nSubject: new\r\n\r\nnew\r\n")
            (found,) = fetchmail(app.ports["pop3"], tmp_path, "keep")
            assert b"Subject: new" in found
        dovecot.own(dovecot.mail_root)
        assert fetchmail(dovecot.pop3_port, tmp_path, "keep", accept=(nothing_new,)) == []
