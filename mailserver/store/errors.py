"""What the store can refuse, as kinds; each protocol turns a kind into its own words."""

from __future__ import annotations

import errno
import time
from contextlib import AbstractContextManager
from enum import Enum

from mailserver.ops import log as logging

_log = logging.get("store")
_QUIET_SECONDS = 1.0  # between two lines in the log about the same error: a full disk refuses everybody
_complained: dict[int, float] = {}  # errno -> when


class Kind(Enum):
    """Why the store refused."""

    NOT_FOUND = "not found"  # no such mailbox
    EXISTS = "already exists"
    BAD_NAME = "bad name"  # a mailbox name that cannot be stored
    NO_QUOTA = "over quota"
    TOO_BIG = "message too big"
    IN_USE = "in use"  # locked by another session or program
    EXPUNGED = "expunged"  # the message is gone
    READ_ONLY = "read-only"
    NO_PERMISSION = "no permission"
    LIMIT = "limit"  # a configured bound was reached
    CANNOT = "cannot"  # never possible: e.g. renaming a folder into itself
    HAS_CHILDREN = "has children"
    CORRUPT = "corrupt"
    TEMPORARY = "temporary"  # disk full, I/O error: try again later


class StoreError(Exception):
    """The store could not do it.

    ``kind`` says why, ``text`` may be shown to the user and discloses no path; the private cause is ``__cause__``.
    """

    def __init__(self, kind: Kind, text: str = "") -> None:
        super().__init__(text or kind.value)
        self.kind = kind
        self.text = text or kind.value


_BY_ERRNO = {
    errno.ENOSPC: (Kind.TEMPORARY, "the disk is full"),
    errno.EDQUOT: (Kind.NO_QUOTA, "the disk quota is used up"),
    errno.EACCES: (Kind.NO_PERMISSION, "the server may not do this to the mailbox"),
    errno.EPERM: (Kind.NO_PERMISSION, "the server may not do this to the mailbox"),
    errno.EROFS: (Kind.READ_ONLY, "the mail is on a read-only file system"),
    errno.ENOENT: (Kind.NOT_FOUND, "the mailbox is gone"),
    errno.ENOTDIR: (Kind.NOT_FOUND, "the mailbox is gone"),
    errno.ENAMETOOLONG: (Kind.BAD_NAME, "the mailbox name is too long"),
    errno.EMFILE: (Kind.TEMPORARY, "the server has too many files open"),
    errno.ENFILE: (Kind.TEMPORARY, "the machine has too many files open"),
}


_ORDINARY = (Kind.NOT_FOUND, Kind.BAD_NAME)  # what clients ask for; everything else is for whoever runs the machine


class _OsErrors:
    """A class, not a generator: it is entered several times in each command."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            told, text = _BY_ERRNO.get(error.errno or 0, (Kind.TEMPORARY, "the mail storage has a problem"))
            if told not in _ORDINARY:
                _complain(error)
            raise StoreError(told, text) from error


_os_errors = _OsErrors()


def os_errors() -> AbstractContextManager[None]:
    """Turn an OSError of the block into a StoreError; what is not known to be lasting is temporary."""
    return _os_errors


def _complain(error: OSError) -> None:
    now = time.monotonic()
    if now - _complained.get(error.errno or 0, -_QUIET_SECONDS) >= _QUIET_SECONDS:
        _complained[error.errno or 0] = now
        _log.error("storage-failed", cause=str(error))
