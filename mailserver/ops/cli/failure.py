"""How a command fails: one line for a human, a status from sysexits for a script. Never a traceback."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

_MISSING = (errno.ENOENT, errno.ENOTDIR)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class Failure(Exception):
    """The command ends with ``status`` (os.EX_...) and the text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # containers run under numbers that have no name
        return str(uid)


def _blocking(path: Path) -> Path:
    """Return the first part of the path that we may not pass, or the path itself."""
    for parent in reversed(path.absolute().parents):
        if parent.exists() and not os.access(parent, os.X_OK):
            return parent
    return path if os.path.lexists(path) else path.absolute().parent


def explain(error: OSError, path: str | os.PathLike[str], want: str = "read") -> Failure:
    """Turn an error about a file into a line that names the file, its owner and the right that is missing."""
    if error.errno in _MISSING:
        return Failure(os.EX_NOINPUT, f"{path}: {error.strerror}")
    if error.errno in _FORBIDDEN:
        where = _blocking(Path(path))
        me = f"this process runs as {_name(os.geteuid())} (uid {os.geteuid()}, gid {os.getegid()})"
        try:
            found = os.stat(where)
        except OSError:
            return Failure(os.EX_NOPERM, f"{path}: {error.strerror}; {me}")
        right = want if Path(path) == where else "enter" if want == "read" else want
        owner = f"{where} belongs to {_name(found.st_uid)} (uid {found.st_uid}, gid {found.st_gid})"
        return Failure(
            os.EX_NOPERM,
            f"{path}: {error.strerror}: {owner}, mode {found.st_mode & 0o7777:04o}; {me}"
            f" and needs the right to {right}",
        )
    return Failure(os.EX_OSERR, f"{path}: {error.strerror or error}")


def port_failure(error: OSError) -> Failure:
    """Turn an error of listening into a line; its text names the address already."""
    text = error.strerror or str(error)
    if error.errno in _FORBIDDEN:
        return Failure(os.EX_NOPERM, f"{text}; ports below 1024 need root or CAP_NET_BIND_SERVICE")
    if error.errno == errno.EADDRINUSE:
        return Failure(os.EX_UNAVAILABLE, f"{text}; is another mail server running?")
    return Failure(os.EX_OSERR, text)
