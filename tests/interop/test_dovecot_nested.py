"""mboxes in nested directories, INBOX in a spool, as Dovecot has them by default: it and we serve them in turn.

At every station what a client remembers is the same, and mbsync, which synchronised before, has nothing to do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailserver.store.store import Store
from tests.concurrency.mbox import deliver
from tests.interop.dovecot import Dovecot
from tests.interop.mbsync import Mbsync
from tests.interop.remembered import drop, names, same, state
from tests.interop.screen import Terminal
from tests.interop.serving import PASSWORD, run
from tests.interop.turns import Turns
from tests.interop.wire import Wire
from tests.messages import corpus

_SETTINGS = "mail_location = mbox:~/mail:INBOX=~/spool/%u\nmbox_write_locks = dotlock fcntl\n"
# STATUS, after any other program took a message out: it looks where its last one was, then reads the whole file
_SAID_OF_ALL = "Next message unexpectedly corrupted in mbox file"
_LETTER = b"From: a@b\nSubject: letter %d\nMessage-ID: <%d@example.com>\n\ntext %d\n"
_SPECIAL = {b"\\Archive", b"\\Drafts", b"\\Junk", b"\\Sent", b"\\Trash"}
Act = Callable[[Wire], None]
Seen = tuple[dict[str, object], tuple[object, ...]]  # by IMAP, by POP3


class Both(Turns):
    """A home directory."""

    def __init__(self, dovecot: Dovecot, scratch: Path) -> None:
        self.home = dovecot.base / "home" / "user1"
        own = {"format": "mbox", "layout": "fs", "mbox_inbox": str(self.home.parent / "{user}/spool/{user}")}
        super().__init__(dovecot, self.home, self.home.parent / "{user}/mail", **own)
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

    def store(self) -> Store:
        return Store(str(self.path), durability="relaxed", **self.storage)

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
        errors = [line for line in dovecot.log().splitlines() if "Error" in line or "Panic" in line]
        assert not [line for line in errors if _SAID_OF_ALL not in line]


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


def test_unique_ids_of_another_server(tmp_path: Path) -> None:
    """They are X-UIDL in the file: Dovecot finds them, and keeps them where we look when it rewrites the header."""
    with Dovecot(extra=_SETTINGS + "pop3_reuse_xuidl = yes\n") as dovecot:
        both = Both(dovecot, tmp_path)
        with both.ours() as ports, Wire(ports["imap"], "user1", PASSWORD) as wire:
            for number in range(4):
                wire.append("INBOX", b"Subject: %d\r\n\r\nx\r\n" % number)
        with both.store() as store:
            account = store.account("user1")
            uids = [m.uid for m in account.inbox.rescan().messages]
            account.convert("INBOX", "maildir")
            books = both.mail / "dovecot-uidlist"
            first, *lines = books.read_text().splitlines()
            lines[:3] = [line.replace(" :", f" Ptheirs-{uid}= :") for line, uid in zip(lines, uids[:3], strict=False)]
            books.write_text("\n".join([first, *lines, ""]))
            account.convert("INBOX", "mbox")
        with both.ours() as ports:
            before = both.look(ports)
            ids = before[1][1]
        assert [line.split()[1] for line in ids[:3]] == [b"theirs-%d=" % uid for uid in uids[:3]]
        with both.dovecot() as ports:
            assert drop(ports["pop3"])[1] == ids
            with Wire(ports["imap"], "user1", PASSWORD) as wire:
                wire("SELECT INBOX")
                wire("STORE 2:4 +FLAGS (\\Flagged $Forwarded " + "x" * 45 + ")")
                wire("STORE 1 +FLAGS (\\Deleted)")
                wire("EXPUNGE")
        with both.ours() as ports:
            after = drop(ports["pop3"])
            assert [line.split()[1] for line in after[1]] == [line.split()[1] for line in ids[1:]]
            assert after[4] == before[1][4][1:]  # the octets
            with Wire(ports["imap"], "user1", PASSWORD) as wire:
                wire("SELECT INBOX")
                wire("STORE 1:3 -FLAGS ($Forwarded)")
                assert not any(b"X-UIDL" in line for line in wire("FETCH 1:* BODY[HEADER]"))
        with both.dovecot() as ports:
            found = drop(ports["pop3"])[1]
            assert [line.split()[1] for line in found] == [line.split()[1] for line in ids[1:]]


def test_what_lies_in_the_directory_beside_mail(both: Both) -> None:
    """Both list the same, with the same attributes, and open the same; dot files are the one difference."""
    for name in ("Work/2024", "Empty/deeper", "link-to"):
        (both.mail / name).mkdir(parents=True)
    mail = b"From a@b Mon Jan  1 10:00:00 2024\nSubject: x\n\nx\n\n"
    for name, octets in {
        "Work/2024/q1": mail,
        "notes.txt": b"Hello\n",
        "letter": b"From here on\n",
        "late": b"\n" + mail,
        "Work/empty": b"",
        "new": mail,
        "tmp": mail,
        "a b": mail,
        ".procmailrc": b"x\n",
        "Work.lock": b"1:elsewhere.example",
        "t.mbox": mail,
    }.items():
        (both.mail / name).write_bytes(octets)
    (both.mail / "Linked").symlink_to("Work")
    (both.mail / "one").symlink_to("t.mbox")
    (both.mail / "broken").symlink_to("nowhere")
    listed, opened = [], []
    for server in (both.dovecot, both.ours):
        with server() as ports, Wire(ports["imap"], "user1", PASSWORD) as wire:
            lines = wire('LIST "" "*"')
            found = {
                name: set(line.split(b"(")[1].split(b")")[0].split()) - {b"\\UnMarked", b"\\Marked"}
                for line in lines
                if not (name := names([line])[0]).startswith(".") and name != "INBOX"
            }
            listed.append({name: words - _SPECIAL for name, words in found.items()})
            answers = {}
            for name in sorted(found):
                wire(f'STATUS "{name}" (MESSAGES)', fails=True)
                answers[name] = wire.completion.split()[0]
                if name in ("notes.txt", "letter", "late"):
                    assert wire.completion.startswith(b"NO [CANNOT]"), (server, name)
            opened.append(answers)
    made = {"Archive", "Drafts", "Junk", "Sent", "Trash"}
    assert listed[0] == {name: words for name, words in listed[1].items() if name not in made}
    assert opened[0] == {name: said for name, said in opened[1].items() if name not in made}
    assert len(listed[0]) == 19, sorted(listed[0])


def test_procmail_and_mutt(both: Both, tmp_path: Path) -> None:
    """They write nested mboxes while we serve them: what they deliver, flag, save and delete is seen."""
    home = tmp_path / "home"
    home.mkdir()
    recipe = home / "procmailrc"
    recipe.write_text(f"MAILDIR={both.mail}\nDEFAULT={both.inbox}\n:0:\n* ^Subject: letter\nLists/python\n")
    (home / "muttrc").write_text(
        f"set folder={both.mail} spoolfile={both.inbox} mbox_type=mbox delete=yes confirmappend=no confirmcreate=no\n"
        "set mark_old=no sort=mailbox-order wait_key=no move=no mail_check=1 timeout=1\n"
    )
    with both.ours() as ports, Wire(ports["imap"], "user1", PASSWORD) as wire:
        wire("CREATE Lists/")
        wire("CREATE Work/2024/q1")
        for number in range(4):
            run(["procmail", "-f", "a@b", recipe], home, _LETTER % (number, number, number))
        run(["procmail", "-f", "a@b", recipe], home, b"Subject: for the inbox\n\nx\n")
        assert "Lists/python" in names(wire('LIST "" "*"'))
        wire("SELECT Lists/python")
        assert wire.numbers("UID SEARCH ALL") == [1, 2, 3, 4]
        wire("UID STORE 4 +FLAGS (\\Answered work)")
        with Terminal(home, "mutt", "-F", f"{home}/muttrc", "-f", "=Lists/python") as terminal:
            terminal.wait_for("letter 0", "letter 3")
            terminal.type("2", "Enter", "d", "1", "Enter", "F", "3", "Enter", "s", "C-u", "=Work/2024/q1", "Enter", "$")
            terminal.wait_for("Msgs:2")
            terminal.type("x")
        wire("NOOP")
        assert wire.numbers("UID SEARCH ALL") == [1, 4]
        assert wire.numbers("UID SEARCH FLAGGED") == [1]
        assert wire.numbers("UID SEARCH ANSWERED KEYWORD work") == [4]
        wire("SELECT Work/2024/q1")
        assert wire.numbers("UID SEARCH SUBJECT letter") == [1]
        wire("SELECT INBOX")
        assert wire.numbers("UID SEARCH SUBJECT inbox") == [1]
        listed = names(wire('LIST "" "*"'))
        assert not [name for name in listed if name.endswith(".lock") or "mutt" in name]


def test_locks_of_the_spool(both: Both) -> None:
    """Whoever has the dot lock keeps us out of INBOX; an INBOX that was emptied and removed is there again."""
    with both.ours() as ports, Wire(ports["imap"], "user1", PASSWORD) as wire:
        deliver(both.inbox, b"Subject: 1\r\n\r\nx\r\n")
        wire("SELECT INBOX")
        assert wire.numbers("UID SEARCH ALL") == [1]
        wire("UNSELECT")
        (validity,) = wire("STATUS INBOX (UIDVALIDITY UIDNEXT)")
        both.inbox.unlink()
        assert wire("STATUS INBOX (UIDVALIDITY UIDNEXT)") == [validity]
        deliver(both.inbox, b"Subject: 2\r\n\r\nx\r\n")
        wire("SELECT INBOX")
        assert wire.numbers("UID SEARCH ALL") == [2]
