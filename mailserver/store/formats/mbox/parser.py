"""Where each message of an mbox begins and ends, and what its header says. Reads through a function, opens nothing.

A message ends where the next From_ line stands at the start of a line, an empty line before it or not; the line end
before a From_ line, and at the end of the file, belongs to neither message. A Content-Length is believed only if the
body that it measures ends there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from mailserver.store.formats.mbox import fromline, headers, quoting
from mailserver.store.formats.mbox.entry import Base, Entry

_BLOCK = 1 << 20
_SEPARATORS = (b"", b"\n", b"\r\n")

Read = Callable[[int, int], bytes]  # offset, count -> octets; fewer only at the end


class Window:
    """A file through one block of memory."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self.size = size
        self._start = 0
        self._block = b""
        self._from_line: tuple[int, bytes, int] = (-1, b"", 0)  # the last one that was found, with its date

    def get(self, start: int, end: int) -> bytes:
        """The octets from ``start`` to ``end``, fewer at the end of the file."""
        end = min(end, self.size)
        if start >= end:
            return b""
        if start < self._start or end > self._start + len(self._block):
            self._block, self._start = self._read(start, max(_BLOCK, end - start)), start
        return self._block[start - self._start : end - self._start]

    def find(self, needle: bytes, start: int, end: int) -> int:
        """Offset of the first ``needle`` that lies within ``start`` and ``end``, -1 when there is none."""
        end = min(end, self.size)
        while start + len(needle) <= end:
            if not self._start <= start <= self._start + len(self._block) - len(needle):
                self.get(start, start + len(needle))
                if len(self._block) < len(needle):
                    return -1
            at = self._block.find(needle, start - self._start, end - self._start)
            if at >= 0:
                return self._start + at
            start = self._start + len(self._block) - len(needle) + 1
        return -1

    def from_line(self, at: int) -> tuple[bytes, int] | None:
        """The line at this offset, with its line end, and its date, if it is a From_ line."""
        if self._from_line[0] != at:
            line = self.get(at, at + fromline.LONGEST)
            date = fromline.date(line)
            if date is None:
                return None
            self._from_line = (at, line[: line.find(b"\n") + 1 or len(line)], date)
        return self._from_line[1:]

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The octets from ``start`` to ``end``, block by block."""
        while start < end and (data := self.get(start, min(end, start + _BLOCK))):
            yield data
            start += len(data)


def next_from(window: Window, start: int, end: int) -> int:
    """Offset of the first From_ line whose preceding line end is at ``start`` or behind it, and it before ``end``."""
    while (at := window.find(b"\nFrom ", start, end)) >= 0:
        if window.from_line(at + 1) is not None:
            return at + 1
        start = at + 1
    return -1


class Numbering:
    """Which UIDs in the file are believed, message after message.

    As c-client and Dovecot do: X-IMAPbase counts in the first message only; a UID counts when it is above the one
    before it and was given already, or is the very next to be given. Behind a message without a UID no other can have
    one that is above it, so all that follow get new ones.
    """

    def __init__(
        self, base: Base | None = None, previous: int = 0, *, first: bool = True, broken: bool = False
    ) -> None:
        self.base = base
        self._first = first
        self._broken = broken
        self._previous = previous
        self._next = max(base.uidnext if base else 1, previous + 1)

    def take(self, books: headers.Books) -> int | None:
        """The UID of the next message; None when it has none. For the first message, whatever it is, learn the base."""
        uid = books.uid
        if self._first:
            self.base = books.base
            self._next = books.base.uidnext if books.base else 1
            if not books.uid_behind_base:
                uid = None
        self._first = False
        if books.pseudo:
            return None
        if self.base is None or self._broken or uid is None or not self._previous < uid <= self._next:
            self._broken = True
            return None
        self._previous, self._next = uid, max(self._next, uid + 1)
        return uid


def header_end(window: Window, start: int, end: int) -> int:
    """Offset behind the empty line that ends the header at ``start``; ``end`` when there is none before it."""
    limit = min(end, start + headers.LONGEST)
    head = window.get(start, limit)
    if head.startswith((b"\n", b"\r\n")):
        return start + head.index(b"\n") + 1
    ends = [at + len(mark) for mark in (b"\n\n", b"\n\r\n") if (at := head.find(mark)) >= 0]
    return start + min(ends, default=len(head))


def _separator(window: Window, next_: int, start: int, *, crlf: bool) -> int:
    """Octets of the line end before ``next_`` that belongs to no message; nothing before ``start`` is looked at.

    It is CRLF only where the From_ line ends with it: elsewhere the CR is the message's.
    """
    tail = window.get(max(start, next_ - 2), next_)
    return 2 if crlf and tail == b"\r\n" else 1 if tail.endswith(b"\n") else 0


def _measured(window: Window, body: int, length: int) -> int:
    """Offset of what follows a body of this length, if it ends there: the next From_ line or the file's end; or -1."""
    at = body + length
    if at > window.size:
        return -1
    rest = window.get(at, at + 2)
    if at + len(rest) == window.size and rest in _SEPARATORS:
        return window.size
    for separator in _SEPARATORS[1:]:
        if rest.startswith(separator) and window.from_line(at + len(separator)) is not None:
            return at + len(separator)
    return -1


