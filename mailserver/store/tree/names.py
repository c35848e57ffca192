"""Mailbox names and the directories that hold them, as Maildir++ has it.

Towards clients the hierarchy separator is ``/``; on disk a folder ``A/B`` is ``.A.B`` beside the INBOX, every level in
modified UTF-7. A dot inside a level is written ``\\2e`` and a backslash ``\\5c``, which is what Dovecot's listescape
plugin writes and reads.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mailserver.mail import mutf7
from mailserver.store.errors import Kind, StoreError

SEPARATOR = "/"
INBOX = "INBOX"
_ESCAPED = re.compile(r"\\([0-9a-fA-F]{2})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # RFC 6855 section 3
MAX_DIRECTORY = 240  # octets; NAME_MAX is 255, and lock and temporary names stand beside it
MAX_LEVELS = 40


def canonical(name: str) -> str:
    """The name with INBOX in capitals (RFC 9051 section 5.1) and without a trailing separator."""
    name = name.removesuffix(SEPARATOR)
    if name[:5].upper() == INBOX and (len(name) == 5 or name[5] == SEPARATOR):
        return INBOX + name[5:]
    return name


@lru_cache(maxsize=4096)
def check(name: str) -> str:
    """The canonical name if it can be stored; StoreError BAD_NAME says why not."""
    name = canonical(name)
    levels = name.split(SEPARATOR)
    if not name:
        raise StoreError(Kind.BAD_NAME, "a mailbox name may not be empty")
    if "" in levels:
        raise StoreError(Kind.BAD_NAME, "a level of a mailbox name may not be empty")
    if "." in levels or ".." in levels:
        raise StoreError(Kind.BAD_NAME, "a level of a mailbox name may not be '.' or '..'")
    if _CONTROL.search(name):
        raise StoreError(Kind.BAD_NAME, "a mailbox name may not contain control characters")
    if len(levels) > MAX_LEVELS:
        raise StoreError(Kind.BAD_NAME, f"a mailbox name may not have more than {MAX_LEVELS} levels")
    try:
        directory = to_directory(name).encode("ascii")
    except UnicodeEncodeError:
        raise StoreError(Kind.BAD_NAME, "a mailbox name must be valid Unicode") from None
    if len(directory) > MAX_DIRECTORY:
        raise StoreError(Kind.BAD_NAME, "the mailbox name is too long")
    return name


@lru_cache(maxsize=4096)
def to_directory(name: str) -> str:
    """``A/B`` -> ``.A.B``; INBOX -> the empty string (the top itself)."""
    name = canonical(name)
    if name == INBOX:
        return ""
    return "".join("." + _level_to_disk(level) for level in name.split(SEPARATOR))


@lru_cache(maxsize=4096)
def from_directory(directory: str) -> str | None:
    """``.A.B`` -> ``A/B``; None for a directory whose name is no mailbox name."""
    levels = directory[1:].split(".")
    if not directory.startswith(".") or "" in levels:
        return None
    try:
        name = SEPARATOR.join(_level_from_disk(level) for level in levels)
    except ValueError:
        return None
    return None if canonical(name) == INBOX else canonical(name)


def _level_to_disk(level: str) -> str:
    return mutf7.encode(level).replace("\\", "\\5c").replace(".", "\\2e")


def unescaped(level: str) -> str:
    """A level of a directory's name without the escapes of the listescape plugin; still in modified UTF-7."""
    return _ESCAPED.sub(lambda m: chr(int(m[1], 16)), level)


def _level_from_disk(level: str) -> str:
    decoded = mutf7.decode(unescaped(level))
    if SEPARATOR in decoded or not decoded:
        raise ValueError(level)
    return decoded


def parents(name: str) -> list[str]:
    """``A/B/C`` -> ``["A", "A/B"]``."""
    levels = name.split(SEPARATOR)
    return [SEPARATOR.join(levels[:i]) for i in range(1, len(levels))]
