"""What is in an mbox that is open: read as a whole, or only as far as something may have changed."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from mailserver.store.formats.mbox import fromline, headers, parser
from mailserver.store.formats.mbox.entry import Base, Box, Entry, Fingerprint
from mailserver.store.formats.mbox.parser import Numbering, Window

_by_offset = attrgetter("offset")


def load(fd: int, now: Fingerprint, known: Box | None, *, verify: bool) -> Box:
    """As `MboxFolder.load`, the fingerprint being another one, or not to be trusted."""
    window = _window(fd, now)
    if known is None or now[:2] != known.fingerprint[:2] or now.size < known.fingerprint.size:
        return _whole(window, now)
    if not known.entries or (now.size > known.fingerprint.size and not _grew_behind(window, known)):
        return _whole(window, now)
    every = verify or now.size == known.fingerprint.size
    entries = range(len(known.entries)) if every else sorted({0, len(known.entries) - 1})
    box = _refreshed(window, known, entries, trusted=False)
    if box is None:
        return _whole(window, now)
    return _continued(window, replace(box, verified=every), now, known.fingerprint.size)


def follow(fd: int, now: Fingerprint, box: Box, moved: int, touched: Sequence[int] = ()) -> Box:
    """After a change of our own: from ``moved`` on everything is new, and headers at ``touched`` were changed."""
    window = _window(fd, now)
    changed = sorted({bisect_right(box.entries, at, key=_by_offset) - 1 for at in touched if at < moved})
    kept = bisect_left(box.entries, moved, key=attrgetter("next"))  # what touches the place is read again
    if not kept:
        return _whole(window, now)
    shorter = replace(box, entries=box.entries[:kept])
    again = _refreshed(window, shorter, [i for i in changed if i < kept], trusted=True)
    if again is None:
        return _whole(window, now)
    return _continued(window, again, now, again.entries[-1].next)


def _window(fd: int, now: Fingerprint) -> Window:
    return Window(lambda offset, count: os.pread(fd, count, offset), now.size)


def _whole(window: Window, now: Fingerprint) -> Box:
    start = 0
    if window.from_line(0) is None:
        found = parser.next_from(window, 0, window.size)
        start = found if found >= 0 else window.size
    crlf = (window.from_line(start) or (b"",))[0].endswith(b"\r\n")
    numbering = Numbering()
    pseudo: Entry | None = None
    entries: list[Entry] = []
    for entry, hidden in parser.parse(window, start, numbering):
        if hidden and pseudo is None and not entries:
            pseudo = entry
        else:
            entries.append(entry)
    return Box(now, numbering.base, pseudo, tuple(entries), crlf, start, True)


def _continued(window: Window, box: Box, now: Fingerprint, start: int) -> Box:
    """The messages of the box, which end at ``start``, and those that stand there."""
    last = box.entries[-1]
    numbering = Numbering(box.base, last.uid or 0, first=False, broken=last.uid is None)
    added = [entry for entry, _ in parser.parse(window, start, numbering)]
    return replace(box, fingerprint=now, entries=(*box.entries, *added))


def _grew_behind(window: Window, known: Box) -> bool:
    """Whether what is new begins with a From_ line where the file ended, and no Content-Length may mean more now."""
    end = known.fingerprint.size
    last = known.entries[-1]
    if last.misleading or last.next != end or window.get(end - 1, end) != b"\n":
        return False
    return window.from_line(end) is not None


def _refreshed(window: Window, box: Box, indexes: Sequence[int] | range, *, trusted: bool) -> Box | None:
    """The box with these headers, and the one that has the base, read again; None when more than flags is different.

    ``trusted``: the UIDs that stand there are ours.
    """
    entries = list(box.entries)
    base, pseudo = box.base, box.pseudo
    if pseudo is not None:
        again = _header(window, pseudo, first=True, trusted=True)
        if again is None:
            return None
        pseudo, base = again
    for i in {0, *indexes} if pseudo is None else indexes:
        first = i == 0 and pseudo is None
        again = _header(window, entries[i], first=first, trusted=trusted)
        if again is None:
            return None
        entries[i] = again[0]
        base = again[1] if first else base
    if (base is None) is not (box.base is None) or (base and box.base and base.uidvalidity != box.base.uidvalidity):
        return None
    return replace(box, base=base, pseudo=pseudo, entries=tuple(entries))


def _header(window: Window, entry: Entry, *, first: bool, trusted: bool) -> tuple[Entry, Base | None] | None:
    """A message whose header is read again, and the base if it has it; None when more than its flags is different."""
    head = window.get(entry.offset, entry.body)
    check = zlib.crc32(head)
    if check == entry.check and not first:
        return entry, None
    header = head[entry.header - entry.offset :]
    books = headers.read(header)
    if check == entry.check:
        return entry, books.base
    seen = zlib.crc32(headers.visible(header), zlib.crc32(head[: entry.header - entry.offset]))
    if seen != entry.identity or not head.startswith(fromline.START):
        return None
    if min(parser.header_end(window, entry.header, entry.next), entry.end) != entry.body:
        return None
    uid = books.uid if books.uid_behind_base or not first else None
    if not (uid == entry.uid or (trusted and entry.uid is None)):
        return None
    measured = books.content_length == entry.end - entry.body
    if entry.verbatim is not (measured and not books.counted_by_mutt) and (entry.verbatim or measured):
        return None
    misleading = books.content_length is not None and not measured
    again = entry._replace(uid=uid, marks=books.marks, check=check, misleading=misleading, unique_id=books.unique_id)
    return again, books.base
