"""Change counters in shared memory: did anything happen to this mailbox, without a system call.

A small file in ``/dev/shm``, mapped by every process of this machine that serves the same mail directory. A mailbox
has a slot by the hash of its path. A writer puts a value there that was never there before, after its commit and under
the mailbox's lock; a reader compares with the value it saw. Two mailboxes in one slot cost a needless look, no more.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import stat
import tempfile
import time

_SLOTS = 1 << 15
_SHARED = "/dev/shm"  # noqa: S108 - opened without following links, owner checked
_counter = itertools.count()


class Counters:
    """The mapped file. ``key`` names the mail directory: the same for all processes that shall see each other."""

    def __init__(self, key: str) -> None:
        digest = hashlib.sha256(os.path.realpath(key).encode("utf-8", "surrogateescape")).hexdigest()[:24]
        base = _SHARED if os.path.isdir(_SHARED) else tempfile.gettempdir()
        self.path = f"{base}/mailserver-{os.geteuid()}-{digest}"
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            st = os.fstat(fd)
            if st.st_uid != os.geteuid() or not stat.S_ISREG(st.st_mode):
                raise PermissionError(1, "belongs to another user", self.path)
            if st.st_size < _SLOTS * 8:
                os.ftruncate(fd, _SLOTS * 8)
            self._map = mmap.mmap(fd, _SLOTS * 8)
        finally:
            os.close(fd)
        self._slots = memoryview(self._map).cast("Q")

    def slot(self, path: str) -> int:
        """The slot of a mailbox directory."""
        digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=4).digest()
        return int.from_bytes(digest, "little") % _SLOTS

    def read(self, slot: int) -> int:
        """The value that stands there."""
        return self._slots[slot]

    def advance(self, slot: int) -> int:
        """Put a new value; returns it."""
        value = (time.monotonic_ns() << 16 | (os.getpid() * 31 + next(_counter)) & 0xFFFF) & 0xFFFFFFFFFFFFFFFF
        self._slots[slot] = value
        return value

    def close(self) -> None:
        """Unmap; the file stays for the others."""
        self._slots.release()
        self._map.close()
