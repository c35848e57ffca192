"""A message on its way in: written straight into ``tmp/``, invisible until it is given its name."""

from __future__ import annotations

import os
import time

from mailserver.mail.lines import CrlfWriter
from mailserver.store.formats.maildir.filename import unique
from mailserver.store.formats.maildir.syncing import sync_file
from mailserver.store.lane import LANE

_BUFFER = 1 << 18


class Incoming:
    """Octets are stored with CRLF line ends: a bare LF becomes CRLF on the way, everything else stays.

    Write the trace fields first, then the message, then ``finish``. Whoever does not hand it to ``Mailbox.append``
    discards it; as a context manager it does so by itself.
    """

    def __init__(self, directory: str, *, sync: bool) -> None:
        """``directory`` is the folder whose ``tmp/`` is used; OSError as from open."""
        self.base = unique()
        self.path = f"{directory}/tmp/{self.base}"  # noqa: S108 - a Maildir has a tmp of its own
        self.size = 0
        self.date = 0  # the file's, once it is finished: seconds since 1970
        self._sync = sync
        self._crlf = CrlfWriter()
        self._buffer = bytearray()
        self._fd = -1
        self._finished = False

    def write(self, data: bytes) -> None:
        """Take further octets. OSError when the disk is full: then discard."""
        self._buffer += self._crlf.convert(data)
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        with LANE:
            if self._fd < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._fd = os.open(self.path, flags, 0o600)
            view = memoryview(self._buffer)
            try:
                while view:
                    view = view[os.write(self._fd, view) :]
            finally:  # else, the disk being full, `discard` cannot clear what somebody may still look at
                view.release()
        self.size += len(self._buffer)
        self._buffer.clear()

    def finish(self, internaldate: int | None = None) -> None:
        """Complete it on disk, with this date (seconds since 1970; None: now); a second call does nothing."""
        if self._finished:
            return
        self._flush()
        fd, self._fd = self._fd, -1
        try:
            if internaldate is not None:
                os.utime(fd, (time.time(), internaldate))
            self.date = int(os.fstat(fd).st_mtime) if internaldate is None else internaldate
            if self._sync:
                sync_file(fd)
        finally:
            os.close(fd)
        self.base += f",S={self.size},W={self.size}"
        self._finished = True

    def discard(self) -> None:
        """Forget it; a second call, or one after it was appended, does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._buffer.clear()
        try:
            os.unlink(self.path)
        except OSError:
            pass  # it has its name already, or was never flushed; what cannot be removed now is swept from tmp/ one day

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()
