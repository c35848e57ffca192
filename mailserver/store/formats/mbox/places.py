"""What the index remembers of an mbox: with each message where it stands, with the file what else `folder` must know.

An unchanged file of any size is opened from this alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from mailserver.store.formats.contract import Fingerprint
from mailserver.store.formats.mbox.entry import Base, Box, Entry, Marks
from mailserver.store.formats.mbox.entry import Fingerprint as FileMark
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.numbers import ModSeq, Uid
from mailserver.store.model.words import keyword_set

_RECENT, _VERBATIM, _MISLEADING = 1, 2, 4


def dump(entry: Entry) -> str:
    """The message's place, as ``Message.file``."""
    bits = _RECENT * entry.marks.recent | _VERBATIM * entry.verbatim | _MISLEADING * entry.misleading
    return " ".join(map(str, (*entry[:5], entry.check, entry.identity, bits)))


def load(message: Message) -> Entry:
    """The reverse; ValueError for what no mbox wrote."""
    offset, header, body, end, next_, check, identity, bits = map(int, message.file.split(" "))
    marks = Marks(message.flags, message.keywords, bool(bits & _RECENT))
    uid, date, size = int(message.uid), message.internaldate, message.vsize
    verbatim, misleading = bool(bits & _VERBATIM), bool(bits & _MISLEADING)
    return Entry(offset, header, body, end, next_, uid, marks, date, size, check, identity, verbatim, misleading)


def is_recent(file: str) -> bool:
    """Whether the header of the message at this place does not say that it is old."""
    return bool(int(file.rpartition(" ")[2]) & _RECENT)


def message(entry: Entry, modseq: ModSeq, savedate: int) -> Message:
    """A message of the store."""
    assert entry.uid is not None
    words = keyword_set(" ".join(sorted(entry.marks.keywords)))
    size = entry.size
    return Message(Uid(entry.uid), dump(entry), entry.marks.flags, words, modseq, entry.date, size, size, savedate)


def notes(box: Box) -> tuple[Any, ...]:
    """What is to be known of the file beside its messages."""
    pseudo = [*box.pseudo[:6], *box.pseudo[7:], box.pseudo.marks.flags] if box.pseudo is not None else None
    base = [box.base.uidvalidity, box.base.uidnext, *box.base.keywords] if box.base is not None else None
    return (base, pseudo, int(box.crlf), box.garbage, int(box.verified), int(box.certain))


def box(snapshot: Snapshot, fingerprint: Fingerprint) -> Box | None:
    """The file as the index has it; None when the index does not know enough."""
    with contextlib.suppress(ValueError, TypeError, IndexError):
        base, pseudo, crlf, garbage, verified, certain = fingerprint.notes
        entries = tuple([load(m) for m in snapshot.messages])
        return Box(
            FileMark(*fingerprint.others),
            Base(base[0], base[1], tuple(base[2:])) if base is not None else None,
            _pseudo(pseudo) if pseudo is not None else None,
            entries,
            bool(crlf),
            garbage,
            bool(verified),
            bool(certain),
        )
    return None


def _pseudo(values: Sequence[Any]) -> Entry:
    *places, flags = values
    return Entry._make([*places[:6], Marks(flags), *places[6:]])
