"""A box remembered as text is the box."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailserver.store.formats.mbox import place
from mailserver.store.formats.mbox.entry import Entry, Marks
from mailserver.store.model.message import Message
from mailserver.store.model.numbers import ModSeq, Uid
from tests.mboxes import addition, opened


def _message(entry: Entry) -> Message:
    assert entry.uid is not None
    flags, words, _ = entry.marks
    return Message(Uid(entry.uid), place.dump(entry), flags, words, ModSeq(1), entry.date, entry.size, entry.size)


def test_what_was_remembered_is_known_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the file is read."""
    path = tmp_path / "mbox"
    path.write_bytes(b"From a@b Mon Jan  1 00:00:00 2024\nSubject: 1\nContent-Length: 5\n\ntext\n\n")
    folder, _ = opened(path)
    with folder.hold():
        box = folder.load()
        box = folder.append(
            box, [addition(b"Subject: %d\r\n\r\nx\r\n" % n, Marks(n, frozenset({"w"}))) for n in range(5)]
        )
        emptied = folder.expunge(box, {1, 2, 3, 4, 5, 6})
    assert emptied.pseudo is not None
    assert place.undump_box(place.dump_box(emptied), ()) == emptied
    assert box.entries[0].verbatim
    assert tuple(place.of_message(_message(entry), entry.next) for entry in box.entries) == box.entries
    with folder.hold():
        box = folder.append(folder.load(emptied), [addition(b"Subject: again\r\n\r\nx\r\n")])
    text, messages = place.dump_box(box), [_message(entry) for entry in box.entries]

    def refuse(*_: object) -> bytes:
        raise AssertionError("the file is read")

    with folder.hold():
        with monkeypatch.context() as patched:
            patched.setattr(os, "pread", refuse)
            again = folder.load(place.undump_box(text, messages))
        assert again == box
        assert folder.expunge(again, {7}).uidnext == 8


@pytest.mark.parametrize("text", ["", "x", "[]", "[1,2,3,4,5,6,7]", "null", '[[1],null,["x"],0,0,0,0]'])
def test_what_cannot_be_read_is_nothing(text: str) -> None:
    assert place.undump_box(text, ()) is None
    with pytest.raises(ValueError, match="not a place"):
        place.undump(text, 1, 1, 0, frozenset(), 0, 0)
