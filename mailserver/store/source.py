"""A file that shall become a message of a mailbox."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mailserver.store.formats.maildir.incoming import Incoming


@dataclass(frozen=True, slots=True)
class Append:
    """A message to append, with its flags and date (seconds since 1970; None: now)."""

    incoming: Incoming
    flags: int = 0
    keywords: frozenset[str] = frozenset()
    internaldate: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A file that shall become a message."""

    path: str
    base: str
    flags: int
    keywords: frozenset[str]
    date: int
    size: int
    vsize: int

    @classmethod
    def of(cls, item: Append) -> Source:
        """A received message."""
        incoming = item.incoming
        date = int(time.time()) if item.internaldate is None else item.internaldate
        return cls(incoming.path, incoming.base, item.flags, item.keywords, date, incoming.size, incoming.size)
