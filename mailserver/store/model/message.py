"""One message as the store knows it, and a mailbox as it stood at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailserver.store.model.numbers import ModSeq, Uid, UidValidity


class Message:
    """What is known of a message without opening its file. Immutable: a change makes a new one.

    Two snapshots share the objects of unchanged messages, so that identity tells whether something changed.
    """

    __slots__ = ("file", "flags", "internaldate", "keywords", "modseq", "savedate", "size", "uid", "vsize")

    def __init__(
        self,
        uid: Uid,
        file: str,
        flags: int,
        keywords: frozenset[str],
        modseq: ModSeq,
        internaldate: int,
        size: int,
        vsize: int,
        savedate: int = 0,
    ) -> None:
        self.uid = uid
        self.file = file  # the format's own name for it: for Maildir "cur/1.M2P3.host,S=4,W=4:2,S"
        self.flags = flags  # bits of model.flags.Flag
        self.keywords = keywords  # interned: equal sets are the same object where possible
        self.modseq = modseq
        self.internaldate = internaldate  # seconds since 1970, UTC
        self.size = size  # octets on disk
        self.vsize = vsize  # octets with every line ended by CRLF (RFC822.SIZE); -1: not known yet
        self.savedate = savedate  # seconds since 1970; 0: not known

    def __repr__(self) -> str:
        return f"<Message {self.uid} {self.file!r}>"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A mailbox at one moment: never changed, replaced as a whole."""

    uidvalidity: UidValidity
    uidnext: int
    highestmodseq: ModSeq
    first_recent: int  # UIDs from here on have not yet been shown to any selecting session
    messages: Sequence[Message]  # ascending UIDs
    keywords: tuple[str, ...]  # every keyword that the mailbox knows, in the order of its letters


@dataclass(frozen=True, slots=True)
class MailboxInfo:
    """A line of LIST."""

    name: str
    selectable: bool
    has_children: bool
    subscribed: bool
    special_use: str = ""  # e.g. "\\Sent"
    inferiors: bool = True  # whether it has children or may get some
    level: bool = False  # whether it is there and is no mailbox: a directory for others
