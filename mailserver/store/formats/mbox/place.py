"""A box as text, for whoever remembers it: then an mbox that nobody changed is known again without being read.

Of a message: ``offset+header+body+end.check.identity``, each of the first four as the distance from the one before it,
the sums in hexadecimal; its unique-id in hexadecimal between ``=`` and ``.`` if it has one of its own; then letters for
what is true of it: ``v`` verbatim, ``m`` misleading, ``r`` recent. UID, flags, keywords, date and size are not in it: a
`Message` has them. Nor is ``next``: that is where the message behind it begins, which may be put there by another
process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from mailserver.store.formats.mbox.entry import Base, Box, Entry, Fingerprint, Marks
from mailserver.store.model.message import Message

_PLACE = re.compile(r"(\d+)\+(\d+)\+(\d+)\+(\d+)\.([0-9a-f]+)\.([0-9a-f]+)(?:=([0-9a-f]+)\.)?(v?)(m?)(r?)", re.ASCII)


def dump(entry: Entry) -> str:
    """Where a message is."""
    offset, header, body, end = entry[:4]
    unique_id = f"={entry.unique_id.encode().hex()}." if entry.unique_id else ""
    letters = "v" * entry.verbatim + "m" * entry.misleading + "r" * entry.marks.recent
    distances = f"{offset}+{header - offset}+{body - header}+{end - body}"
    return f"{distances}.{entry.check:x}.{entry.identity:x}{unique_id}{letters}"


def of_message(message: Message, next_: int = -1) -> Entry:
    """The entry of a message whose ``file`` is a place; ValueError when it is none. Reading it needs no ``next_``."""
    m = message
    return undump(m.file, next_, int(m.uid), m.flags, m.keywords, m.internaldate, m.vsize)


def undump(
    place: str, next_: int, uid: int | None, flags: int, keywords: frozenset[str], date: int, size: int
) -> Entry:
    """The reverse of `dump`; ValueError for what is no place."""
    found = _PLACE.fullmatch(place)
    if found is None:
        raise ValueError("not a place in an mbox")
    at, offsets = 0, []
    for distance in found.groups()[:4]:
        at += int(distance)
        offsets.append(at)
    offset, header, body, end = offsets
    marks = Marks(flags, keywords, bool(found[10]))
    check, identity = int(found[5], 16), int(found[6], 16)
    verbatim, misleading, unique_id = bool(found[8]), bool(found[9]), bytes.fromhex(found[7] or "").decode()
    return Entry(
        offset, header, body, end, next_, uid, marks, date, size, check, identity, verbatim, misleading, unique_id
    )


def unique_id(place: str) -> str:
    """Of a message that stands there, POP3's unique-id; empty when it has none of its own."""
    found = _PLACE.fullmatch(place) if "=" in place else None
    return bytes.fromhex(found[7] or "").decode() if found is not None else ""


def dump_box(box: Box) -> str:
    """Everything but the messages."""
    pseudo = box.pseudo and [dump(box.pseudo), box.pseudo.marks.flags, box.pseudo.date, box.pseudo.size]
    return json.dumps([box.fingerprint, box.base, pseudo, box.crlf, box.garbage, box.verified, box.certain])


def undump_box(text: str, messages: Sequence[Message]) -> Box | None:
    """The reverse; None for what cannot be read, which merely means that the file is."""
    try:
        numbers, base, pseudo, crlf, garbage, verified, certain = json.loads(text)
        fingerprint = Fingerprint(*numbers)
        known = Base(base[0], base[1], tuple(base[2])) if base else None
        begin, entries = fingerprint.size, []
        for message in reversed(messages):
            entries.append(entry := of_message(message, begin))
            begin = entry.offset
        hidden = undump(pseudo[0], begin, None, pseudo[1], frozenset(), *pseudo[2:]) if pseudo else None
        return Box(fingerprint, known, hidden, tuple(reversed(entries)), crlf, garbage, verified, certain)
    except (ValueError, TypeError, IndexError):
        return None
