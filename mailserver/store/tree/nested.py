"""What one mailbox is among nested directories: which files there are its own, and what Dovecot keeps for it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat

from mailserver.store.formats.maildir.syncing import sync_path
from mailserver.store.tree.layout import DOVECOTS, looks_like_mbox


def parts(path: str) -> list[str]:
    """What belongs to the Maildir at ``path``, beside ``cur``, and not to its children. OSError."""
    with os.scandir(path) as entries:
        return [
            e.name
            for e in entries
            if e.name in ("new", "tmp") or (not e.is_dir() and not (e.is_file() and looks_like_mbox(e.path)))
        ]


def make_level(path: str, root: str, *, sync: bool) -> None:
    """Make a directory for mailboxes below ``root``, with its rights: where they differ, Dovecot renames nothing."""
    with contextlib.suppress(FileExistsError):  # another process was quicker
        os.mkdir(path, 0o700)
        os.chmod(path, stat.S_IMODE(os.stat(root).st_mode))
    if sync:
        sync_path(os.path.dirname(path))


def make_mbox(path: str, root: str | None) -> None:
    """Make an empty mbox, with the rights that ``root`` has, as Dovecot; without one, for the owner alone. OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if root is not None:
            os.fchmod(fd, os.stat(root).st_mode & 0o666 | 0o600)
    finally:
        os.close(fd)


def put_away(path: str, grave: str) -> None:
    """An mbox goes to its grave; one in another file system goes for good at once. OSError."""
    try:
        os.rename(path, grave)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        os.unlink(path)
    shutil.rmtree(_dovecots(path), ignore_errors=True)


def _dovecots(path: str) -> str:
    """Where Dovecot keeps what it knows of an mbox."""
    place, _, file = path.rpartition("/")
    return f"{place}/{DOVECOTS}/{file}"


def move(old_path: str, new_path: str) -> None:
    """Rename an mbox. What Dovecot knows of it goes with it; a cache that stays behind is no harm. OSError."""
    os.rename(old_path, new_path)
    old, new = _dovecots(old_path), _dovecots(new_path)
    if os.path.isdir(old):
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(new), mode=0o700, exist_ok=True)
            os.rename(old, new)


def remove_level(path: str) -> None:
    """Remove a directory that has no mailboxes any more. OSError when something else is in it."""
    shutil.rmtree(f"{path}/{DOVECOTS}", ignore_errors=True)  # what Dovecot knew of mailboxes that were there
    os.rmdir(path)
