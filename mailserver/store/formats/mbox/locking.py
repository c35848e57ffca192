"""The locks of an mbox that other programs know: fcntl, flock, and the dot lock ``<file>.lock``.

Some programs take the dot lock first and then fcntl, others the other way round. Whoever holds one while he waits for
the other can wait for ever, so we never do: either all are had at once, or those that we had are given back before we
wait.

The fcntl lock belongs to the open file (F_OFD_SETLK), not to the process: it excludes the locks that others take with
plain fcntl, and our own threads too, and closing another descriptor of the file does not drop it.

The dot lock is a file that is linked to its name when it is written, which succeeds for one only, on NFS too. It holds
the number of our process and the host's name, as Dovecot writes them. One that is there is stale when its process ran
on this host and does so no more, or when neither it nor the mailbox was changed for some minutes. Of ours only who has
the fcntl lock judges that, so that no two remove one and then the other's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import random
import re
import socket
import struct
import time
from enum import Enum

from mailserver.ops import log as logging
from mailserver.store.errors import Kind, StoreError

_log = logging.get("store")
STALE_SECONDS = 120.0  # Dovecot's mbox_dotlock_change_timeout
_TOUCH_SECONDS = 15.0  # how often the dot lock is touched in long work
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.02
HOST = socket.gethostname()
_has_proc = os.path.isdir("/proc/self/fd")
_counter = itertools.count(1)
_OWNER = re.compile(rb"(\d{1,9}):(\S+)\s*\Z")


class Method(Enum):
    """How an mbox is locked; which ones, and in what order, is the same for all programs of a machine."""

    FCNTL = "fcntl"
    FLOCK = "flock"
    DOTLOCK = "dotlock"
    DOTLOCK_TRY = "dotlock_try"  # as DOTLOCK, but done without where the directory lets nobody make one


DEFAULT = (Method.FCNTL, Method.DOTLOCK)  # what Debian's Dovecot writes with
_DOT = (Method.DOTLOCK, Method.DOTLOCK_TRY)


class MboxLock:
    """The locks of one open mbox, held from ``take`` to ``release``."""

    def __init__(self, path: str, fd: int, methods: tuple[Method, ...], *, shared: bool, stale: float) -> None:
        """``shared``: others may read, nobody writes; the dot lock has no such form and is then taken only alone."""
        self._path = path
        self._fd = fd
        self._shared = shared
        self._stale = stale
        kernel = tuple(method for method in methods if method not in _DOT)
        self._methods = kernel if shared and kernel else methods
        self._minds_dot = len(kernel) < len(methods)
        self._dot: int | None = None  # the inode of our dot lock
        self._written = b""  # what stands in it
        self._touched = 0.0

    def take(self, deadline: float) -> None:
        """Take all; StoreError IN_USE at the ``deadline`` (of time.monotonic), OSError when one can never be had."""
        pause = _FIRST_PAUSE
        while not self._try_all():
            if time.monotonic() >= deadline:
                raise StoreError(Kind.IN_USE, "the mailbox is locked by another program for too long")
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - two programs shall not wait in step
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _try_all(self) -> bool:
        try:
            # Who has the dot lock may be waiting for fcntl, and procmail looks for it once in some seconds: do not
            # stand in its way. And a program that knows the dot lock only must not rewrite what we read.
            if self._minds_dot and os.path.lexists(self.dot_path) and self._judge() is None:
                return False
            if all(self._try(method) for method in self._methods):
                return True
        except FileNotFoundError:  # the dot lock, while we looked at it
            pass
        except BaseException:
            self.release()
            raise
        self.release()
        return False

    def _try(self, method: Method) -> bool:
        if method is Method.FCNTL:
            return self._fcntl(fcntl.F_RDLCK if self._shared else fcntl.F_WRLCK)
        if method is Method.FLOCK:
            try:
                fcntl.flock(self._fd, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True
        try:
            return self._dotlock()
        except OSError as error:
            if method is Method.DOTLOCK_TRY and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return True
            raise

    def _fcntl(self, kind: int) -> bool:
        try:  # struct flock: type, whence, start, length (0: all), and no process, for it is the open file's
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def release(self) -> None:
        """Give back what is held; a second call does nothing."""
        if self._dot is not None:
            inode, self._dot = self._dot, None
            with contextlib.suppress(FileNotFoundError):  # somebody thought it stale
                found, octets = self._open_dot()
                if (found.st_ino, octets) == (inode, self._written):
                    os.unlink(self.dot_path)
        if Method.FLOCK in self._methods:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        if Method.FCNTL in self._methods:
            self._fcntl(fcntl.F_UNLCK)

    # -- the dot lock

    @property
    def dot_path(self) -> str:
        """Where the dot lock is."""
        return self._path + ".lock"

    def touch(self) -> None:
        """In long work: show now and then that the dot lock is not forgotten."""
        if self._dot is None or time.monotonic() - self._touched < _TOUCH_SECONDS:
            return
        self._touched = time.monotonic()
        with contextlib.suppress(FileNotFoundError):  # somebody thought it stale; the other locks still hold
            os.utime(self.dot_path)

    def _dotlock(self) -> bool:
        if os.path.lexists(self.dot_path) and not self._remove_stale():
            return False
        fd, own = self._unlinked()
        try:
            written = self._sign(fd)
            with contextlib.suppress(FileExistsError):
                if own:
                    os.link(own, self.dot_path)
                else:  # linkat(), which alone follows the link that /proc has, is called when a descriptor is given
                    os.link(f"/proc/self/fd/{fd}", self.dot_path, src_dir_fd=fd, follow_symlinks=True)
            found = os.fstat(fd)
        finally:
            os.close(fd)
            if own:
                os.unlink(own)
        if found.st_nlink != (2 if own else 1):  # what link() says is not to be believed on NFS; the count is
            return False
        self._dot, self._written, self._touched = found.st_ino, written, time.monotonic()
        return True

    def _sign(self, fd: int) -> bytes:
        """Write whose it is. On a full disk nothing is written, as in the locks of mutt: mail can be read there too."""
        try:
            os.write(fd, self._mark())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return b""
        return self._mark()

    def _unlinked(self) -> tuple[int, str]:
        """A new file that is to become the dot lock: without a name, or with this one where that cannot be (NFS)."""
        try:
            if _has_proc:
                return os.open(os.path.dirname(self._path), os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o644), ""
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
        own = f"{self.dot_path}.{HOST.replace('/', '_')}.{os.getpid()}.{next(_counter)}"
        return os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644), own

    def _remove_stale(self) -> bool:
        """Remove a dot lock that nobody holds any more."""
        try:
            judged = self._judge()
            if judged is None or os.lstat(self.dot_path).st_ino != judged:
                return False
            os.unlink(self.dot_path)
        except FileNotFoundError:
            return True
        _log.warning("mbox-stale-lock", path=self.dot_path)
        return True

    @staticmethod
    def _mark() -> bytes:
        return f"{os.getpid()}:{HOST}".encode()

    def _open_dot(self) -> tuple[os.stat_result, bytes]:
        fd = os.open(self.dot_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.fstat(fd), os.read(fd, 512)
        finally:
            os.close(fd)

    def _judge(self) -> int | None:
        """The inode of the dot lock if it is stale."""
        found, octets = self._open_dot()
        owner = _OWNER.match(octets)
        if owner is not None and owner[2] == HOST.encode() and not is_alive(int(owner[1])):
            return found.st_ino
        changed = max(found.st_mtime, found.st_ctime, os.fstat(self._fd).st_mtime)
        return found.st_ino if time.time() - changed > self._stale else None


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
