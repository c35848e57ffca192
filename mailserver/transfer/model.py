"""The values of an import, and what a source of mail must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


class SourceError(Exception):
    """The source cannot be read; the text says why, in one line."""


class LostError(SourceError):
    """The connection to it broke: another one may do."""


class WithheldError(SourceError):
    """The source has a message, and does not give it."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of the source."""

    name: str  # with "/" between levels, as it will be called here if nobody says otherwise
    source: str  # what the source calls it
    uidvalidity: int = 0  # 0: its messages have no UIDs
    uidnext: int = 1


@dataclass(frozen=True, slots=True)
class Item:
    """A message of a folder of the source."""

    key: str  # what tells it from all others of the folder, for ever
    uid: int = 0
    flags: int = 0
    keywords: frozenset[str] = frozenset()
    date: int | None = None  # seconds since 1970; None: as the message itself says
    size: int = 0  # octets, as far as the source knows
    uidl: str = ""  # POP3's unique-id
    place: int = 0  # in POP3's order; 0: by UID


@dataclass(frozen=True, slots=True)
class Contents:
    """What a folder has when it is looked at."""

    folder: Folder  # with its numbers as they are now
    items: Sequence[Item]  # in their order
    total: int = -1  # messages that are there; -1: the items are all of them
    modseq: int = 0  # the state that was looked at, where the source counts them (RFC 7162); 0: it does not

    @property
    def whole(self) -> bool:
        """Whether the items are all messages; else those that are new or changed."""
        return self.total < 0

    @property
    def count(self) -> int:
        """Messages that are there."""
        return len(self.items) if self.total < 0 else self.total


def from_nothing(folder: Folder) -> int:
    """No state of the folder is known."""
    return 0


class Session(Protocol):
    """One thread's way to the source."""

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """The octets of each; those that are gone are left out. SourceError, OSError.

        WithheldError: one of them could not be had, nobody knows which if there are several.
        """

    def close(self) -> None:
        """Let go."""


class Origin(Protocol):
    """A source of mail. Used by one thread, but for the sessions. SourceError, OSError."""

    identity: str  # the same for the same source, without secrets
    parallel: bool  # several sessions at a time are possible

    def folders(self) -> Sequence[Folder]:
        """All that can hold messages."""

    def count(self, folder: Folder) -> int:
        """How many messages it has, roughly."""

    def subscriptions(self) -> Sequence[str]:
        """Names as in ``Folder.name``; they need not exist."""

    def contents(self, folder: Folder, since: Callable[[Folder], int] = from_nothing) -> Contents:
        """What it has now. ``since`` says up to which state (``Contents.modseq``) a folder with its present numbers
        is known: a source that counts its states need not tell of messages that did not change."""

    def keys(self, folder: Folder) -> Collection[str]:
        """Of all messages that are there now."""

    def session(self) -> Session:
        """A way for a thread of its own."""

    def close(self) -> None:
        """Let go."""
