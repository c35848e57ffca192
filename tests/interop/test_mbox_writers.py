"""Other programs and ours write into one mbox at the same moment: nothing is lost, nothing is there twice."""

from __future__ import annotations

import mailbox
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.mbox.entry import Box, Entry, Marks
from mailserver.store.formats.mbox.folder import MboxFolder
from tests.interop.serving import program, run
from tests.interop.terminal import at_once, in_tmux
from tests.mboxes import addition, contents

_FROM = b"From a@b Mon Jan  1 00:00:00 2024\n"


def _octets(name: str) -> bytes:
    return f"Subject: {name}\nMessage-ID: <{name}@example.com>\n\ntext of {name}\nFrom the writer\n".encode()


def _by_procmail(path: Path, count: int) -> None:
    """Dot lock, then fcntl."""
    recipe = path.parent / "procmailrc"
    recipe.write_text(
        f"MAILDIR={path.parent}\nDEFAULT={path}\nORGMAIL={path}\nLOGFILE={path.parent}/procmail.log\nLOCKSLEEP=1\n"
        f":0:\n{path}\n"
    )
    for number in range(count):
        run(["procmail", "-f", "a@b", recipe], path.parent, _octets(f"procmail{number}"))


def _by_shell(path: Path, count: int) -> None:
    """A script that knows the dot lock only."""
    program("lockfile")
    script = 'lockfile -1 "$1.lock" && cat >> "$1" && rm -f "$1.lock"'
    for number in range(count):
        octets = _FROM + _octets(f"shell{number}").replace(b"\nFrom ", b"\n>From ") + b"\n"
        run(["sh", "-c", script, "writer", path], path.parent, octets)


def _by_python(path: Path, count: int) -> None:
    """Python's own library: fcntl and the dot lock, and neither waits."""
    script = (
        "import mailbox, sys, time\n"
        "for n in range(int(sys.argv[2])):\n"
        "    box = mailbox.mbox(sys.argv[1], create=False)\n"
        "    while True:\n"
        "        try:\n"
        "            box.lock()\n"
        "            break\n"
        "        except mailbox.ExternalClashError:\n"
        "            time.sleep(0.003)\n"
        "    name = b'python%d' % n\n"
        "    box.add(b'Subject: ' + name + b'\\n\\ntext of ' + name + b'\\nFrom the writer\\n')\n"
        "    box.flush()\n"
        "    box.unlock()\n"
        "    box.close()\n"
    )
    run([sys.executable, "-c", script, path, str(count)], path.parent)


def _by_mutt(path: Path, count: int) -> None:
    """mutt copies message after message: fcntl, then the dot lock."""
    source = path.parent / "source"
    source.write_bytes(
        b"".join(_FROM + _octets(f"mutt{n}").replace(b"\nFrom ", b"\n>From ") + b"\n" for n in range(count))
    )
    (path.parent / "muttrc").write_text(
        f"set folder={path.parent} confirmappend=no confirmcreate=no copy=no wait_key=no mark_old=no\n"
        "macro index Z '<copy-message>=mbox<enter><next-entry>'\n"
    )
    push = "push " + "Z" * count + "<exit>"
    in_tmux(path.parent, ["mutt", "-F", str(path.parent / "muttrc"), "-f", str(source), "-e", push])


