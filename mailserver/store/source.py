"""A file that shall become a message of a mailbox."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

from mailserver.store.content import MessageFile
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
    loose: bool = False  # nobody's but ours: it goes when it has been placed, or could not be

    def open(self) -> MessageFile:
        """Its octets."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return MessageFile(fd, self.vsize)
        except BaseException:
            os.close(fd)
            raise

    def let_go(self) -> None:
        """It was placed, or could not be."""
        if self.loose:
            with contextlib.suppress(OSError):  # it was placed, and is no more; or it is swept away one day
                os.unlink(self.path)

    @classmethod
    def of(cls, item: Append) -> Source:
        """A received message."""
        incoming = item.incoming
        date = int(time.time()) if item.internaldate is None else item.internaldate
        return cls(incoming.path, incoming.base, item.flags, item.keywords, date, incoming.size, incoming.size)
