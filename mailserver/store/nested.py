"""What one mailbox is among nested directories: which files there are its own, and what Dovecot keeps for it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil

from mailserver.store.layout import DOVECOTS, looks_like_mbox


def parts(path: str) -> list[str]:
    """What belongs to the Maildir at ``path``, beside ``cur``, and not to its children. OSError."""
    with os.scandir(path) as entries:
        return [
            e.name
            for e in entries
            if e.name in ("new", "tmp") or (not e.is_dir() and not (e.is_file() and looks_like_mbox(e.path)))
        ]


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
