"""How mailbox names become places below an account's directory: flat as Maildir++ has it, or nested directories.

A *directory* is such a place, relative to the account's; that of INBOX is the empty string. The index knows mailboxes
by their directory.

Nested directories may hold mboxes too. Where new mailboxes are mboxes, the tree is what Dovecot and c-client make of
``mbox:~/mail``: a file is a mailbox and has no children, a directory is none and has them. Our own files would then
look like mailboxes; they lie in the directory `OWN`, whose name ends so that Dovecot takes it for a lock and lists
neither it nor what is in it. Elsewhere among nested directories a file is a mailbox only when it begins like one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from typing import Protocol

from mailserver.mail import mutf7
from mailserver.store.formats.mbox import fromline
from mailserver.store.tree import names

MAILDIR_PARTS = frozenset({"cur", "new", "tmp"})
_DEEPEST = names.MAX_LEVELS


@dataclass(frozen=True, slots=True)
class Walk:
    """What was found below an account's directory."""

    directories: frozenset[str]
    watched: tuple[str, ...]  # paths whose times change when a mailbox comes or goes
    files: frozenset[str] = frozenset()  # those that can have no children
    levels: frozenset[str] = frozenset()  # directories that are no mailboxes and are shown all the same


class Layout(Protocol):
    """One way of doing it."""

    nested: bool  # the directory of a mailbox holds those of its children

    def directory(self, name: str) -> str:
        """The directory of a canonical name."""

    def name(self, directory: str) -> str | None:
        """The reverse; None for a directory that is no mailbox's."""

    def possible(self, name: str) -> bool:
        """Whether a name, valid otherwise, can be stored."""

    def walk(self, root: str, *, own: bool = False) -> Walk:
        """Look for mailboxes; ``own``: our own files lie apart, in `OWN`. OSErrors are passed on."""


class MaildirPlusPlus:
    """``A/B`` is ``.A.B``: a directory is a Maildir, a plain file an mbox, as Dovecot has it with LAYOUT=maildir++."""

    nested = False

    def directory(self, name: str) -> str:
        """``.A.B``."""
        return names.to_directory(name)

    def name(self, directory: str) -> str | None:
        """``A/B``."""
        return names.from_directory(directory)

    def possible(self, name: str) -> bool:
        """Every name."""
        return True

    def walk(self, root: str, *, own: bool = False) -> Walk:
        """One listing."""
        with os.scandir(root) as entries:
            found = [e.name for e in entries if e.name.startswith(".") and e.name != INBOX_FILE and is_mailbox(e.path)]
        return Walk(frozenset(found), (root,))


class Nested:
    """``A/B`` is ``A/B``, as Dovecot has it with LAYOUT=fs, and by default for mboxes."""

    nested = True

    def directory(self, name: str) -> str:
        """``A/B``."""
        return "" if name == names.INBOX else "/".join(mutf7.encode(level) for level in name.split(names.SEPARATOR))

    def name(self, directory: str) -> str | None:
        """``A/B``."""
        try:
            name = names.SEPARATOR.join(mutf7.decode(level) for level in directory.split("/"))
        except ValueError:
            return None
        # ``inbox/x`` would be asked for as ``INBOX/x``, which is another place
        return name if names.canonical(name) == name != names.INBOX else None

    def possible(self, name: str) -> bool:
        """No level may look like a part of a Maildir, or like a file of ours."""
        levels = name.split(names.SEPARATOR)
        return not any(level in MAILDIR_PARTS or level.startswith(".") for level in levels)

    def walk(self, root: str, *, own: bool = False) -> Walk:
        """Everything below."""
        found = _Found(own=own)
        found.look(root, "", frozenset())
        found.watched[0:0] = [root]
        levels = frozenset(found.levels) if own else frozenset()
        files = frozenset(found.files)
        return Walk(files.union(found.maildirs), tuple(found.watched), files, levels)


