"""How mailbox names become places below an account's directory: flat as Maildir++ has it, or nested directories.

A *directory* is such a place, relative to the account's; that of INBOX is the empty string. The index knows mailboxes
by their directory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mailserver.mail import mutf7
from mailserver.store import names

_MAILDIR_PARTS = frozenset({"cur", "new", "tmp"})
_DEEPEST = names.MAX_LEVELS


@dataclass(frozen=True, slots=True)
class Walk:
    """What was found below an account's directory."""

    directories: frozenset[str]
    watched: tuple[str, ...]  # paths whose times change when a mailbox comes or goes


class Layout(Protocol):
    """One way of doing it."""

    nested: bool  # the directory of a mailbox holds those of its children

    def directory(self, name: str) -> str:
        """The directory of a canonical name."""

    def name(self, directory: str) -> str | None:
        """The reverse; None for a directory that is no mailbox's."""

    def possible(self, name: str) -> bool:
        """Whether a name, valid otherwise, can be stored."""

    def walk(self, root: str) -> Walk:
        """Look for mailboxes. OSErrors are passed on."""


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

    def walk(self, root: str) -> Walk:
        """One listing."""
        with os.scandir(root) as entries:
            found = [e.name for e in entries if e.name.startswith(".") and e.name != INBOX_FILE and is_mailbox(e.path)]
        return Walk(frozenset(found), (root,))


class Nested:
    """``A/B`` is ``A/B``, as Dovecot has it with LAYOUT=fs; ``cur``, ``new`` and ``tmp`` are no names then."""

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
        return None if names.canonical(name) == names.INBOX else names.canonical(name)

    def possible(self, name: str) -> bool:
        """No level may look like a part of a Maildir, or like a file of ours."""
        levels = name.split(names.SEPARATOR)
        return not any(level in _MAILDIR_PARTS or level.startswith(".") for level in levels)

    def walk(self, root: str) -> Walk:
        """Every directory below."""
        found: list[str] = []
        watched: list[str] = [root]
        for directory in self._below(root, "", 0):
            watched.append(f"{root}/{directory}")
            if is_mailbox(f"{root}/{directory}"):
                found.append(directory)
        return Walk(frozenset(found), tuple(watched))

    def _below(self, path: str, prefix: str, level: int) -> Iterator[str]:
        if level > _DEEPEST:
            return
        with os.scandir(path) as entries:
            inner = [e.name for e in entries if e.is_dir() and e.name not in _MAILDIR_PARTS and e.name[0] != "."]
        for name in inner:
            yield prefix + name
            yield from self._below(f"{path}/{name}", f"{prefix}{name}/", level + 1)


DOT_LOCK = ".lock"  # behind the name of an mbox
INBOX_FILE = ".INBOX"  # INBOX where it is an mbox
LAYOUTS: dict[str, Layout] = {"maildir++": MaildirPlusPlus(), "fs": Nested()}


def is_mailbox(path: str) -> bool:
    """Whether a Maildir or an mbox is there."""
    return identity(path) is not None


def identity(path: str) -> int | None:
    """What tells a mailbox from another one made later under its name: the inode of a Maildir's ``cur``.

    0 for an mbox, which other programs may replace and which is still the same; None where no mailbox is.
    """
    try:
        return os.stat(f"{path}/cur").st_ino
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return 0 if is_mbox(path) else None


def is_mbox(path: str) -> bool:
    """Whether a plain file is there; the dot lock of an mbox is none, though it looks like the mbox of a child."""
    if path.endswith(DOT_LOCK):
        return False
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