def parse(window: Window, offset: int, numbering: Numbering) -> Iterator[tuple[Entry, bool]]:
    """Each message from the From_ line at ``offset`` on; True with the one that is the pseudo message."""
    while offset < window.size:
        entry, pseudo = message(window, offset, numbering)
        yield entry, pseudo
        offset = entry.next


def message(window: Window, offset: int, numbering: Numbering) -> tuple[Entry, bool]:
    """The message whose From_ line is at ``offset``, and whether it is the pseudo message."""
    line, date = window.from_line(offset) or (b"", 0)
    header = offset + len(line)
    cut = next_from(window, header - 1, min(window.size, header + headers.LONGEST))
    body = header_end(window, header, cut if cut >= 0 else window.size)
    books = headers.read(window.get(header, body))
    next_ = -1
    if books.content_length is not None and (cut < 0 or cut >= body):
        next_ = _measured(window, body, books.content_length)
    measured = next_ >= 0
    if measured:
        end = body + (books.content_length or 0)
    else:
        next_ = cut if cut >= 0 else next_from(window, max(body - 1, header - 1), window.size)
        next_ = next_ if next_ >= 0 else window.size
        end = next_ - _separator(window, next_, header, crlf=line.endswith(b"\r\n"))
        body = min(body, end)
    return _entry(window, (offset, header, body, end, next_), date, books, measured, numbering), books.pseudo


def _entry(
    window: Window,
    offsets: tuple[int, int, int, int, int],
    date: int,
    books: headers.Books,
    measured: bool,
    numbering: Numbering,
) -> Entry:
    offset, header, body, end, _ = offsets
    head = window.get(offset, body)
    line, seen = head[: header - offset], headers.visible(head[header - offset :])
    verbatim = measured and (not books.counted_by_mutt or _has_raw_from(window, body, end))
    size = len(quoting.served(seen, verbatim=verbatim)) + served_size(window, body, end, verbatim=verbatim)
    return Entry(
        *offsets,
        numbering.take(books),
        books.marks,
        date,
        size,
        zlib.crc32(head),
        zlib.crc32(seen, zlib.crc32(line)),
        verbatim,
        books.content_length is not None and not measured,
        books.unique_id,
    )


def _has_raw_from(window: Window, start: int, end: int) -> bool:
    if window.get(start, start + len(fromline.START)) == fromline.START:
        return True
    return window.find(b"\nFrom ", start, end) >= 0


def served_size(window: Window, start: int, end: int, *, verbatim: bool) -> int:
    """Octets that clients get for a body that lies there."""
    if end - start <= _BLOCK:
        data = window.get(start, end)
        quoted = 0 if verbatim else quoting.quoted_lines(data)
        return len(data) + data.count(b"\n") - data.count(b"\r\n") - quoted
    unquoter = quoting.Unquoter(verbatim=verbatim)
    size = sum(len(unquoter.convert(data)) for data in window.blocks(start, end))
    return size + len(unquoter.finish())
