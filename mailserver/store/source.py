"""A file that shall become a message of a mailbox."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mailserver.store.content import MessageFile
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.model.numbers import MAX_UID


@dataclass(frozen=True, slots=True)
class Append:
    """A message to append, with its flags and date (seconds since 1970; None: now)."""

    incoming: Incoming
    flags: int = 0
    keywords: frozenset[str] = frozenset()
    internaldate: int | None = None
    uid: int = 0  # the UID that it shall have, not below UIDNEXT; 0: the next one
    uidl: str = ""  # POP3's unique-id where another server gave one, if the format has a place for it
    place: int = 0  # in POP3's order, likewise; 0: behind those that have one, by UID


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
    uid: int = 0  # as in `Append`
    uidl: str = ""
    place: int = 0

    @property
    def fields(self) -> str:
        """What ``dovecot-uidlist`` says of it beside its UID."""
        return " ".join([f"P{self.uidl}"] * bool(self.uidl) + [f"O{self.place}"] * bool(self.place))

    def open(self) -> MessageFile:
        """Its octets."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return MessageFile(fd, self.vsize)
        except BaseException:
            os.close(fd)
            raise

    def copied(self, incoming: Incoming) -> Source:
        """The same as a file of ``incoming``'s, for a mailbox on another file system. OSError, FileNotFoundError."""
        try:
            with self.open() as content:
                for chunk in content.chunks():
                    incoming.write(chunk)
            incoming.finish(self.date)
        except BaseException:
            incoming.discard()
            raise
        size = incoming.size
        return replace(self, path=incoming.path, base=incoming.base, size=size, vsize=size, loose=True)

    def let_go(self) -> None:
        """It was placed, or could not be."""
        if self.loose:
            with contextlib.suppress(OSError):  # it was placed, and is no more; or it is swept away one day
                os.unlink(self.path)

    @classmethod
    def of(cls, item: Append) -> Source:
        """A received message."""
        incoming = item.incoming
        date = incoming.date if item.internaldate is None else item.internaldate
        size = incoming.size
        return cls(
            incoming.path,
            incoming.base,
            item.flags,
            item.keywords,
            date,
            size,
            size,
            uid=item.uid,
            uidl=item.uidl,
            place=item.place,
        )


def uids_for(asked: Sequence[int], uidnext: int) -> list[int]:
    """The UIDs for messages that ask for these (0: the next one).

    StoreError CANNOT when one is asked for that was given already, LIMIT when there are no more.
    """
    given = []
    for uid in asked:
        if uid and uid < uidnext:
            raise StoreError(Kind.CANNOT, "the UID was given to another message")
        given.append(uid or uidnext)
        uidnext = given[-1] + 1
    if uidnext > MAX_UID:
        raise StoreError(Kind.LIMIT, "the mailbox has used up its UIDs")
    return given
