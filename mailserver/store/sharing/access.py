"""The access lists of an account's mailboxes: Dovecot's ``dovecot-acl`` files.

A list lies in its mailbox's Maildir; that of an mbox in ``.imap/<file name>/`` beside it. Without a list the owner may
do everything and nobody else anything. With lines in it that are not understood it is as if there were none, for such a
line may take away as well as give; it is said in the log, and until somebody mends it the list is not changed here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from mailserver.ops import log as logging
from mailserver.store.books import read_book
from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.formats.maildir.syncing import make_directories, sync_path
from mailserver.store.model.rights import ALL, NONE, Identifier, Rights, Who, granted
from mailserver.store.sharing import aclfile
from mailserver.store.sharing.aclfile import AccessList, Line
from mailserver.store.sharing.shares import Shares
from mailserver.store.tree import names
from mailserver.store.tree.layout import is_mbox
from mailserver.store.tree.tree import Tree

_log = logging.get("store")
_LARGEST = 1 << 20
_DOVECOTS_LIST = ("dovecot-acl-list", ".imap/dovecot-acl-list")  # a cache of Dovecot's, which makes it anew
_complained: set[str] = set()
_SHORT = 4096  # octets of a list that is remembered with many others: anybody may write long ones
_short = lru_cache(maxsize=1024)(aclfile.parse)
_long = lru_cache(maxsize=8)(aclfile.parse)
_TOO_LONG = AccessList((Line("(more than 1 MB)", bad=True),))
Change = Callable[[AccessList], AccessList]


class AccessLists:
    """Of one account. Changing methods want the account's lock; without ``shares`` nobody has rights but the owner."""

    def __init__(self, owner: str, tree: Tree, shares: Shares | None, *, sync: bool) -> None:
        self.owner = owner
        self._tree = tree
        self._shares = shares
        self._sync = sync

    # -- asking

    def rights(self, name: str, who: Who, *, look: bool = False) -> Rights:
        """What ``who`` may do to the mailbox of this canonical name; StoreError when its list cannot be read.

        The owner's lists are looked at where the record says that they concern him, or with ``look``.
        """
        own = who.user == self.owner
        shares = self._shares
        if shares is None or (own and not look and name not in shares.limited(self.owner)):
            return ALL if own else NONE
        with os_errors():
            found = self._read(name)
        if found is None:
            return ALL if own else NONE
        if found.bad:
            self._complain(name, found)
            return ALL if own else NONE
        if not shares.knows(self.owner, name, found.identifiers):
            shares.note(self.owner, {name: found.identifiers})  # another program wrote it
        return granted(found.entries, who, self.owner)

    def limited(self) -> frozenset[str]:
        """Mailboxes in which the owner may lack a right."""
        return self._shares.limited(self.owner) if self._shares is not None else frozenset()

    def list_of(self, name: str) -> AccessList:
        """What is written for the mailbox. StoreError CORRUPT where that is not understood."""
        with os_errors():
            found = self._read(name) or AccessList()
        if found.bad:
            self._complain(name, found)
            raise StoreError(Kind.CORRUPT, "the access list has lines that are not understood")
        return found

    def _complain(self, name: str, found: AccessList) -> None:
        path = self._path(name)
        if path not in _complained:
            _complained.add(path)
            _log.error("acl-not-understood", path=path, line=found.bad[0], consequence="only the owner has rights")

    def _read(self, name: str) -> AccessList | None:
        path = self._tree.path(name)
        try:
            return _load(f"{path}/{aclfile.NAME}")
        except NotADirectoryError:  # an mbox
            with contextlib.suppress(NotADirectoryError):
                return _load(f"{self._tree.beside_mbox(name)}/{aclfile.NAME}")
            return None

    def _path(self, name: str) -> str:
        path = self._tree.path(name)
        return f"{self._tree.beside_mbox(name) if is_mbox(path) else path}/{aclfile.NAME}"

    # -- changing

    def change(self, name: str, change: Change) -> None:
        """Write another list for a mailbox. StoreError NOT_FOUND, CORRUPT; OSError."""
        if not self._tree.exists(name):
            raise StoreError(Kind.NOT_FOUND, "there is no such mailbox")
        old = self.list_of(name)
        new = change(old)
        if new == old:
            return
        self._note({name: [*old.identifiers, *new.identifiers]})
        self._write(self._path(name), new)
        self._note({name: new.identifiers})
        if self._shares is not None:
            self._shares.announce()

    def _note(self, lists: Mapping[str, list[Identifier]], *gone: str) -> None:
        if self._shares is not None:
            self._shares.note(self.owner, lists, gone)

    def _write(self, path: str, found: AccessList) -> None:
        if not found.lines:
            _remove(path)
        else:
            make_directories(os.path.dirname(path), sync=self._sync)
            temporary = f"{path}.tmp"
            with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="", opener=_private) as f:
                f.write(str(found))
                f.flush()
                if self._sync:
                    os.fsync(f.fileno())
            os.rename(temporary, path)
        if self._sync and os.path.isdir(os.path.dirname(path)):
            sync_path(os.path.dirname(path))
        for name in _DOVECOTS_LIST:
            _remove(f"{self._tree.root}/{name}")

    # -- what happens to mailboxes

    # RFC 4314 section 4: "it SHOULD inherit the ACL from the parent mailbox"
    def before_making(self, name: str) -> AccessList | None:
        """A mailbox of this name is going to be: the list that it gets, its parent's. OSError.

        Nothing that is left of an earlier one may be its list.
        """
        parents = names.parents(name)[-1:] if self._shares is not None else []
        found = self._read(parents[0]) if parents else None
        _remove(f"{self._tree.beside_mbox(name)}/{aclfile.NAME}")
        return found

    def made(self, name: str, found: AccessList | None) -> None:
        """It was made."""
        if found is not None:
            self._note({name: found.identifiers})
            self._write(self._path(name), found)

    def removed(self, name: str) -> None:
        """A mailbox is no more; the list of a Maildir went with it."""
        _remove(f"{self._tree.beside_mbox(name)}/{aclfile.NAME}")
        self._note({}, name)

    def before_moving(self, old: str, new: str) -> None:
        """A mailbox is going to have another name; the list of a Maildir goes with it."""
        found = self._read(old)
        self._note({new: found.identifiers if found is not None else []})
        if is_mbox(self._tree.path(old)):
            self._write(f"{self._tree.beside_mbox(new)}/{aclfile.NAME}", found or AccessList())

    def before_moving_whole(self, moving: Sequence[tuple[str, str]]) -> None:
        """A directory is going to have another name, and with it all mailboxes and lists in it."""
        found = [(new, self._read(old)) for old, new in moving]
        self._note({new: known.identifiers for new, known in found if known is not None})

    def moved_whole(self, moved: Sequence[tuple[str, str]]) -> None:
        """It has it."""
        self._note({}, *(old for old, _ in moved))

    def before_converting(self, name: str, format: str, maildir: str) -> None:
        """A mailbox is going to have another format, and its list the place that belongs to that.

        ``maildir``: where the Maildir is that it will be.
        """
        found = self._read(name) or AccessList()
        place = self._tree.beside_mbox(name) if format == "mbox" else maildir
        if found.lines or os.path.isdir(place):
            self._write(f"{place}/{aclfile.NAME}", found)

    def refresh(self) -> None:
        """Look at all lists, for other programs may have written some. OSError."""
        if self._shares is not None:
            self._shares.replace(self.owner, lists_of(self._tree))


