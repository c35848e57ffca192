"""A change of an mbox in place that no crash leaves half done.

The file keeps its inode, for others have it open; so what shall stand in it is first written to a journal beside it
(``.<file>.mailserver-journal``), synced, given its name, and only then copied into the mbox. Whoever takes the lock
next and finds a journal copies it again, which does no harm however often it is done, or throws it away when the mbox
was not touched yet.

A journal holds patches: octets that replace as many others, and last, perhaps, a new end of the file, shorter or longer
than the old one. A longer file gets its new size before anything is copied, a shorter one after everything was. So the
size tells how far it came, and what another program appended in between: it lies behind the old size or behind the new
one and is kept.

A journal is copied only onto what it was made for. It has a sum for each sector (512 octets: what a disk writes whole)
that it replaces, and each must hold either what was there or what shall be there. If another program rewrote
the half-changed file, the journal is put aside under another name and said so in the log: a person must look, and
nothing is lost.

Layout: magic, inode, old size, new size, number of patches; for each its offset, new length, old length; the new octets
of all; the sums of all sectors that are replaced; a sum over what is cut off at the end; a sum over everything.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mailserver.ops import log as logging
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.syncing import sync_path

_log = logging.get("store")
_MAGIC = b"MBOXJRN1"
_TOP = struct.Struct(">8sQQQI")
_PATCH = struct.Struct(">QQQ")
_REST = struct.Struct(">I")
_DIGEST = 32
_BLOCK = 1 << 20
SECTOR = 512

Piece = bytes | tuple[int, int]  # octets, or from where to where they stand in the mbox now


@dataclass(frozen=True, slots=True)
class Patch:
    """From ``offset`` on ``old`` octets become ``new`` ones; only the last patch, which ends the file, may differ."""

    offset: int
    old: int
    pieces: tuple[Piece, ...]

    @property
    def new(self) -> int:
        """How many octets there will be."""
        return sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in self.pieces)


def path_of(mbox: str) -> str:
    """Where the journal of an mbox lies."""
    directory, name = os.path.split(mbox)
    return os.path.join(directory, f".{name}.mailserver-journal")


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write every octet."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def read_blocks(fd: int, start: int, end: int) -> Iterator[bytes]:
    """The octets from ``start`` to ``end``, block by block; fewer when the file ends before."""
    while start < end and (data := os.pread(fd, min(_BLOCK, end - start), start)):
        yield data
        start += len(data)


class Journal:
    """The journal of the mbox that is open as ``fd``, whose lock is held; ``busy`` is called now and then."""

    def __init__(self, mbox: str, fd: int, *, sync: bool, busy: Callable[[], None] = lambda: None) -> None:
        self.path = path_of(mbox)
        self._fd = fd
        self._sync = sync
        self._busy = busy

    def change(self, patches: Iterable[Patch]) -> None:
        """Make these changes, which do not overlap and are in order. OSError: nothing, or the next holder finishes."""
        patches = list(patches)
        if not patches:
            return
        self._write(patches)
        written = _Written(self.path)
        with contextlib.closing(written):
            if written.new_size > written.old_size:
                self._extend(written)
            self._copy(written)
        self._remove()

    def recover(self) -> None:
        """Finish or throw away what somebody could not finish. To be called whenever the lock was taken."""
        with contextlib.suppress(FileNotFoundError):  # it never got its name: nothing was touched
            os.unlink(self.path + ".tmp")
        try:
            mine = os.lstat(self.path)
        except FileNotFoundError:
            return
        if mine.st_uid not in (os.geteuid(), os.fstat(self._fd).st_uid):
            raise StoreError(Kind.NO_PERMISSION, "the mailbox has a journal that somebody else wrote")
        try:
            written = _Written(self.path)
        except ValueError as error:
            self._put_aside(str(error))
            return
        with contextlib.closing(written):
            done = self._recover(written)
        if done:
            self._remove()

    def _recover(self, written: _Written) -> bool:
        """True: the journal is of no use any more."""
        found = os.fstat(self._fd)
        if found.st_ino != written.inode:
            self._put_aside("it is of another file")
            return False
        growing = written.new_size > written.old_size
        shrinking = written.new_size < written.old_size
        if growing and not self._extended(written, found.st_size):
            return True
        if shrinking and self._cut(written, found.st_size):
            return self._copied(written) or self._contradicted()
        if found.st_size < max(written.old_size, written.new_size) or not self._fits(written):
            return self._contradicted()
        appended = found.st_size - written.old_size if shrinking else 0
        _log.warning("mbox-recovered", path=self.path, octets=sum(patch.new for patch in written.patches))
        if not appended:
            self._copy(written)
            return True
        self._copy(written, cut=False)
        # the new end is there, then what is left of the old one, then what was appended: close the gap
        self.change([Patch(written.new_size, found.st_size - written.new_size, ((written.old_size, found.st_size),))])
        return False  # it was replaced by that of the last change, and removed with it

    # -- writing

    def _write(self, patches: list[Patch]) -> None:
        found = os.fstat(self._fd)
        last = patches[-1]
        size = last.offset + last.new if last.new != last.old else found.st_size
        if self._sync:  # or the disk may hold, after a crash, what is older than what the sums are of
            os.fsync(self._fd)
        temporary = self.path + ".tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            digest = hashlib.blake2b(digest_size=_DIGEST)
            for data in self._content(patches, found.st_ino, found.st_size, size):
                digest.update(data)
                _write_on(fd, data)
                self._busy()
            _write_on(fd, digest.digest())
            if self._sync:
                os.fsync(fd)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)
        os.rename(temporary, self.path)
        if self._sync:
            sync_path(os.path.dirname(self.path) or ".")

    def _content(self, patches: list[Patch], inode: int, old_size: int, new_size: int) -> Iterator[bytes]:
        yield _TOP.pack(_MAGIC, inode, old_size, new_size, len(patches))
        yield b"".join(_PATCH.pack(patch.offset, patch.new, patch.old) for patch in patches)
        for patch in patches:
            for piece in patch.pieces:
                if isinstance(piece, bytes):
                    yield piece
                else:
                    yield from read_blocks(self._fd, *piece)
        for patch in patches:
            yield _sector_sums(self._fd, patch.offset, patch.offset + min(patch.new, patch.old))
        yield _REST.pack(_sum(self._fd, new_size, old_size))

    def _extend(self, written: _Written) -> None:
        try:
            os.ftruncate(self._fd, written.new_size)
            os.posix_fallocate(self._fd, written.old_size, written.new_size - written.old_size)
        except OSError:
            os.ftruncate(self._fd, written.old_size)
            self._remove()
            raise
        if self._sync:
            os.fsync(self._fd)  # octets must not be on disk before the size, for it says that they may be

    def _copy(self, written: _Written, *, cut: bool = True) -> None:
        for offset, data in written.octets():
            write_all(self._fd, data, offset)
            self._busy()
        if cut and written.new_size < written.old_size:
            if self._sync:
                os.fsync(self._fd)  # the size must not be on disk before the octets, for it says that they are
            os.ftruncate(self._fd, written.new_size)
        if self._sync:
            os.fsync(self._fd)

    def _remove(self) -> None:
        os.unlink(self.path)
        if self._sync:  # or it might come back, and undo what is done from now on
            sync_path(os.path.dirname(self.path) or ".")

    def _contradicted(self) -> bool:
        self._put_aside("the mailbox was changed by another program meanwhile")
        return False

    def _put_aside(self, why: str) -> None:
        aside = f"{self.path}.aside-{time.time_ns()}"
        os.rename(self.path, aside)
        _log.error("mbox-journal-aside", path=self.path, cause=why, kept_as=aside)

    # -- judging

    def _extended(self, written: _Written, size: int) -> bool:
        """Whether a file that shall grow has its new size: behind the old one are the new octets, or none yet."""
        if size < written.new_size:
            return False
        for offset, data in written.octets(written.old_size):
            there = os.pread(self._fd, len(data), offset)
            if there != data and any(a not in (0, b) for a, b in zip(there, data, strict=True)):
                return False
        return True

    def _cut(self, written: _Written, size: int) -> bool:
        """Whether a file that shall shrink has done so: then everything else is done too."""
        if size < written.old_size:
            return True
        kept = _sum(self._fd, written.new_size, written.old_size)
        return kept != written.rest

    def _copied(self, written: _Written) -> bool:
        """Whether all new octets are there."""
        return all(os.pread(self._fd, len(data), offset) == data for offset, data in written.octets())

    def _fits(self, written: _Written) -> bool:
        """Whether each sector holds what was there before or what the journal puts there.

        A process that was killed may leave one that is part new and part old: behind it nothing is new yet.
        """
        torn = old_before = False
        sums = iter(written.sums)
        for patch in written.patches:
            offset = patch.offset
            for new in written.blocks(patch, patch.offset + patch.common):
                there = os.pread(self._fd, len(new), offset)
                for start, stop in _sectors(offset, offset + len(new)):
                    piece = there[start - offset : stop - offset]
                    is_old = next(sums) == zlib.crc32(piece)
                    is_new = piece == new[start - offset : stop - offset]
                    if (torn and not is_old) or (not is_old and not is_new and old_before):
                        return False
                    torn = torn or not (is_old or is_new)
                    old_before = old_before or not is_new
                offset += len(new)
        return True


def _write_on(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sectors(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a range that lie in one sector each."""
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield start, stop
        start = stop