@dataclass(slots=True)
class _Found:
    """What a walk through nested directories has found so far."""

    own: bool
    maildirs: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)

    def look(self, path: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        """Look into a directory; ``above``: those that it lies in, which a link may lead back to."""
        here = os.stat(path)
        above |= {(here.st_dev, here.st_ino)}
        with os.scandir(path) as entries:
            kinds = [(e, _kind(e)) for e in entries if e.name[0] != "." and not (self.own and is_lock(e.name))]
        parts = any(kind == "d" and e.name == "cur" for e, kind in kinds)
        for entry, kind in kinds:
            if kind == "f":
                if (self.own and not parts) or looks_like_mbox(entry.path):
                    self.files.append(prefix + entry.name)
            elif kind == "d" and not (entry.name in MAILDIR_PARTS and (parts or not self.own)):
                with contextlib.suppress(PermissionError, FileNotFoundError, NotADirectoryError):  # not ours, or gone
                    self._enter(entry, prefix + entry.name, above)

    def _enter(self, entry: os.DirEntry[str], directory: str, above: frozenset[tuple[int, int]]) -> None:
        found = entry.stat()
        if len(above) > _DEEPEST or (found.st_dev, found.st_ino) in above:
            return
        (self.maildirs if is_mailbox(entry.path) else self.levels).append(directory)
        self.watched.append(entry.path)
        self.look(entry.path, directory + "/", above)


def _kind(entry: os.DirEntry[str]) -> str:
    """``f`` for a file, ``d`` for a directory, links followed; empty for what can be no mailbox."""
    try:
        return "f" if entry.is_file() else "d" if entry.is_dir() else ""
    except OSError:  # a link to itself
        return ""


DOT_LOCK = ".lock"  # behind the name of an mbox
INBOX_FILE = ".INBOX"  # INBOX where it is an mbox
NESTED_INBOX_FILE = "inbox"  # the same where mboxes lie in nested directories, as Dovecot has it
_QUOTED = {"/": "^s", "^": "^^"}
_LONGEST_LOCK = 200  # octets
OWN = f".mailserver{DOT_LOCK}"  # where our own files lie, there
_BOOKS = re.compile(r"dovecot|mailserver|courier|maildir|subscriptions|\.")  # files beside Maildirs begin so
# Those of a Maildir, and those of an account, with what is written beside them on the way
_OF_MAILDIR = re.compile(
    r"(dovecot-(uidlist|keywords|acl)|dovecot\.index|maildirfolder|courierimap(uiddb|keywords)|courierpop3dsizelist)"
    r"(\.|\Z)|mailserver\."
)
_OF_ACCOUNT = re.compile(r"(dovecot-(uidvalidity|acl-list)|subscriptions|maildirsize)(\.|\Z)|mailserver-|dovecot\.")
DOVECOTS = ".imap"  # what Dovecot keeps beside mboxes, a directory for each in one of this name
LAYOUTS: dict[str, Layout] = {"maildir++": MaildirPlusPlus(), "fs": Nested()}


def is_mailbox(path: str) -> bool:
    """Whether a Maildir or an mbox is there."""
    return identity(path) is not None


def looks_like_mbox(path: str) -> bool:
    """Whether a file among Maildirs is an mbox: it begins as one does, or is empty and has the name of no book."""
    if is_book(os.path.basename(path)):
        return False
    with contextlib.suppress(OSError):  # nothing that we may read
        return not os.stat(path).st_size or not is_foreign(path)
    return False


def is_book(file: str) -> bool:
    """Whether a file of this name beside a Maildir, or in the account's directory, is no mailbox."""
    return is_lock(file) or _BOOKS.match(file) is not None


def is_needed(file: str, *, top: bool) -> bool:
    """Whether a directory of this name beside a Maildir would stand where a book will be.

    ``top``: in the account's directory.
    """
    return _OF_MAILDIR.match(file) is not None or (top and _OF_ACCOUNT.match(file) is not None)


def is_lock(file: str) -> bool:
    """Whether this is the name of a dot lock, or of our own directory."""
    return file.endswith(DOT_LOCK)


def is_foreign(path: str) -> bool:
    """Whether a file has something in it and is no mbox, so that it is somebody else's. OSError."""
    with open(path, "rb") as f:
        return fromline.is_foreign(f.read(fromline.LONGEST))


def lock_name(directory: str) -> str:
    """The name of the lock file of an mbox, which lies in the account's directory."""
    name = "".join(_QUOTED.get(c, c) for c in directory) or INBOX_FILE
    if len(name) > _LONGEST_LOCK:
        name = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return f"mailserver{'' if name.startswith('.') else '.'}{name}.lock"


def identity(path: str) -> int | None:
    """What tells a mailbox from another one made later under its name: the inode of a Maildir's ``cur``.

    0 for an mbox, which other programs may replace and which is still the same; None where no mailbox is.
    """
    try:
        found = os.stat(f"{path}/cur")
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return 0 if is_mbox(path) else None
    return found.st_ino if stat.S_ISDIR(found.st_mode) else None


def is_mbox(path: str) -> bool:
    """Whether a plain file is there; the dot lock of an mbox is none, though it looks like the mbox of a child."""
    if path.endswith(DOT_LOCK):
        return False
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
