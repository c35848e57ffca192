"""The octets of one message of an mbox, as clients see them.

An mbox is rewritten in place, so that nothing can be served from the file itself once the lock is given back: the
message is copied while the (shared) lock is held, a small one into memory, a big one into a file without a name.
"""

from __future__ import annotations

import os
import tempfile
import zlib

from mailserver.store.content import Held
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.mbox import fromline, headers, quoting
from mailserver.store.formats.mbox.entry import Entry
from mailserver.store.formats.mbox.journal import read_blocks

_IN_MEMORY = 1 << 20


class MboxMessage(Held):
    """A message that was opened: `mailserver.store.content.MessageFile` for an mbox. ``size`` is RFC822.SIZE."""

    def __init__(self, fd: int, entry: Entry) -> None:
        """``fd`` is the mbox, locked. StoreError TEMPORARY when this message does not stand there any more."""
        self._data = None
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


def _ends(fd: int, entry: Entry) -> bool:
    """Whether the message still ends where it did: at most a line end, then the next From_ line or the file's end."""
    there = os.pread(fd, 2 + len(fromline.START), entry.end)
    return any(there == between or there.startswith(between + fromline.START) for between in (b"", b"\n", b"\r\n"))