class Ours:
    """This program's hands on the file, each in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.folder = MboxFolder(str(path), sync=False)
        self.box: Box | None = None
        self.expunged: list[str] = []
        self.done = threading.Event()
        self.refusals: set[Kind] = set()

    def _load(self) -> Box:
        self.box = self.folder.assign(self.folder.load(self.box), 4711)
        return self.box

    def append(self, path: Path, count: int) -> None:
        """Through an object of its own, as another process has."""
        folder = MboxFolder(str(path), sync=False)
        for number in range(count):
            with folder.hold():
                box = folder.assign(folder.load(), 4711)
                folder.append(box, [addition(_octets(f"ours{number}").replace(b"\n", b"\r\n"))])
            self.done.wait(0.01)

    def change(self) -> None:
        """Flags, and every fourth message goes; until the others are done."""
        while not self.done.wait(0.002):
            with self.folder.hold():
                box = self._load()
                marks = {e.uid: Marks(8, frozenset({"k" * 99}), False) for e in box.entries if e.uid and e.uid % 3 == 0}
                box = self.folder.set_flags(box, marks)
                doomed = {e.uid for e in box.entries if e.uid and e.uid % 4 == 0}
                self.expunged += _names([octets for uid, octets in contents(self.folder, box).items() if uid in doomed])
                self.box = self.folder.expunge(box, doomed)

    def read(self) -> None:
        """Every message, without the lock that excludes writers."""
        while not self.done.wait(0.002):
            box = self.box
            for entry in box.entries if box else ():
                self._read(entry)

    def _read(self, entry: Entry) -> None:
        try:
            message = self.folder.open(entry)
        except StoreError as error:
            self.refusals.add(error.kind)
            return
        with message:
            octets = message.read()
        (name,) = _names([octets])
        assert octets.endswith(f"\r\n\r\ntext of {name}\r\nFrom the writer\r\n".encode())


def _names(messages: list[bytes]) -> list[str]:
    found = [re.search(rb"^Subject: (\w+)\r\n", octets, re.M) for octets in messages]
    return [match[1].decode() for match in found if match]


@pytest.mark.parametrize("by", [_by_procmail, _by_mutt])
def test_all_at_once(tmp_path: Path, by: Callable[[Path, int], None]) -> None:
    """Not procmail with mutt: each of them holds one lock while it waits for the other."""
    path = tmp_path / "mbox"
    path.touch()
    ours = Ours(path)
    each: dict[Callable[[Path, int], None], int] = {by: 8, _by_shell: 4, _by_python: 25, ours.append: 60}

    def writers() -> None:
        try:
            at_once([lambda b=by, c=count: b(path, c) for by, count in each.items()])  # type: ignore[misc]
        finally:
            ours.done.set()

    at_once([writers, ours.change, ours.read])
    with ours.folder.hold():
        box = ours.folder.assign(ours.folder.load(), 1)
        there = _names(list(contents(ours.folder, box).values()))
        uids = [entry.uid for entry in box.entries]
    names = {_by_procmail: "procmail", _by_shell: "shell", _by_python: "python", _by_mutt: "mutt"}
    expected = Counter(f"{names.get(by, 'ours')}{n}" for by, count in each.items() for n in range(count))
    assert Counter(there + ours.expunged) == expected
    assert ours.expunged
    assert ours.refusals <= {Kind.TEMPORARY}
    assert uids == sorted(uids)
    assert box.base is not None
    assert box.base.uidvalidity == 4711
    assert box.uidnext == 1 + sum(each.values())
    left = {p.name for p in tmp_path.iterdir()}
    assert not [name for name in left if ".lock" in name or "journal" in name]


def test_they_read_what_we_wrote(tmp_path: Path) -> None:
    """formail and Python find the same messages, also behind one without a line end, and mutt's flags are ours."""
    path = tmp_path / "mbox"
    path.touch()
    folder = MboxFolder(str(path), sync=False)
    texts = [
        b"Subject: one\r\n\r\nFrom me\r\n\r\nFrom a@b Mon Jan  1 00:00:00 2024\r\nx: y\r\n",
        b"Subject: two\r\n\r\nx\r\n",
    ]
    with folder.hold():
        box = folder.assign(folder.load(), 4711)
        box = folder.append(box, [addition(text, Marks(10, frozenset({"w"}), False)) for text in [*texts, *texts]])
        box = folder.append(box, [addition(b"Subject: torn\r\n\r\nno end"), addition(texts[1])])
    found = run(["formail", "-e", "-s", "formail", "-cXSubject:"], tmp_path, path.read_bytes()).stdout
    assert found.split() == b"Subject: one Subject: two Subject: one Subject: two Subject: torn Subject: two".split()
    box_ = mailbox.mbox(path)
    try:
        assert [message["Subject"] for message in box_] == ["one", "two", "one", "two", "torn", "two"]
        assert box_[0].get_flags() == "ROF"
    finally:
        box_.close()


def test_what_mutt_does_is_seen(tmp_path: Path) -> None:
    """mutt rewrites the file in place: flags, and a message deleted. UIDs stay."""
    path = tmp_path / "mbox"
    path.touch()
    folder = MboxFolder(str(path), sync=False)
    with folder.hold():
        box = folder.assign(folder.load(), 4711)
        text = b"From: a@b\r\nSubject: %d\r\n\r\nFrom here\r\n>From there\r\n"
        box = folder.append(box, [addition(text % n, Marks(recent=False)) for n in range(5)])
        before = contents(folder, box)
    (tmp_path / "muttrc").write_text(
        f"set folder={tmp_path} delete=yes confirmappend=no mark_old=no copy=no move=no wait_key=no\n"
        "set sort=mailbox-order\n"
    )
    push = "push 2<enter>F3<enter>d<quit>"
    in_tmux(tmp_path, ["mutt", "-F", str(tmp_path / "muttrc"), "-f", str(path), "-e", push])
    with folder.hold():
        box = folder.load(box)
        assert not box.unwritten
        assert [entry.uid for entry in box.entries] == [1, 2, 4, 5]
        assert [entry.uid for entry in box.entries if entry.marks.flags & 2] == [2]
        assert b"\nContent-Length: " in path.read_bytes()
        after = contents(folder, box)
    del before[3]
    assert {uid: re.sub(rb"Lines: \d+\r\n", b"", octets) for uid, octets in after.items()} == before


@pytest.mark.parametrize("kind", ["lockfile", "mutt_dotlock"])
def test_their_dot_locks_hold_us_off(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mbox"
    path.touch()
    if kind == "lockfile":
        run(["lockfile", "-1", "-r", "1", f"{path}.lock"], tmp_path)
    else:
        run(["mutt_dotlock", "-r", "1", path], tmp_path)
    folder = MboxFolder(str(path), sync=False)
    with pytest.raises(StoreError) as refused, folder.hold(0.05):
        pass
    assert refused.value.kind is Kind.IN_USE
    os.unlink(f"{path}.lock")
    with folder.hold(0.05):
        if kind == "lockfile":
            run(["lockfile", "-1", "-r", "1", f"{path}.lock"], tmp_path, accept=(73,))
        else:
            run(["mutt_dotlock", "-r", "1", path], tmp_path, accept=(3,))