def not_understood(tree: Tree) -> list[tuple[str, str]]:
    """Mailboxes and a line of each one's list that means nothing. OSError."""
    found = [(name, known) for name, known in _lists(tree) if isinstance(known, AccessList)]
    return [(name, known.bad[0]) for name, known in found if known.bad]


def unreadable(tree: Tree) -> list[tuple[str, str]]:
    """Mailboxes whose lists cannot be read, and why. OSError."""
    return [(name, str(error)) for name, error in _lists(tree) if isinstance(error, OSError)]


def _lists(tree: Tree) -> Iterator[tuple[str, AccessList | OSError]]:
    """The mailboxes that have one."""
    lists = AccessLists("", tree, None, sync=False)
    for name in tree.names():
        try:
            known = lists._read(name)
        except OSError as error:
            yield name, error
            continue
        if known is not None:
            yield name, known


def lists_of(tree: Tree) -> dict[str, list[Identifier]]:
    """Of whom the lists of an account speak, by mailbox. What cannot be read is left out."""
    found = {name: known.identifiers for name, known in _lists(tree) if isinstance(known, AccessList)}
    return {name: identifiers for name, identifiers in found.items() if identifiers}


def _load(path: str) -> AccessList | None:
    try:
        octets = read_book(path, _LARGEST + 1)
    except FileNotFoundError:
        return None
    if len(octets) > _LARGEST:
        return _TOO_LONG
    return (_short if len(octets) <= _SHORT else _long)(octets.decode("utf-8", "surrogateescape"))


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
