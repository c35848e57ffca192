"""What the store asks of a mailbox format. ``maildir.files`` is the one to read beside it.

The store decides (`Mailbox`), remembers and publishes (`Keeper`); a format knows where octets, flags, UIDs and keywords
lie in the files, and changes them. Everything but ``fingerprint`` is called under the mailbox's lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from mailserver.store.content import Content
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.numbers import ModSeq
from mailserver.store.model.pop import PopMessage
from mailserver.store.source import Source


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What must be unchanged for a mailbox to be unchanged."""

    times: tuple[int, ...]  # ns: a change of somebody else may hide behind one as young as our last look
    others: tuple[Any, ...] = ()  # numbers, or lists of numbers
    inode: int = field(default=0, compare=False)  # another one is another mailbox of the same name
    notes: tuple[Any, ...] = field(default=(), compare=False)  # what the format wants to find again when it is the same

    def dump(self) -> str:
        """As text for the index."""
        return json.dumps([self.times, self.others, self.notes])

    @classmethod
    def undump(cls, text: str) -> Fingerprint | None:
        """The reverse; None for what cannot be read, which merely means that the files are looked at."""
        try:
            times, others, notes = json.loads(text)
            return cls(tuple(times), tuple(tuple(o) if isinstance(o, list) else o for o in others), notes=tuple(notes))
        except (ValueError, TypeError):
            return None


UNKNOWN = Fingerprint((-1,))  # no mailbox has it: it will be looked at


@dataclass(slots=True)
class Found:
    """What a look at the files found different from a snapshot."""

    keywords: tuple[str, ...]
    changed: list[Message] = field(default_factory=list)
    gone: list[Message] = field(default_factory=list)
    added: list[Message] = field(default_factory=list)
    first_recent: int = 0


@dataclass(slots=True)
class Rewritten:
    """What became of messages that the format was told to change."""

    changed: list[Message] = field(default_factory=list)
    moved: dict[int, str] = field(default_factory=dict)  # UID -> where it stands now: others that moved for them
    missed: list[int] = field(default_factory=list)  # UIDs not found where we knew them: another program was there


@dataclass(slots=True)
class Placed:
    """What became of sources that the format was told to make messages of."""

    added: list[Message]
    moved: dict[int, str] = field(default_factory=dict)  # as in `Rewritten`: those that were there before


@dataclass(frozen=True, slots=True)
class Wanted:
    """A message, and the flags and keywords that it shall have."""

    message: Message
    flags: int
    keywords: frozenset[str]


class PopOrder(Protocol):
    """What the files know for POP3 beyond the UIDs; all but ``adopt`` is called without the lock."""

    def to_adopt(self, messages: Sequence[Message]) -> bool:
        """Whether another server gave one of them a unique-id that is not ours yet."""

    def adopt(self, uidnext: int) -> None:
        """Keep those unique-ids, and that server's order, for ever."""

    def ordered(self, messages: Sequence[Message]) -> list[PopMessage]:
        """The messages in POP3's order."""


class Files(Protocol):
    """The files of one mailbox. OSErrors are passed on."""

    format: str  # as the setting has it
    path: str
    moves_away: bool  # ``place`` in another mailbox of this format takes messages out of this one
    lock_path: str  # of the lock that our own processes take
    watched: tuple[str, ...]  # directories and files in which other programs' changes show

    @property
    def pop(self) -> PopOrder:
        """What POP3 asks."""

    def fingerprint(self) -> Fingerprint:
        """As it is now, cheaply; FileNotFoundError when the mailbox is gone."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep out the programs that respect this format's locks."""

    # -- knowledge

    @property
    def uidnext(self) -> int:
        """No message has this UID or a higher one."""

    @property
    def object_id(self) -> str:
        """A name that outlives renaming."""

    def recall(self, snapshot: Snapshot, fingerprint: Fingerprint | None) -> bool:
        """Begin with what the index remembers; False when the files contradict it, or say that it is another one."""

    def begin(self) -> Snapshot:
        """Begin with the files alone: UIDVALIDITY and keywords, and no messages yet."""

    def follow(self, snapshot: Snapshot) -> bool:
        """See what other programs wrote about UIDs; False when everything known is void: then ``begin``."""

    def settle(self, snapshot: Snapshot, fingerprint: Fingerprint | None) -> None:
        """Another process looked, and this is what it found."""

    def examine(self, old: Snapshot, fingerprint: Fingerprint, modseq: ModSeq, *, cold: bool) -> Found:
        """Compare the files with ``old``; messages that arrived get their UIDs, on disk too."""

    def committed(self, fingerprint: Fingerprint) -> None:
        """The change is published; this is how the files look after it."""

    def trim(self, messages: Sequence[Message]) -> None:
        """Tidy up when much of the bookkeeping belongs to messages that are gone. Never fails."""

    # -- change

    def define_keywords(self, table: tuple[str, ...]) -> None:
        """Write down what the letters mean, before a message uses them."""

    def place(self, sources: Sequence[Source], table: tuple[str, ...], modseq: ModSeq, *, keep: bool) -> Placed:
        """Make messages of them, all or none; ``keep``: the sources stay where they are.

        StoreError CANNOT when a source asks for a UID below UIDNEXT.
        """

    def enlist(self, promised: Mapping[str, tuple[int, str]], uidnext: int) -> None:
        """Files of these bases were being placed when their program died: see to it that they have, or can have, the
        UIDs (0: the next one) and further fields that they were to get. ``uidnext`` is what clients may know."""

    def renumber(self, uidvalidity: int, uidnext: int, messages: Sequence[Message]) -> None:
        """Have this UIDVALIDITY, and give no UID below ``uidnext`` any more; those of the messages stay."""

    def reflag(self, wanted: Sequence[Wanted], table: tuple[str, ...], modseq: ModSeq) -> Rewritten:
        """Give messages other flags and keywords."""

    def claim(self, messages: Sequence[Message]) -> Rewritten:
        """Note that a session was shown these arrived messages."""

    def fresh(self, snapshot: Snapshot) -> list[Message]:
        """Those that no session was shown yet, as far as the files tell."""

    def remove(self, messages: Sequence[Message]) -> Rewritten:
        """Remove messages."""

    def sync(self, messages: Sequence[Message], *, listed: bool) -> None:
        """Make placed (``listed``) or removed messages durable. Called after the lock was given back."""

    # -- octets

    def receive(self) -> Incoming:
        """Begin to write a message that shall come into this mailbox."""

    def open(self, message: Message) -> Content:
        """Open its octets; FileNotFoundError when it is not where we know it."""

    def read_many(self, messages: Sequence[Message]) -> list[bytes | None]:
        """All octets of several, None where ``open`` must be asked."""

    def source(self, message: Message) -> Source:
        """The message as something that can be placed in another mailbox."""
