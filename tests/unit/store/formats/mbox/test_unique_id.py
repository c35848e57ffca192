"""``X-UIDL``: behind ``X-UID`` a unique-id of ours, which nobody sees; elsewhere a part of the message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailserver.store.formats.mbox import headers, place
from mailserver.store.formats.mbox.addition import Addition
from mailserver.store.formats.mbox.entry import Marks
from mailserver.store.formats.mbox.folder import MboxFolder
from tests.mboxes import Octets, check, contents, opened

FROM = b"From a@b Mon Jan  1 00:00:00 2024\n"


@pytest.mark.parametrize(
    ("fields", "unique_id", "shown"),
    [
        (b"X-UID: 1\nX-UIDL: abc\n", "abc", b""),
        (b"X-UID: 1   \r\nX-UIDL:abc \r\nA: b\r\n", "abc", b"A: b\r\n"),
        (b"x-uid: 1\nx-uidl: !~'\"+\n", "!~'\"+", b""),
        (b"X-UIDL: abc\nX-UID: 1\n", "", b"X-UIDL: abc\n"),
        (b"X-UID: 1\nStatus: O\nX-UIDL: abc\n", "", b"X-UIDL: abc\n"),
        (b"X-UID: 1\nX-UIDL: two words\n", "", b"X-UIDL: two words\n"),
        (b"X-UID: 1\nX-UIDL: abc\n def\n", "", b"X-UIDL: abc\n def\n"),
        (b"X-UID: 1\nX-UIDL: " + b"x" * 256 + b"\n", "", b"X-UIDL: " + b"x" * 256 + b"\n"),
        (b"X-UID: 1\nX-UIDL: \xe9\n", "", b"X-UIDL: \xe9\n"),
        (b"X-UID: 1\nX-UIDL:\n", "", b"X-UIDL:\n"),
        (b"X-UID: 1\nX-UIDLE: abc\n", "", b"X-UIDLE: abc\n"),
        (b"X-UID: 1\nX-UIDL: abc\nX-UIDL: def\n", "abc", b"X-UIDL: def\n"),
        (b"X-UID: 1\nX-UIDL: abc", "abc", b""),
    ],
)
def test_which_are_ours(fields: bytes, unique_id: str, shown: bytes) -> None:
    assert headers.read(fields).unique_id == unique_id
    assert headers.read(fields).uid == 1
    assert headers.visible(fields) == shown


def test_it_stays_with_its_message(tmp_path: Path) -> None:
    folder, box = opened(tmp_path / "mbox")
    message = b"X-UIDL: the.message's own\r\nSubject: x\r\n\r\nbody\r\n"
    with folder.hold():
        box = folder.append(folder.load(box), [Addition(Octets(message), unique_id=name) for name in ("a=", "", "c.r")])
        for uids in ({1, 2, 3}, {2}):
            marks = {uid: Marks(31, frozenset({f"{uid}" * 70})) for uid in uids}
            box = folder.set_flags(box, marks)
            check(folder, box)
        box = folder.rebase(box, 99, 20)
        assert [entry.unique_id for entry in box.entries] == ["a=", "", "c.r"]
        box = folder.expunge(box, {1})
        check(folder, box)
        assert [entry.unique_id for entry in box.entries] == ["", "c.r"]
        assert list(contents(folder, box).values()) == [message, message]
        for entry in box.entries:
            text = place.dump(entry)
            assert place.unique_id(text) == entry.unique_id
            assert place.undump(text, entry.next, entry.uid, *entry.marks[:2], entry.date, entry.size) == entry
            assert text.endswith("r") is entry.marks.recent
    assert re.findall(rb"^X-UID: \d+\s*\nX-UIDL: (.+)\n", (tmp_path / "mbox").read_bytes(), re.M) == [b"c.r"]


def test_another_program_writes_one_or_takes_it_away(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"X-IMAPbase: 7 0000000002\nX-UID: 1\nSubject: x\n\nbody\n\n")
    folder = MboxFolder(str(path), sync=False)
    with folder.hold():
        box = folder.load()
        assert box.entries[0].unique_id == ""
    path.write_bytes(path.read_bytes().replace(b"X-UID: 1\n", b"X-UID: 1\nX-UIDL: abc\n"))
    with folder.hold():
        box = folder.load(box)
        assert (box.entries[0].uid, box.entries[0].unique_id) == (1, "abc")
    path.write_bytes(path.read_bytes().replace(b"X-UIDL: abc\n", b"X-UIDL: xyz\n"))
    with folder.hold():
        box = folder.load(box)
        assert box.entries[0].unique_id == "xyz"
        assert list(contents(folder, box).values()) == [b"Subject: x\r\n\r\nbody\r\n"]
