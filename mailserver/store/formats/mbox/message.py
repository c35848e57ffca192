"""The octets of one message of an mbox, as clients see them.

An mbox is rewritten in place, so that nothing can be served from the file itself once the lock is given back: the
message is copied while the (shared) lock is held, a small one into memory, a big one into a file without a name.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator
from typing import Self

from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.mbox import fromline, headers, quoting
from mailserver.store.formats.mbox.entry import Entry
from mailserver.store.formats.mbox.journal import read_blocks

_IN_MEMORY = 1 << 20
_CHUNK = 1 << 17


class MboxMessage:
    """A message that was opened: `mailserver.store.content.MessageFile` for an mbox. ``size`` is RFC822.SIZE."""

    def __init__(self, fd: int, entry: Entry) -> None:
        """``fd`` is the mbox, locked. StoreError TEMPORARY when this message does not stand there any more."""
        self._data: bytes | None = None
        self._fd = -1
        head = os.pread(fd, entry.body - entry.offset, entry.offset)
        line = head[: entry.header - entry.offset]
        seen = headers.visible(head[len(line) :])
        if zlib.crc32(seen, zlib.crc32(line)) != entry.identity or not _ends(fd, entry):
            raise StoreError(Kind.TEMPORARY, "the mailbox was rewritten meanwhile")
        start = quoting.served(seen, verbatim=entry.verbatim)
        if entry.end - entry.body <= _IN_MEMORY:
            body = os.pread(fd, entry.end - entry.body, entry.body)
            self._data = start + quoting.served(body, verbatim=entry.verbatim)
            self.size = len(self._data)
        else:
            self._copy(fd, entry, start)

    def _copy(self, fd: int, entry: Entry, start: bytes) -> None:
        unquoter = quoting.Unquoter(verbatim=entry.verbatim)
        with tempfile.TemporaryFile() as copy:
            copy.write(start)
            for data in read_blocks(fd, entry.body, entry.end):
                copy.write(unquoter.convert(data))
            copy.write(unquoter.finish())
            copy.flush()
            self.size = copy.tell()
            self._fd = os.dup(copy.fileno())

    @property
    def fd(self) -> int:
        """The descriptor of a file that holds exactly these octets, -1 when they are in memory."""
        return self._fd

    def read(self) -> bytes:
        """All of it."""
        return self.read_range(0, self.size)

    def read_range(self, offset: int, count: int) -> bytes:
        """``count`` octets from ``offset``, fewer at the end."""
        if self._data is not None:
            return self._data[offset : offset + count]
        return b"".join(read_blocks(self._fd, offset, offset + count))

    def chunks(self, count: int = _CHUNK, offset: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The octets from ``offset`` to ``end``, so many at a time."""
        end = self.size if end is None else min(end, self.size)
        while offset < end and (data := self.read_range(offset, min(count, end - offset))):
            yield data
            offset += len(data)

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ends(fd: int, entry: Entry) -> bool:
    """Whether the message still ends where it did: a line end, then the next From_ line or the end of the file."""
    between = entry.next - entry.end
    there = os.pread(fd, between + len(fromline.START), entry.end)
    rest = there[between:]
    return len(there) >= between and there[:between].strip() == b"" and rest in (b"", fromline.START)
