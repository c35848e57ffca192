"""One Maildir, served by Dovecot and by this server in turn: what a client keeps stays true across the change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.dovecot import Dovecot
from tests.interop.mbsync import Mbsync
from tests.interop.remembered import State, drop, same, state
from tests.interop.serving import PASSWORD
from tests.interop.turns import Turns
from tests.interop.wire import Wire
from tests.messages import corpus

_FOLDERS = ["INBOX", "Work", "Work/2024", "Entw&APw-rfe", "&ZeVnLIqe-", "A b (c)", "Sent", "a&-b"]


def _fill(wire: Wire) -> None:
    """What an account looks like after some years."""
    for name in _FOLDERS[1:]:
        wire(f'CREATE "{name}"', fails=name == "Sent")  # we make that with the account
    for name in [*_FOLDERS[:5], "a&-b"]:
        wire(f'SUBSCRIBE "{name}"')
    for number, octets in enumerate(corpus()):
        name = _FOLDERS[number % len(_FOLDERS)]
        wire.append(f'"{name}"', octets, f'(\\Seen) "0{number % 9 + 1}-Mar-2011 10:00:00 +0200"' if number % 3 else "")
    for name in _FOLDERS:
        wire(f'SELECT "{name}"')
        wire("STORE 1:3 +FLAGS (\\Answered $Forwarded)")
        wire("STORE 2,5 +FLAGS (\\Flagged NonJunk work)")
        wire("STORE 4 +FLAGS (\\Deleted)")
        wire("EXPUNGE")
        wire("STORE 5 +FLAGS (\\Draft \\Deleted)")
    wire('SELECT "Work"')
    wire('COPY 1:2 "A b (c)"')
    wire('RENAME "Sent" "Work/Sent"')


def _change(wire: Wire) -> None:
    """What a day brings, on folders that the other server filled."""
    wire('SELECT "INBOX"')
    wire("STORE 1:4 FLAGS (\\Seen more Work)")
    wire("STORE 2 -FLAGS (more)")
    wire('COPY 1:3 "Work/2024"')
    wire('MOVE 2 "&ZeVnLIqe-"')
    wire.append("INBOX", b"Subject: new\r\n\r\nnew\r\n", '(\\Flagged brandnew) "12-Dec-2012 12:12:12 +0000"')
    wire("UID EXPUNGE 1:*", fails=True)
    wire("STORE 3 +FLAGS.SILENT (\\Deleted)")
    wire("EXPUNGE")
    wire('CREATE "Work/N&AOk-"')
    wire('SUBSCRIBE "Work/N&AOk-"')
    wire('UNSUBSCRIBE "Work"')
    wire('RENAME "A b (c)" "Other"')
    wire('DELETE "a&-b"')


class Both(Turns):
    """A directory of Maildirs."""

    def __init__(self, dovecot: Dovecot) -> None:
        super().__init__(dovecot, dovecot.mail_root, dovecot.mail_root)

    def state(self, server: Callable[[], object]) -> tuple[State, object]:
        with server() as ports:  # type: ignore[attr-defined]  # one of the two above
            read = drop(ports["pop3"])  # first, for RETR sets \\Seen
            with Wire(ports["imap"], "user1", PASSWORD) as wire:
                return state(wire), read

    def act(self, server: Callable[[], object], action: Callable[[Wire], None]) -> None:
        with server() as ports, Wire(ports["imap"], "user1", PASSWORD) as wire:  # type: ignore[attr-defined]
            action(wire)


@pytest.fixture
def both() -> Iterator[Both]:
    with Dovecot() as dovecot:
        yield Both(dovecot)


def test_what_dovecot_made(both: Both) -> None:
    both.act(both.dovecot, _fill)
    before = both.state(both.dovecot)
    same(before, both.state(both.ours))
    both.act(both.ours, _change)
    changed = both.state(both.ours)
    same(changed, both.state(both.dovecot))
    both.act(both.dovecot, _again)
    same(both.state(both.dovecot), both.state(both.ours))


def test_what_we_made(both: Both) -> None:
    both.act(both.ours, _fill)
    before = both.state(both.ours)
    same(before, both.state(both.dovecot))
    both.act(both.dovecot, _change)
    changed = both.state(both.dovecot)
    same(changed, both.state(both.ours))
    both.act(both.ours, _again)
    same(both.state(both.ours), both.state(both.dovecot))


def _few(wire: Wire) -> None:
    for octets in corpus()[:8]:
        wire.append("INBOX", octets)


def _touch(wire: Wire) -> None:
    wire("SELECT INBOX")
    wire("STORE 1:3 +FLAGS (\\Seen)")
    wire('COPY 1:2 "Work/2024"')
    wire.append("INBOX", b"Subject: new\r\n\r\nnew\r\n")
    wire("STORE 2 +FLAGS (\\Deleted)")
    wire("EXPUNGE")


def _again(wire: Wire) -> None:
    wire('SELECT "Other"')
    wire("STORE 1:* +FLAGS (third)")
    wire('MOVE 1 "INBOX"')
    wire.append("Other", b"Subject: again\r\n\r\nx\r\n")


def test_pop3_ids_kept_in_the_list(both: Both) -> None:
    """P and O of dovecot-uidlist: ids and order that a migration brought from another server."""
    both.act(both.dovecot, _few)
    path = both.path / "user1" / "dovecot-uidlist"
    lines = path.read_bytes().splitlines()
    lines[1:] = [_with_pop3(n, line) for n, line in enumerate(lines[1:])]
    path.write_bytes(b"\n".join([*lines, b""]))
    for cache in (both.path / "user1").glob("dovecot.index*"):
        cache.unlink()
    (_, theirs) = both.state(both.dovecot)
    (_, ours) = both.state(both.ours)
    assert ours == theirs
    assert b"old-id" in repr(theirs).encode()


def _with_pop3(number: int, line: bytes) -> bytes:
    uid, rest = line.split(b" ", 1)
    fields = [b"Pold-id-%d" % number] if number % 2 else []
    return b" ".join([uid, *fields, *([b"O%d" % (20 - number)] if number > 3 else []), rest])


def test_mbsync_notices_no_change_of_server(both: Both, tmp_path: Path) -> None:
    client = Mbsync(tmp_path / "home")
    both.act(both.dovecot, _fill)
    with both.dovecot() as ports:
        assert client.sync(ports["imap"])
        assert not client.sync(ports["imap"])
    with both.ours() as ports:
        assert not client.sync(ports["imap"])
    both.act(both.ours, _touch)
    with both.ours() as ports:
        assert client.sync(ports["imap"])
        assert not client.sync(ports["imap"])
    with both.dovecot() as ports:
        assert not client.sync(ports["imap"])
