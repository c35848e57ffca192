"""The values of an import, and what a source of mail must be able to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


class SourceError(Exception):
    """The source cannot be read; the text says why, in one line."""


class LostError(SourceError):
    """The connection to it broke: another one may do."""


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


class Session(Protocol):
    """One thread's way to the source."""

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """The octets of each; those that are gone are left out. SourceError, OSError."""

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

    def items(self, folder: Folder) -> tuple[Folder, Sequence[Item]]:
        """The folder with its numbers as they are now, and its messages in their order."""

    def session(self) -> Session:
        """A way for a thread of its own."""

    def close(self) -> None:
        """Let go."""
