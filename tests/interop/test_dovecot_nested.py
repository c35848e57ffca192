"""mboxes in nested directories, INBOX in a spool, as Dovecot has them by default: it and we serve them in turn.

At every station what a client remembers is the same, and mbsync, which synchronised before, has nothing to do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.dovecot import Dovecot
from tests.interop.mbsync import Mbsync
from tests.interop.remembered import drop, same, state
from tests.interop.serving import PASSWORD, serve
from tests.interop.wire import Wire
from tests.messages import corpus

_SETTINGS = "mail_location = mbox:~/mail:INBOX=~/spool/%u\nmbox_write_locks = dotlock fcntl\n"
_CONTENTS = "Subject: {0}\r\nMessage-ID: <{0}@example.com>\r\n\r\ntext of {0}\r\n"
Act = Callable[[Wire], None]
Seen = tuple[dict[str, object], tuple[object, ...]]  # by IMAP, by POP3


class Both:
    """A home directory, and how to serve it: one server at a time."""

    def __init__(self, dovecot: Dovecot, scratch: Path) -> None:
        self._dovecot = dovecot
        self.home = dovecot.base / "home" / "user1"
        self.mail, self.inbox = self.home / "mail", self.home / "spool" / "user1"
        for directory in (self.mail, self.home / "spool"):
            directory.mkdir(parents=True)
        self.before: Seen = ({}, ())
        self._copies = (scratch / f"copy{number}" for number in itertools.count())
        self.copy = self._another_copy()

    def _another_copy(self) -> Mbsync:
        home = next(self._copies)
        home.mkdir()
        return Mbsync(home)

    @contextmanager
    def dovecot(self) -> Iterator[dict[str, int]]:
        self._dovecot.own(self.home)
        yield {"imap": self._dovecot.imap_port, "pop3": self._dovecot.pop3_port}

    @contextmanager
    def ours(self) -> Iterator[dict[str, int]]:
        where = {"format": "mbox", "layout": "fs", "mbox_inbox": str(self.home.parent / "{user}/spool/{user}")}
        with serve(self.home.parent / "{user}/mail", storage=where) as app:
            yield app.ports

    def station(self, server: Callable[[], object], *acts: Act) -> None:
        """The other one served before: all is as it was. Then this one does something, and the copy follows."""
        with server() as ports:  # type: ignore[attr-defined]  # one of the two above
            same(self.before, self.look(ports))
            assert not self.copy.sync(ports["imap"])
            for act in acts:
                with Wire(ports["imap"], "user1", PASSWORD) as wire:
                    act(wire)
            self.before = self.look(ports)
            if acts:  # mbsync wants folders that were renamed back
                self.copy = self._another_copy()
            self.copy.sync(ports["imap"])
            assert not self.copy.sync(ports["imap"])
            same(self.before, self.look(ports))

    def look(self, ports: dict[str, int]) -> Seen:
        read = drop(ports["pop3"])  # first, for RETR sets \Seen
        with Wire(ports["imap"], "user1", PASSWORD) as wire:
            return state(wire), read


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    with Dovecot(extra=_SETTINGS) as dovecot:
        yield Both(dovecot, tmp_path)
        assert "Error" not in dovecot.log()
        assert "Panic" not in dovecot.log()


def _years(wire: Wire) -> None:
    """What an account looks like after some years."""
    for name in ("Work/2024/q1", "Work/2024/q2", "Work/plans", "Lists/python", "Entw&APw-rfe", "Sent", "Empty", "Dir/"):
        wire(f'CREATE "{name}"')
    for name in ("Sent", "Empty"):  # a file that never had a message holds no UIDVALIDITY: neither server writes one
        wire.append(name, b"Subject: x\r\n\r\nx\r\n")
    wire("SELECT Empty")
    wire("STORE 1 +FLAGS.SILENT (\\Deleted)")
    wire("EXPUNGE")
    for name in ("Work/2024/q1", "Lists/python", "INBOX", "Dir"):
        wire(f'SUBSCRIBE "{name}"')
    folders = ["INBOX", "Work/2024/q1", "Work/2024/q2", "Lists/python", "Entw&APw-rfe"]
    plain = [octets for octets in corpus() if b"\0" not in octets and not octets.startswith(b"From ")]
    for number, octets in enumerate(each for each in plain if b"\nFrom " not in each and b"\r\n\r\n" in each):
        date = f'(\\Seen) "0{number % 9 + 1}-Mar-2011 10:00:00 +0200"' if number % 3 else ""
        wire.append(f'"{folders[number % len(folders)]}"', octets, date)
    for name in folders:
        wire(f'SELECT "{name}"')
        wire("STORE 1:3 +FLAGS (\\Answered $Forwarded)")
        wire("STORE 2 +FLAGS (\\Flagged NonJunk work)")
        wire("STORE 4 +FLAGS (\\Deleted)")
        wire("EXPUNGE")
    wire('SELECT "Work/2024/q1"')
    wire('COPY 1:2 "Work/plans"')
    wire('RENAME "Work/2024/q2" "Old/q2"')


def _day(wire: Wire) -> None:
    """What a day brings, on folders that the other server filled."""
    wire("SELECT INBOX")
    wire("STORE 1:3 FLAGS (\\Seen more Work)")
    wire("STORE 2 -FLAGS (more)")
    wire('COPY 1:2 "Work/2024/q1"')
    wire('MOVE 2 "Lists/python"')
    wire.append("INBOX", b"Subject: new\r\n\r\nnew\r\n", '(\\Flagged brandnew) "12-Dec-2012 12:12:12 +0000"')
    wire.append("Empty", b"Subject: first\r\n\r\nx\r\n")
    wire("STORE 1 +FLAGS.SILENT (\\Deleted)")
    wire("EXPUNGE")
    wire('SELECT "Entw&APw-rfe"')
    wire("STORE 1:* +FLAGS.SILENT (\\Deleted)")
    wire("EXPUNGE")  # the last message goes; the next UID stays
    wire('CREATE "Work/2025/q1"')
    wire.append('"Work/2025/q1"', b"Subject: plan\r\n\r\nx\r\n", "(later)")
    wire("SUBSCRIBE Work/2025/q1")
    wire("UNSUBSCRIBE INBOX")
    wire("CLOSE")
    wire('RENAME "Old" "Archive.of.old/deep"')
    wire('RENAME "Lists/python" "Lists/py"')
    wire('DELETE "Work/plans"')


def _next_day(wire: Wire) -> None:
    wire.append('"Entw&APw-rfe"', b"Subject: again\r\n\r\nx\r\n", "(again)")
    wire("SELECT Lists/py")
    wire("STORE 1 +FLAGS (\\Draft work)")
    wire('MOVE 1 "Archive.of.old/deep/q2"')
    wire("CLOSE")
    wire('RENAME "Work" "Job"')
    wire('RENAME "Archive.of.old/deep/q2" "Job/2024/q2"')
    wire('DELETE "Archive.of.old/deep"')
    wire("SUBSCRIBE Job/2024/q2")


@pytest.mark.parametrize("first", ["dovecot", "ours"])
def test_in_turns(both: Both, first: str) -> None:
    servers = [both.dovecot, both.ours] if first == "dovecot" else [both.ours, both.dovecot]
    one, other = servers
    with one() as ports, Wire(ports["imap"], "user1", PASSWORD) as wire:
        if first == "ours":  # Dovecot makes no folders by itself
            for name in ("Archive", "Drafts", "Junk", "Sent", "Trash"):
                wire(f"DELETE {name}")
        _years(wire)
        both.copy.sync(ports["imap"])
        both.before = both.look(ports)
        both.copy.sync(ports["imap"])
    for server, acts in ((other, (_day,)), (one, (_next_day,)), (other, ()), (one, ())):
        both.station(server, *acts)
    listed = both.before[0]["folders"]
    assert isinstance(listed, list)
    assert "Job/2024/q2" in listed
    assert not [name for name in listed if "mailserver" in name or name.startswith(".")]
