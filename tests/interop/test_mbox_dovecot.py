"""One mbox file, served by Dovecot and changed by us, in turns: both say the same of it at every station."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mailserver.mail.dates import format_internal, parse_internal
from mailserver.mail.lines import to_crlf
from mailserver.store.formats.mbox import fromline
from mailserver.store.formats.mbox.entry import Box, Marks
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.model.flags import FLAG_BY_NAME, SYSTEM_FLAGS
from tests.interop.dovecot import Dovecot
from tests.interop.terminal import at_once
from tests.interop.wire import Wire, fetched
from tests.mboxes import addition, contents, without_books
from tests.messages import corpus


class Seen(NamedTuple):
    """What a client sees of a message."""

    flags: frozenset[str]
    date: int
    octets: bytes


class View(NamedTuple):
    """What a client sees of the mailbox."""

    uidvalidity: int
    uidnext: int
    messages: dict[int, Seen]


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with Dovecot(extra="mail_location = mbox:~/mail:INBOX=~/mbox\n") as running:
        yield running


@pytest.fixture
def path(dovecot: Dovecot) -> Iterator[Path]:
    home = dovecot.base / "home" / "user1"
    shutil.rmtree(home, ignore_errors=True)
    (home / "mail").mkdir(parents=True)
    (home / "mbox").touch()
    dovecot.own(home)
    yield home / "mbox"
    assert "Error" not in dovecot.log()
    assert "Panic" not in dovecot.log()


def _wire(dovecot: Dovecot) -> Wire:
    return Wire(dovecot.imap_port, "user1", dovecot.password)


def theirs(dovecot: Dovecot) -> View:
    with _wire(dovecot) as wire:
        selected = b"".join(wire("SELECT INBOX"))
        numbers = [re.search(rb"\[%s (\d+)\]" % name, selected) for name in (b"UIDVALIDITY", b"UIDNEXT")]
        uidvalidity, uidnext = (int(number[1]) for number in numbers if number)
        messages = {}
        for answer in fetched(wire("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")).values():
            found = re.search(
                rb"UID (\d+) FLAGS \(([^)]*)\) INTERNALDATE (\"[^\"]*\") RFC822.SIZE (\d+) BODY\[\] \{(\d+)\}\r\n",
                answer,
            )
            assert found is not None, answer
            octets = answer[found.end() : found.end() + int(found[5])]
            assert found[4] == found[5]
            flags = frozenset(found[2].decode().split()) - {"\\Recent"}
            messages[int(found[1])] = Seen(flags, int(parse_internal(found[3]).timestamp()), octets)
        wire("LOGOUT")
    return View(uidvalidity, uidnext, messages)


def ours(path: Path) -> View:
    folder = MboxFolder(str(path), sync=False)
    with folder.hold():
        box = folder.load()
        assert not box.unwritten
        assert box.base is not None
        octets = contents(folder, box)
        messages = {e.uid: Seen(_names(e.marks), e.date, octets[e.uid]) for e in box.entries if e.uid}
        return View(box.base.uidvalidity, box.uidnext, messages)


def _names(marks: Marks) -> frozenset[str]:
    return marks.keywords | {name for flag, name in SYSTEM_FLAGS if marks.flags & flag}


def _marks(names: frozenset[str]) -> Marks:
    flags = sum(FLAG_BY_NAME[name.lower()] for name in names if name.startswith("\\"))
    return Marks(flags, frozenset(name for name in names if not name.startswith("\\")), recent=False)


def _text(number: int) -> bytes:
    return b"From: a@b\r\nSubject: letter %d\r\n\r\n" % number + b"text %d\r\n" % number * (number % 40)


class Turns:
    """Random changes by either side, judged by the state that they must lead to."""

    def __init__(self, dovecot: Dovecot, path: Path, seed: int) -> None:
        self.dovecot = dovecot
        self.path = path
        self.random = random.Random(seed)
        self.folder = MboxFolder(str(path), sync=False)
        self.expected: dict[int, Seen] = {}
        self.count = 0
        self.box: Box | None = None

    def _choice(self) -> list[int]:
        uids = sorted(self.expected)
        return sorted(self.random.sample(uids, min(len(uids), self.random.choice((1, 1, 2, 5)))))

    def _flags(self) -> frozenset[str]:
        names = ["\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "\\Draft", "work", "home", "$Forwarded", "x" * 40]
        return frozenset(self.random.sample(names, self.random.randrange(5)))

    def append(self, ours: bool, uidnext: int) -> None:
        self.count += 1
        flags, date, octets = self._flags(), 1600000000 + self.count * 4321, _text(self.count)
        if ours:
            with self.folder.hold():
                box = self._load()
                self.box = self.folder.append(box, [addition(octets, _marks(flags), date)])
        else:
            with _wire(self.dovecot) as wire:
                command = f"APPEND INBOX ({' '.join(flags)}) {format_internal(date)} {{{len(octets)}+}}\r\n"
                wire(command.encode() + octets)
        self.expected[uidnext] = Seen(flags, date, octets)

    def flag(self, ours: bool) -> None:
        uids, flags = self._choice(), self._flags()
        if ours:
            with self.folder.hold():
                self.box = self.folder.set_flags(self._load(), dict.fromkeys(uids, _marks(flags)))
        else:
            with _wire(self.dovecot) as wire:
                wire("SELECT INBOX")
                wire(f"UID STORE {','.join(map(str, uids))} FLAGS.SILENT ({' '.join(flags)})")
                wire("LOGOUT")
        self.expected.update({uid: self.expected[uid]._replace(flags=flags) for uid in uids})

    def expunge(self, ours: bool) -> None:
        uids = self._choice()
        if ours:
            with self.folder.hold():
                self.box = self.folder.expunge(self._load(), set(uids))
        else:
            with _wire(self.dovecot) as wire:
                wire("SELECT INBOX")
                wire(f"UID STORE {','.join(map(str, uids))} +FLAGS.SILENT (\\Deleted)")
                wire(f"UID EXPUNGE {','.join(map(str, uids))}")
                wire("LOGOUT")
        for uid in uids:
            del self.expected[uid]

    def _load(self) -> Box:
        return self.folder.assign(self.folder.load(self.box), 1)


@pytest.mark.parametrize("seed", range(4))
def test_in_turns(dovecot: Dovecot, path: Path, seed: int) -> None:
    turns = Turns(dovecot, path, seed)
    turns.append(ours=False, uidnext=1)  # Dovecot names the UIDVALIDITY
    before = theirs(dovecot)
    for _ in range(25):
        what = turns.random.choice(["append", "append", "append", "flag", "flag", "flag", "expunge"])
        if not turns.expected:
            what = "append"
        mine = turns.random.random() < 0.6
        if what == "append":
            turns.append(mine, before.uidnext)
        elif what == "flag":
            turns.flag(mine)
        else:
            turns.expunge(mine)
        after = ours(path)
        assert after.messages == turns.expected, (what, mine)
        assert theirs(dovecot) == after == ours(path), (what, mine)
        assert after.uidvalidity == before.uidvalidity
        assert after.uidnext == before.uidnext + (what == "append")
        before = after


def test_they_read_what_we_wrote(dovecot: Dovecot, path: Path) -> None:
    """The corpus: octets, dates, flags; we named the UIDVALIDITY."""
    messages = [to_crlf(message) for message in corpus()]
    messages = [m for m in messages if b"\nFrom " not in m and not m.startswith(b"From ") and b"\0" not in m]
    messages = [m for m in messages if b"\r\n\r\n" in m]
    assert len(messages) > 40
    folder = MboxFolder(str(path), sync=False)
    with folder.hold():
        box = folder.assign(folder.load(), 1234567)
        marks = Marks(9, frozenset({"work"}), recent=False)
        box = folder.append(box, [addition(m, marks, 1500000000 + i) for i, m in enumerate(messages)])
    seen = theirs(dovecot)
    assert seen.uidvalidity == 1234567
    assert [each.octets for each in seen.messages.values()] == [without_books(m) for m in messages]
    assert seen == ours(path)


def test_what_looks_like_a_from_line(dovecot: Dovecot, path: Path) -> None:
    """We quote where they count: theirs is served as they serve it, and ours as it came; to them it is quoted."""
    body = b"Subject: x\r\n\r\nFrom me to you\r\n>From here\r\nFrom a@b Mon Jan  1 00:00:00 2024\r\n\r\nx\r\n"
    quoted = b"Subject: y\r\n\r\n>From here\r\n>>From there\r\n"
    with _wire(dovecot) as wire:
        for octets in (body, quoted):
            wire(b"APPEND INBOX {%d+}\r\n" % len(octets) + octets)
    assert [seen.octets for seen in theirs(dovecot).messages.values()] == [body, quoted]
    assert [seen.octets for seen in ours(path).messages.values()] == [body, quoted]
    folder = MboxFolder(str(path), sync=False)
    with folder.hold():
        folder.append(folder.load(), [addition(body), addition(quoted)])
    assert [seen.octets for seen in ours(path).messages.values()] == [body, quoted] * 2
    shown = [seen.octets for seen in theirs(dovecot).messages.values()]
    assert shown[:2] == [body, quoted]
    assert shown[2:] == [re.sub(rb"(?m)^(?=>*From )", b">", octets) for octets in (body, quoted)]


_BROKEN = {
    "no numbers at all": [b"", b"", b""],
    "numbers without base": [b"X-UID: 1\n", b"X-UID: 2\n", b"X-UID: 3\n"],
    "as they should be": [b"X-IMAPbase: 77 0000000009\nX-UID: 2\n", b"X-UID: 5\n", b"X-UID: 9\n"],
    "the next one": [b"X-IMAPbase: 77 0000000009\nX-UID: 2\n", b"X-UID: 5\n", b"X-UID: 10\n"],
    "too high": [b"X-IMAPbase: 77 0000000009\nX-UID: 2\n", b"X-UID: 50\n", b"X-UID: 9\n"],
    "not ascending": [b"X-IMAPbase: 77 0000000009\nX-UID: 5\n", b"X-UID: 2\n", b"X-UID: 9\n"],
    "one missing": [b"X-IMAPbase: 77 0000000009\nX-UID: 2\n", b"", b"X-UID: 9\n"],
    "last missing": [b"X-IMAPbase: 77 0000000009 a b\nX-UID: 2\n", b"X-UID: 3\n", b""],
    "before the base": [b"X-UID: 2\nX-IMAPbase: 77 0000000009\n", b"X-UID: 3\n", b"X-UID: 4\n"],
    "base in the second": [b"", b"X-IMAPbase: 77 0000000009\nX-UID: 3\n", b"X-UID: 4\n"],
    "two bases": [b"X-IMAPbase: 77 0000000009\nX-UID: 2\n", b"X-IMAPbase: 78 0000000020\nX-UID: 3\n", b"X-UID: 11\n"],
    "no numbers": [b"X-IMAPbase: 77 0000000009\nX-UID: two\n", b"X-UID: 3x\n", b"X-UID:\n"],
    "two UIDs": [b"X-IMAPbase: 77 0000000009\nX-UID: 2\n", b"X-UID: 4\nX-UID: 5\n", b"X-UID: 6\n"],
}

_NUMBERED_TWICE: dict[str, list[int]] = {"base in the second": [], "two bases": [2, 3]}


@pytest.mark.parametrize("name", list(_BROKEN))
def test_which_uids_are_believed(dovecot: Dovecot, path: Path, name: str) -> None:
    """As Dovecot believes them, each on its own copy of the file."""
    octets = b"".join(
        b"From a@b Mon Jan  1 00:00:00 2024\nSubject: %d\n%sStatus: O\n\ntext\n\n" % (number, fields)
        for number, fields in enumerate(_BROKEN[name])
    )
    path.write_bytes(octets)
    with contextlib.suppress(AssertionError):  # it numbers twice where a second base stands, and sends NIL meanwhile
        theirs(dovecot)
    seen = theirs(dovecot)
    assert ours(path) == seen
    copy = path.with_name("copy")
    copy.write_bytes(octets)
    folder = MboxFolder(str(copy), sync=False)
    with folder.hold():
        folder.assign(folder.load(), seen.uidvalidity)
    mine = ours(copy)
    believed = _NUMBERED_TWICE.get(name)
    if believed is not None:
        assert [list(view.messages)[: len(believed)] for view in (mine, seen)] == [believed, believed]
        assert list(mine.messages.values()) == list(seen.messages.values())
    else:
        assert mine == seen


_LINES = [
    b"From a@b Mon Jan  1 00:00:00 2024",
    b"From a@b Mon Jan 1 00:00:00 2024",
    b"From a@b Mon Jan 01 00:00 2024",
    b"From a@b Mon Jan  1 00:00:00 EST 2024",
    b"From a@b Mon Jan  1 00:00:00 2024 EST",
    b"From a@b Mon Jan  1 00:00:00 2024 +0200",
    b"From a@b Mon Jan  1 00:00:00 MET DST 2024",
    b"From a@b Mon Jan  1 00:00:00 2024 remote from xyz",
    b"From a@b Mon Jan  1 00:00:00 EST 2024 remote from x",
    b'From "a b"@c Mon Jan  1 00:00:00 2024',
    b"From  Mon Jan  1 00:00:00 2024",
    b"From a b Mon Jan  1 00:00:00 2024",
    b"From a@b Xxx jAN  1 00:00:00 2024",
    b"From a@b Mon, 1 Jan 2024 00:00:00",
    b"From a@b Mon Jan 32 25:61:61 2024",
    b"From a@b Mon Jan  1 0:00:00 2024",
    b"From a@b Mon Jan  1 00:00:00 24",
    b"From a@b Mon Jan  1 00:00:00 20245",
    b"From a@b Mon Jan  1 2024",
    b"From a@b Mon Jan  1 00:00:00 2024x",
    b"From\ta@b Mon Jan  1 00:00:00 2024",
    b"From a@b Mon Jan  1 00:00:00 GMT+1 2024",
    b"From a@b Mon Jan  1 00:00:00   2024",
    b"From a@b 1 Jan 2024 00:00:00",
    b"From a@b Mon Jan   1 00:00:00 2024",
]


def test_which_from_lines_are_believed(dovecot: Dovecot, path: Path) -> None:
    lines = [line + b"\nSubject: %d\n\ntext\n\n" % number for number, line in enumerate(_LINES)]
    path.write_bytes(b"".join(lines))
    seen = theirs(dovecot)
    assert len(seen.messages) == sum(fromline.date(line) is not None for line in _LINES)
    folder = MboxFolder(str(path), sync=False)
    with folder.hold():
        folder.assign(folder.load(), 1)
    assert ours(path) == seen == theirs(dovecot)


def test_both_at_once(dovecot: Dovecot, path: Path) -> None:
    """Each appends, flags and expunges; the locks keep them apart, and nothing is lost or twice."""
    with _wire(dovecot) as wire:
        wire.append("INBOX", b"Subject: first\r\n\r\nx\r\n", "")

    def they() -> None:
        with _wire(dovecot) as wire:
            wire("SELECT INBOX")
            for number in range(25):
                wire.append("INBOX", b"Subject: theirs%d\r\n\r\nx\r\n" % number, "(\\Seen)")
                found = wire.numbers('UID SEARCH SUBJECT "ours" NOT KEYWORD seen-by-dovecot') or []
                for uid in found:
                    wire(f"UID STORE {uid} +FLAGS.SILENT (seen-by-dovecot)", fails=True)
            wire("LOGOUT")

    def we() -> None:
        folder, box = MboxFolder(str(path), sync=False), None
        for number in range(60):
            with folder.hold():
                box = folder.assign(folder.load(box), 1)
                box = folder.append(box, [addition(b"Subject: ours%d\r\n\r\nx\r\n" % number)])
                theirs_ = [uid for uid, octets in contents(folder, box).items() if b"theirs" in octets]
                marks = {uid: Marks(8, frozenset({"seen-by-us" * 4}), recent=False) for uid in theirs_ if uid}
                box = folder.set_flags(box, marks)
                if number % 3 == 0 and box.entries[-1].uid:
                    box = folder.expunge(box, {box.entries[-1].uid})

    at_once([they, we])
    os.utime(path, (1, 1))  # Dovecot takes a file for unchanged whose size and second are those that it saw last
    seen = theirs(dovecot)
    assert seen == ours(path)
    subjects = sorted(message.octets.split(b"\r\n")[0][9:].decode() for message in seen.messages.values())
    expected = [f"theirs{n}" for n in range(25)] + [f"ours{n}" for n in range(60) if n % 3]
    assert subjects == sorted([*expected, "first"])
