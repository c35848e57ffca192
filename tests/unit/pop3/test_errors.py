"""Which response code stands where. RFC 2449 section 8, RFC 3206 section 4, RFC 6856 section 5."""

from __future__ import annotations

import poplib
import shutil
from pathlib import Path

import pytest

from mailserver.auth.sasl import SaslSyntax
from mailserver.auth.saslprep import Prohibited
from mailserver.auth.service import AuthFailed, AuthUnavailable
from mailserver.pop3.context import Pop3Options
from mailserver.pop3.errors import BadCommand, Refused, error_line, line_for
from mailserver.store.errors import Kind, StoreError
from mailserver.store.mailbox import Mailbox
from tests.transcripts.test_pop3 import deliver, serving
from tests.unit.pop3.test_session import connect, login


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StoreError(Kind.IN_USE, "x"), b"-ERR [IN-USE] x\r\n"),
        (StoreError(Kind.TEMPORARY, "x"), b"-ERR [SYS/TEMP] x\r\n"),
        (StoreError(Kind.LIMIT, "x"), b"-ERR [SYS/TEMP] x\r\n"),
        (StoreError(Kind.NO_QUOTA, "x"), b"-ERR [SYS/TEMP] x\r\n"),
        (StoreError(Kind.CORRUPT, "x"), b"-ERR [SYS/PERM] x\r\n"),
        (StoreError(Kind.NO_PERMISSION, "x"), b"-ERR [SYS/PERM] x\r\n"),
        (StoreError(Kind.READ_ONLY, "x"), b"-ERR [SYS/PERM] x\r\n"),
        (StoreError(Kind.NOT_FOUND, "x"), b"-ERR [SYS/PERM] x\r\n"),
        (StoreError(Kind.EXPUNGED, "x"), b"-ERR x\r\n"),
        (AuthFailed(), b"-ERR [AUTH] Authentication failed.\r\n"),
        (AuthUnavailable(), b"-ERR [SYS/TEMP] Temporary authentication failure.\r\n"),
        (Prohibited("x"), b"-ERR [AUTH] This cannot be a name or password: x\r\n"),
        (SaslSyntax("x"), b"-ERR Malformed response: x\r\n"),
        (BadCommand("x"), b"-ERR x\r\n"),
        (Refused("x", "UTF8"), b"-ERR [UTF8] x\r\n"),
        (Refused("x"), b"-ERR x\r\n"),
        (ZeroDivisionError(), None),
    ],
)
def test_lines(error: Exception, line: bytes | None) -> None:
    assert line_for(error) == line


def test_a_line_is_never_too_long_nor_two() -> None:
    """RFC 2449 section 4: 512 octets for the first line of an answer."""
    line = error_line("SYS/TEMP", "ä\r\n" + "x" * 1000)
    assert len(line) <= 512
    assert line.count(b"\r\n") == 1
    assert line.isascii()


def test_a_maildrop_that_cannot_be_opened_is_no_wrong_password(tmp_path: Path, mailbox_format: str) -> None:
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, store):
        root = Path(store.directory("alice"))
        root.parent.mkdir(exist_ok=True)
        root.write_text("no directory")
        with pytest.raises(poplib.error_proto, match=r"\[SYS/"):
            login(server)
        root.unlink()
        login(server).quit()
        shutil.rmtree(root)


@pytest.mark.parametrize(
    ("kind", "code"), [(Kind.TEMPORARY, b"[SYS/TEMP]"), (Kind.READ_ONLY, b"[SYS/PERM]"), (Kind.IN_USE, b"[IN-USE]")]
)
def test_quit_says_when_messages_were_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, code: bytes, mailbox_format: str
) -> None:
    """RFC 1939 section 6: "-ERR some deleted messages not removed", and the lock is given back."""

    def fails(*_: object) -> None:
        raise StoreError(kind, "not now")

    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, store):
        deliver(store, b"a: b\r\n\r\nc\r\n")
        with monkeypatch.context() as patch, connect(server) as client:
            patch.setattr(Mailbox, "expunge", fails)
            client.sendall(b"USER alice\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n")
            said = b"".join(iter(lambda: client.recv(1000), b""))
        assert said.endswith(b"-ERR " + code + b" not now\r\n")
        pop = login(server)
        assert pop.stat()[0] == 1
        pop.quit()
