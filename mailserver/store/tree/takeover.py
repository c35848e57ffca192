"""An account that Courier served until now: its folder names and subscriptions, as we and Dovecot keep them.

The UIDs and keywords of each folder are taken over when the folder is first opened (``formats.maildir.courier``).

Courier shows a folder ``.A.B`` as ``INBOX.A.B``; here it is ``A/B``. Courier 5 and later write names in UTF-8, older
ones, Dovecot and we in modified UTF-7: directories whose names are in UTF-8 are renamed, which is what Courier's
``maildirmake --convutf8`` did, backwards. ``courierimapsubscribed`` is read where there is no ``subscriptions`` yet.
"""

from __future__ import annotations

import contextlib
import os

from mailserver.mail import mutf7
from mailserver.ops import log as logging
from mailserver.store.books import read_book
from mailserver.store.errors import StoreError
from mailserver.store.formats.maildir.courier import UIDDB
from mailserver.store.tree import names, subscriptions

SUBSCRIBED = "courierimapsubscribed"
_LARGEST = 1 << 24  # octets
_PREFIX = "INBOX."
_log = logging.get("store")


def wanted(root: str) -> bool:
    """Whether Courier was here and we were not; looks at two or three names."""
    if os.path.lexists(f"{root}/{subscriptions.NAME}"):
        return False
    return os.path.lexists(f"{root}/{SUBSCRIBED}") or os.path.lexists(f"{root}/{UIDDB}")


def take_over(root: str, *, sync: bool) -> None:
    """Do it, under the account's lock. The subscriptions come last: they say that it is done. OSError."""
    for directory in sorted(os.listdir(root)):
        if directory.startswith(".") and os.path.isdir(f"{root}/{directory}/cur"):
            rename(root, directory)
    subscriptions.write(f"{root}/{subscriptions.NAME}", read_subscribed(root), sync=sync)
    _log.info("courier-account-adopted", path=root)


def rename(root: str, directory: str) -> None:
    """Give one folder the name that it has here. OSError."""
    try:
        levels = [_level(level) for level in directory[1:].split(".")]
        new = "".join("." + mutf7.encode(level) for level in levels)
    except ValueError:  # octets that are no text: doctor names them
        return
    if new == directory:
        return
    if os.path.lexists(f"{root}/{new}"):
        _log.warning("courier-folder-not-renamed", path=f"{root}/{directory}", taken=new)
        return
    os.rename(f"{root}/{directory}", f"{root}/{new}")
    _log.info("courier-folder-renamed", path=f"{root}/{directory}", to=new)


def _level(stored: str) -> str:
    """A level of a name, in either spelling; ValueError for one that is no text."""
    with contextlib.suppress(ValueError):
        return mutf7.decode(stored)
    stored.encode()
    return stored


def read_subscribed(root: str) -> list[str]:
    """What ``courierimapsubscribed`` says, as names of ours; folders of other users are left out. OSError."""
    try:
        lines = os.fsdecode(read_book(f"{root}/{SUBSCRIBED}", _LARGEST)).split("\n")
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        stored = line.rstrip("\r")
        if stored.upper() == names.INBOX:
            found.append(names.INBOX)
        elif stored[: len(_PREFIX)].upper() == _PREFIX:
            with contextlib.suppress(StoreError, ValueError):  # a name that we could not have either
                levels = [_level(level) for level in stored[len(_PREFIX) :].split(".")]
                if not any(names.SEPARATOR in level for level in levels):
                    found.append(names.check(names.SEPARATOR.join(levels)))
    return list(dict.fromkeys(found))
