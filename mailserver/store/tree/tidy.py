"""What crashes left behind in an account, and when it may go."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable

from mailserver.store.tree.layout import is_lock

_ABANDONED_SECONDS = 36 * 3600
_LONGEST_LOCK = 512  # octets: a process and a host


def abandoned(root: str, now: float | None = None, *, nested: Iterable[str] = ()) -> list[str]:
    """What ``sweep`` would remove. OSError."""
    oldest = (time.time() if now is None else now) - _ABANDONED_SECONDS
    found = []
    for folder in _folders(root, nested):
        path = f"{folder}/tmp"  # noqa: S108 - a Maildir has a tmp of its own
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
            found += [entry.path for entry in entries if _is_old(entry, oldest)]
    return found


def _folders(root: str, nested: Iterable[str]) -> list[str]:
    flat = (entry.path for entry in os.scandir(root) if entry.name.startswith("."))
    return list(dict.fromkeys([root, *flat, *nested]))


def sweep(root: str, now: float | None = None, *, nested: Iterable[str] = ()) -> None:
    """Remove what was abandoned in ``tmp/`` of every folder: deliveries that a crash cut short, deleted mailboxes.

    And dot locks of mboxes that have another name now. ``nested``: the paths of folders in other directories.

    What is younger than 36 hours may still be written to, by whatever program (the Maildir rule).
    """
    oldest = (time.time() if now is None else now) - _ABANDONED_SECONDS
    with contextlib.suppress(OSError):  # tidying only
        for folder in _folders(root, nested):
            path = f"{folder}/tmp"  # noqa: S108 - a Maildir has a tmp of its own
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
                for entry in entries:
                    _sweep_entry(entry, oldest)
        for entry in os.scandir(root):
            if entry.name.startswith(".") and _is_lock_of_nothing(entry):  # its mbox was just being renamed
                _sweep_entry(entry, oldest)


def sweep_locks(directories: Iterable[str], now: float | None = None) -> None:
    """Remove old dot locks of mboxes that are not there any more; the others go when their mbox is next locked.

    For nested directories of mboxes, where none of our own locks lies.
    """
    oldest = (time.time() if now is None else now) - _ABANDONED_SECONDS
    for directory in directories:
        with contextlib.suppress(OSError), os.scandir(directory) as entries:  # tidying only
            for entry in entries:
                if _is_lock_of_nothing(entry):
                    _sweep_entry(entry, oldest)


def _is_lock_of_nothing(entry: os.DirEntry[str]) -> bool:
    if not (is_lock(entry.name) and entry.is_file(follow_symlinks=False)):
        return False
    if entry.stat(follow_symlinks=False).st_size > _LONGEST_LOCK:
        return False
    return not os.path.lexists(entry.path.removesuffix(".lock"))


def _is_old(entry: os.DirEntry[str], oldest: float) -> bool:
    st = entry.stat(follow_symlinks=False)
    return max(st.st_mtime, st.st_ctime) < oldest


def _sweep_entry(entry: os.DirEntry[str], oldest: float) -> None:
    if not _is_old(entry, oldest):
        return
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # another process was quicker, or it is not ours
            os.unlink(entry.path)