def _blocks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a range that are read at once: they end where sectors end."""
    while start < end:
        stop = min(end, (start // _BLOCK + 1) * _BLOCK)
        yield start, stop
        start = stop


def _sector_sums(fd: int, start: int, end: int) -> bytes:
    sums = array.array("I")
    for first, last in _blocks(start, end):
        data = os.pread(fd, last - first, first)
        sums.extend(zlib.crc32(data[a - first : b - first]) for a, b in _sectors(first, last))
    return sums.tobytes()


def _sum(fd: int, start: int, end: int) -> int:
    value = 0
    for data in read_blocks(fd, start, end):
        value = zlib.crc32(data, value)
    return value


class _Extent(NamedTuple):
    """A patch as the journal has it: its new octets are at ``at`` in the journal."""

    offset: int
    new: int
    old: int
    at: int

    @property
    def common(self) -> int:
        return min(self.new, self.old)


class _Written:
    """A journal that is whole; ValueError when it is not."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._verify(os.fstat(self._fd).st_size)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._fd)

    def _verify(self, size: int) -> None:
        digest = hashlib.blake2b(digest_size=_DIGEST)
        for data in read_blocks(self._fd, 0, size - _DIGEST):
            digest.update(data)
        if size < _TOP.size + _DIGEST or os.pread(self._fd, _DIGEST, size - _DIGEST) != digest.digest():
            raise ValueError("the journal is damaged")
        magic, self.inode, self.old_size, self.new_size, count = _TOP.unpack(os.pread(self._fd, _TOP.size, 0))
        if magic != _MAGIC:
            raise ValueError("the journal is of another version")
        at = _TOP.size + count * _PATCH.size
        self.patches: list[_Extent] = []
        for offset, new, old in _PATCH.iter_unpack(os.pread(self._fd, count * _PATCH.size, _TOP.size)):
            self.patches.append(_Extent(offset, new, old, at))
            at += new
        self.sums = array.array("I", os.pread(self._fd, size - _DIGEST - _REST.size - at, at))
        self.rest: int = _REST.unpack(os.pread(self._fd, _REST.size, size - _DIGEST - _REST.size))[0]

    def blocks(self, patch: _Extent, end: int) -> Iterator[bytes]:
        """The new octets of one patch up to ``end`` in the mbox, cut where sectors end."""
        for first, last in _blocks(patch.offset, end):
            yield os.pread(self._fd, last - first, patch.at + first - patch.offset)

    def octets(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """All new octets from ``start`` in the mbox on, with their offsets there."""
        for patch in self.patches:
            first = max(start, patch.offset)
            for begin, end in _blocks(first, patch.offset + patch.new):
                yield begin, os.pread(self._fd, end - begin, patch.at + begin - patch.offset)
