"""One mbox file: locked, read, appended to, changed in place. Knows no index."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.formats.mbox import changes, fromline, locking, scan
from mailserver.store.formats.mbox.addition import Addition, encoded
from mailserver.store.formats.mbox.entry import Base, Box, Entry, Fingerprint, Marks
from mailserver.store.formats.mbox.headers import Edit
from mailserver.store.formats.mbox.journal import Journal, path_of, write_all
from mailserver.store.formats.mbox.locking import HOST, MboxLock, Method
from mailserver.store.formats.mbox.message import MboxMessage
from mailserver.store.model.numbers import MAX_UID
from mailserver.store.source import uids_for

WAIT_SECONDS = 30.0
_BUFFER = 1 << 20
_MILLISECOND, _COUNTED = 1_000_000, 1000  # nanoseconds
_COARSE_NS = 2_100_000_000  # file systems that keep whole seconds, or two


class MboxFolder:
    """``path`` is the file. ``sync``: what was appended or moved is on the disk when a method returns.

    Every method but ``fingerprint`` and ``open`` is called within ``hold``. They take what ``load`` returned in the
    same ``hold`` (or what another of them made of it) and return the file as it is then. Every error is a StoreError.
    """

    def __init__(
        self,
        path: str,
        *,
        sync: bool,
        locks: tuple[Method, ...] = locking.DEFAULT,
        stale: float = locking.STALE_SECONDS,
        strict: bool = False,
    ) -> None:
        """``locks``: which ones and in which order; ``stale``: seconds after which a dot lock is nobody's.

        ``strict``: a file that does not begin with a message is somebody else's, and ``load`` refuses it.
        """
        self.path = os.path.realpath(path)
        self.sync = sync
        self._methods = locks
        self._stale = stale
        self._strict = strict
        self._thread_lock = threading.RLock()
        self._owner = 0
        self._depth = 0
        self._fd = -1
        self._lock: MboxLock | None = None
        self._latest: Box | None = None  # what was last said of the file while it was held

    # -- locks

    @contextlib.contextmanager
    def hold(self, timeout: float = WAIT_SECONDS) -> Iterator[None]:
        """Hold all its locks for the block; re-entrant within a thread.

        StoreError IN_USE after ``timeout`` seconds, NOT_FOUND when there is no such file.
        """
        deadline = time.monotonic() + timeout
        if not self._thread_lock.acquire(timeout=max(0.0, timeout)):
            raise StoreError(Kind.IN_USE, "the mailbox is locked for too long")
        try:
            if self._depth == 0:
                with os_errors():
                    self._acquire(deadline)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    with os_errors():
                        self._release()
        finally:
            self._thread_lock.release()

    def _acquire(self, deadline: float) -> None:
        fd, lock = self._open_locked(os.O_RDWR, deadline, shared=False)
        self._fd, self._lock, self._owner = fd, lock, threading.get_ident()
        try:
            self._journal().recover()
        except BaseException:
            self._release()
            raise

    def _open_locked(self, flags: int, deadline: float, *, shared: bool) -> tuple[int, MboxLock]:
        while True:
            self._not_a_maildir(os.stat(self.path))
            fd = os.open(self.path, flags | os.O_CLOEXEC)
            lock = MboxLock(self.path, fd, self._methods, shared=shared, stale=self._stale)
            try:
                lock.take(deadline)
                if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                    return fd, lock
                lock.release()  # another file stands there meanwhile
            except BaseException:
                lock.release()
                os.close(fd)
                raise
            os.close(fd)

    def _release(self) -> None:
        lock, fd = self._lock, self._fd
        self._lock, self._fd, self._owner, self._latest = None, -1, 0, None
        try:
            if lock is not None:
                lock.release()
        finally:
            os.close(fd)

    def _journal(self) -> Journal:
        assert self._lock is not None
        return Journal(self.path, self._fd, sync=self.sync, busy=self._lock.touch)

    @contextlib.contextmanager
    def _reading(self, timeout: float) -> Iterator[int]:
        """The file, nobody writing meanwhile, and no change half done."""
        if self._owner == threading.get_ident():
            yield self._fd
            return
        deadline = time.monotonic() + timeout
        while True:
            with os_errors():
                fd, lock = self._open_locked(os.O_RDONLY, deadline, shared=True)
                try:
                    if not os.path.lexists(path_of(self.path)):
                        yield fd
                        return
                finally:
                    lock.release()
                    os.close(fd)
            with self.hold(deadline - time.monotonic()):
                pass  # which finishes the change

    # -- the file

    def exists(self) -> bool:
        """Whether there is such a file."""
        return os.path.isfile(self.path)

    def make(self) -> None:
        """Make an empty file; one that is there stays as it is."""
        with os_errors():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def fingerprint(self) -> Fingerprint:
        """As the file is now, without a lock: one system call. When it is the one in a `Box`, that is still right."""
        with os_errors():
            self._not_a_maildir(found := os.stat(self.path))
            return _fingerprint(found)

    def _not_a_maildir(self, found: os.stat_result) -> None:
        """A mailbox that was converted is gone for whoever knew it as an mbox."""
        if stat.S_ISDIR(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)

    def open(self, entry: Entry, timeout: float = WAIT_SECONDS) -> MboxMessage:
        """The octets of a message, within ``hold`` or without; they are copied, later changes do not touch them.

        StoreError TEMPORARY when the file was rewritten and another message stands there, or none: load again.
        """
        with os_errors(), self._reading(timeout) as fd:
            return MboxMessage(fd, entry)

    def load(self, known: Box | None = None, *, verify: bool = False) -> Box:
        """What is in the file. ``known`` is an earlier answer: what is proved to be unchanged is not read again.

        Nothing is read when the fingerprint is the same. When the file grew, the new part is, and the first and the
        last message that were known; ``verify`` reads all known headers too. When it has the size that it had, all
        headers are read. In every other case the whole file. StoreError CANNOT for a file that is not to be touched.
        """
        with os_errors():
            now = _fingerprint(os.fstat(self._held()))
            if known is not None and known.fingerprint == now and known.certain and (known.verified or not verify):
                return self._now(known)
            if self._strict and fromline.is_foreign(os.pread(self._fd, fromline.LONGEST, 0)):
                raise StoreError(Kind.CANNOT, "there is a file that is no mailbox")
            now, certain = self._settle()
            return self._now(replace(scan.load(self._fd, now, known, verify=verify), certain=certain))

    def _held(self) -> int:
        assert self._owner == threading.get_ident(), "the mbox is not locked"
        return self._fd

    def _settle(self, before: os.stat_result | None = None) -> tuple[Fingerprint, bool]:
        """The fingerprint, made one that every later change by others changes; False when it could not be.

        The clock of a file system stands still for some milliseconds, and who writes again meanwhile leaves the time as
        it is. So we set the file's time back to the last microsecond of the millisecond before, its nanoseconds being
        a count: the next one who writes sets it forth again. And Dovecot looks at the size and whole seconds only:
        after a change that leaves the size as it was ``before`` it, within one second, the time is set to the next one.
        """
        found = os.fstat(self._held())
        old = time.time_ns() - found.st_mtime_ns > _COARSE_NS
        if before is None and (old or _count(found) >= 0):
            return _fingerprint(found), True
        count = (_count(before or found) + 1) % _COUNTED
        mtime = found.st_mtime_ns // _MILLISECOND * _MILLISECOND - _COUNTED + count
        if before is not None and found.st_size == before.st_size and _second(found) == _second(before):
            mtime += 1_000_000_000
        try:
            os.utime(self._fd, ns=(found.st_atime_ns, mtime))
        except PermissionError:  # somebody else's file: whoever loads next looks at all headers
            return _fingerprint(found), False
        return _fingerprint(os.fstat(self._fd)), True

    def _check(self, box: Box) -> os.stat_result:
        """A change is made only to what is known. The times may have changed: mutt sets them without the lock."""
        found = os.fstat(self._held())
        latest = self._latest
        assert latest is not None, "load first"
        assert box is latest or box.fingerprint == latest.fingerprint, "this is what was known before"
        if (found.st_dev, found.st_ino, found.st_size) != box.fingerprint[:3]:
            raise StoreError(Kind.TEMPORARY, "another program changed the mailbox without its lock")
        return found

    def _now(self, box: Box) -> Box:
        self._latest = box
        return box

    # -- changes

    def assign(self, box: Box, uidvalidity: int, uidnext: int = 1, keywords: Sequence[str] = ()) -> Box:
        """Give UIDs to the messages that have none and write them down; what the file says goes first.

        ``uidvalidity`` counts when the file names none; ``uidnext`` and ``keywords`` are what the caller remembers. An
        empty file is left empty as long as no UID was given; then the answer is all that knows the base.
        """
        with os_errors():
            before = self._check(box)
            new = [entry.offset for entry in box.entries if entry.uid is None]
            first = max(box.uidnext, uidnext)
            _check_uids(first + len(new))
            words = Marks(keywords=frozenset(keywords))
            base = changes.with_keywords(box.base or Base(uidvalidity, 1, ()), [words], first + len(new))
            if box.entries or box.pseudo is not None:
                uids = dict(zip(new, range(first, first + len(new)), strict=True))
                return self._apply(box, before, changes.numbered(self._fd, box, base, uids))
            if first == 1:
                return self._now(replace(box, base=base))
            return self._write_pseudo(box, before, base)

    def rebase(self, box: Box, uidvalidity: int, uidnext: int) -> Box:
        """Have this UIDVALIDITY, and give no UID below ``uidnext`` or that of a message; these keep theirs."""
        with os_errors():
            before = self._check(box)
            given = [entry.uid + 1 for entry in box.entries if entry.uid is not None]
            lowest = max([uidnext, *given])
            old = box.base
            if old is not None and old.uidvalidity == uidvalidity:
                lowest = max(lowest, old.uidnext)
            _check_uids(lowest)
            base = Base(uidvalidity, lowest, old.keywords if old is not None else ())
            if box.entries or box.pseudo is not None:
                return self._apply(box, before, changes.rebased(self._fd, box, base))
            return self._write_pseudo(box, before, base)

    def give_back(self, box: Box, uids: Collection[int]) -> Box:
        """Have these UIDs given once more: they are the last ones, and whoever promised them wrote nothing with them.

        Of no effect when somebody was given a later one, or has one of them behind which another is free.
        """
        with os_errors():
            before = self._check(box)
            lowest = max((entry.uid + 1 for entry in box.entries if entry.uid is not None), default=1)
            first = max(min(uids), lowest)
            if box.base is None or box.unwritten or box.base.uidnext != max(uids) + 1 or first >= box.base.uidnext:
                return box
            base = Base(box.base.uidvalidity, first, box.base.keywords)
            return self._apply(box, before, changes.rebased(self._fd, box, base))

    def _write_pseudo(self, box: Box, before: os.stat_result, base: Base) -> Box:
        write_all(self._fd, self._line_start(box) + changes.pseudo(base, HOST, crlf=box.crlf), before.st_size)
        if self.sync:
            os.fsync(self._fd)
        return self._followed(box, before, 0)

    def append(self, box: Box, additions: Sequence[Addition]) -> Box:
        """Put messages at the end, all or none; their UIDs are those of the last entries of what is returned.

        StoreError LIMIT when there are no more UIDs. The file must have a base (`assign`).
        """
        with os_errors():
            self._check(box)
            if not additions:
                return box
            assert box.base is not None, "assign first"
            assert not box.unwritten, "assign first"
            uids = uids_for([a.uid for a in additions], box.uidnext)
            base = changes.with_keywords(box.base, (a.marks for a in additions), uids[-1] + 1)
            top = not box.entries and box.pseudo is None
            if not top:  # the base is written before the messages: a UID is never given twice
                box = self._apply(box, self._check(box), changes.rebased(self._fd, box, base))
            before = self._check(box)
            try:
                self._write_end(box, before.st_size, additions, uids, base if top else None)
            except BaseException:
                os.ftruncate(self._fd, before.st_size)
                raise
            return self._followed(box, before, before.st_size)

    def _write_end(
        self, box: Box, size: int, additions: Sequence[Addition], uids: Sequence[int], base: Base | None
    ) -> None:
        buffer, at = bytearray(self._line_start(box)), size
        for number, addition in enumerate(additions):
            for data in encoded(addition, uids[number], base if number == 0 else None, crlf=box.crlf):
                buffer += data
                if len(buffer) >= _BUFFER:
                    write_all(self._fd, bytes(buffer), at)
                    at += len(buffer)
                    buffer.clear()
        write_all(self._fd, bytes(buffer), at)
        if self.sync:
            os.fsync(self._fd)

    def _line_start(self, box: Box) -> bytes:
        """What must stand at the end before a From_ line: a line end, if the last message is torn."""
        size = box.fingerprint.size
        if not size or os.pread(self._fd, 1, size - 1) == b"\n":
            return b""
        return b"\r\n" if box.crlf else b"\n"

    def set_flags(self, box: Box, marks: Mapping[int, Marks]) -> Box:
        """Give the messages with these UIDs these flags and keywords; UIDs that are not there are passed over.

        In place where the new header fields fit into the space of the old ones, or else the rest of the file moves.
        """
        with os_errors():
            before = self._check(box)
            return self._apply(box, before, changes.marked(self._fd, box, marks))

    def expunge(self, box: Box, uids: set[int] | frozenset[int]) -> Box:
        """Remove the messages with these UIDs; the last one leaves c-client's pseudo message behind."""
        with os_errors():
            before = self._check(box)
            return self._apply(box, before, changes.expunged(self._fd, box, uids, HOST))

    def _apply(self, box: Box, before: os.stat_result, edits: list[Edit]) -> Box:
        if not edits:
            return box
        plan = changes.plan(edits, before.st_size)
        for edit in plan.direct:
            write_all(self._fd, edit.new, edit.start)
        self._journal().change(plan.patches)
        if plan.cut is not None:
            os.ftruncate(self._fd, plan.cut)
            if self.sync:
                os.fsync(self._fd)
        return self._followed(box, before, plan.moved, plan.touched)

    def _followed(self, box: Box, before: os.stat_result, moved: int, touched: Sequence[int] = ()) -> Box:
        now, certain = self._settle(before)
        return self._now(replace(scan.follow(self._fd, now, box, moved, touched), certain=certain))


def _fingerprint(found: os.stat_result) -> Fingerprint:
    return Fingerprint(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _count(found: os.stat_result) -> int:
    """The count in a time that we set, -1 in one that we did not set."""
    return max(-1, found.st_mtime_ns % _MILLISECOND - _MILLISECOND + _COUNTED)


def _second(found: os.stat_result) -> int:
    return found.st_mtime_ns // 1_000_000_000


def _check_uids(uidnext: int) -> None:
    if uidnext > MAX_UID:
        raise StoreError(Kind.LIMIT, "the mailbox has used up its UIDs")
