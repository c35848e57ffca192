"""What one client has been told of its selected mailbox, and what it has not been told yet.

A session is a resynchronising client of its own store. The store hands out snapshots; the view keeps the list of
messages as the client numbers them. ``advance`` compares the two and says what the client must hear: that one
mechanism serves NOOP, IDLE, other sessions, other processes and foreign programs.

Messages are compared by identity: the store makes a new object for each change and keeps those of unchanged messages.
Where a command may not announce expunged messages (RFC 9051 section 7.5.1), they stay in the view as ghosts, keep
their numbers, and are announced by the next command that may.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailserver.imap.errors import Refused
from mailserver.store.errors import Kind, StoreError
from mailserver.store.mailbox import Mailbox
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.rights import ALL, WRITING, Rights, settable
from mailserver.store.model.search import NumberSet
from mailserver.store.state import position

if TYPE_CHECKING:
    from mailserver.imap.places import Place

_LOOK_SECONDS = 1.0  # between two looks at the access list of somebody else's mailbox: another program may edit it


@dataclass(slots=True)
class News:
    """What the client must be told, in the order in which it must be told."""

    expunged: list[tuple[int, int]] = field(default_factory=list)  # (seq, uid), highest first
    changed: list[tuple[int, Message]] = field(default_factory=list)  # (seq after the expunges, message)
    added: int = 0
    keywords: bool = False  # the mailbox has keywords that FLAGS did not name

    def __bool__(self) -> bool:
        return bool(self.expunged or self.changed or self.added or self.keywords)


class View:
    """The selected mailbox as its client sees it."""

    def __init__(
        self,
        mailbox: Mailbox,
        snapshot: Snapshot,
        *,
        read_only: bool,
        first_recent: int,
        place: Place | None = None,
        tick: Callable[[], int] = int,
        rights_tick: int = 0,
    ) -> None:
        """``read_only``: by EXAMINE. Without a ``place`` everything may be done.

        ``tick`` gives another number than ``rights_tick`` when the rights of ``place`` may have changed.
        """
        self.mailbox = mailbox
        self.place = place
        self._tick = tick
        self._rights_tick = rights_tick
        self._rights_looked = time.monotonic()
        self._examined = read_only
        self.set_rights(ALL if place is None else place.rights)
        self.snapshot = snapshot
        self.messages: Sequence[Message] = snapshot.messages
        self.saved: list[int] = []  # UIDs of the last SEARCH RETURN (SAVE), RFC 5182
        self.told_recent = 0  # the last number of RECENT
        self.tells_recent = True  # not to a client that enabled IMAP4rev2
        self.told = snapshot.highestmodseq  # everything up to this MODSEQ has been told
        self.ghosts = False  # some messages are gone, and that has not been told
        self._recent: list[tuple[int, int]] = [(first_recent, snapshot.uidnext)]  # UID ranges, end excluded

    def set_rights(self, rights: Rights) -> None:
        """What the client may do to the mailbox from here on."""
        self.rights = rights
        self.settable = settable(rights)
        # RFC 4314 section 5.2
        self.read_only = self._examined or not rights & WRITING

    def outdated(self) -> bool:
        """Whether the rights may be others than those that are known; says so once."""
        tick = self._tick()
        if tick == self._rights_tick:
            if self.place is None or self.place.own:
                return False
            if time.monotonic() - self._rights_looked < _LOOK_SECONDS:
                return False
        self._rights_tick, self._rights_looked = tick, time.monotonic()
        return True

    def require(self, *rights: str) -> None:
        """Refused [NOPERM] where the mailbox is open for reading only, or one of these rights is missing."""
        if self.read_only:
            raise Refused("The mailbox is open for reading only", b"NOPERM")
        if self.rights is not ALL and not self.rights.issuperset(rights):
            raise Refused("You may not do this to the mailbox", b"NOPERM")

    # -- recent

    def is_recent(self, uid: int) -> bool:
        """Whether the message is \\Recent in this session."""
        return self.tells_recent and any(first <= uid < end for first, end in self._recent)

    def first_recent(self) -> int:
        """No UID below this is recent."""
        if not self.tells_recent:
            return 1 << 32
        return min((first for first, end in self._recent if first < end), default=1 << 32)

    def claim(self, first: int, snapshot: Snapshot) -> None:
        """This session was the first to be told of the UIDs from ``first`` on."""
        if first >= snapshot.uidnext:
            return
        if self._recent[-1][1] == first:
            first = self._recent.pop()[0]
        self._recent = [*self._recent[-199:], (first, snapshot.uidnext)]

    def recent_count(self) -> int:
        """The number of RECENT."""
        messages = self.messages
        return sum(position(messages, end) - position(messages, first) for first, end in self._recent)

    # -- numbers

    def resolve(self, numbers: NumberSet) -> list[int]:
        """Indexes (sequence number - 1) of the messages named, ascending, each once.

        UIDs that do not exist are passed over; a sequence number that does not exist raises IndexError.
        RFC 9051 section 9: seq-number, seq-range.
        """
        messages = self.messages
        if numbers.saved:
            return [i for uid in self.saved if (i := self.index_of(uid)) is not None]
        ranges = numbers.ranges
        if len(ranges) == 1:
            return list(self._range(ranges[0], numbers.uid))
        found: set[int] = set()
        for pair in ranges:
            found.update(self._range(pair, numbers.uid))
        return sorted(found) if len(found) < len(messages) else list(range(len(messages)))

    def _range(self, pair: tuple[int | None, int | None], uid: bool) -> range:
        messages = self.messages
        if uid:
            if not messages:
                return range(0)
            last = messages[-1].uid
            low, high = (last if n is None else n for n in pair)
            if low > high:
                low, high = high, low
            return range(position(messages, low), position(messages, high + 1))
        count = len(messages)
        low, high = (count if n is None else n for n in pair)
        if low > high:
            low, high = high, low
        if low < 1 or high > count:
            raise IndexError(high)
        return range(low - 1, high)

    def resolve_leniently(self, numbers: NumberSet) -> list[int]:
        """As ``resolve``, but a sequence number that does not exist names nothing: in SEARCH it is no error to ask."""
        if numbers.uid or numbers.saved:
            return self.resolve(numbers)
        count = len(self.messages)
        found: set[int] = set()
        for pair in numbers.ranges:
            low, high = sorted(count if n is None else n for n in pair)
            found.update(range(max(low, 1) - 1, min(high, count)))
        return sorted(found)

    def index_of(self, uid: int) -> int | None:
        """Index of the message with this UID."""
        i = position(self.messages, uid)
        return i if i < len(self.messages) and self.messages[i].uid == uid else None

    def gone_from(self, snapshot: Snapshot, messages: Sequence[Message]) -> list[Message]:
        """Those of ``messages`` that ``snapshot`` does not have any more, though this view may still number them."""
        there = snapshot.messages
        if position(there, self.snapshot.uidnext) == len(self.messages):  # UIDs only go: nobody is missing
            return []
        present = {m.uid for m in there}
        return [m for m in messages if m.uid not in present]

    # -- news

    def advance(self, snapshot: Snapshot, *, expunge: bool) -> News:
        """Take over a newer snapshot and say what the client must be told; without ``expunge`` nothing vanishes.

        StoreError NOT_FOUND when this is not the mailbox any more that the client selected.
        """
        if snapshot is self.snapshot and not (self.ghosts and expunge):
            return News()
        if snapshot.uidvalidity != self.snapshot.uidvalidity:
            raise StoreError(Kind.NOT_FOUND, "the mailbox was replaced by another one")
        news = News(keywords=snapshot.keywords != self.snapshot.keywords)
        old, new = self.messages, snapshot.messages
        if old is not new:
            self._compare(old, new, news, expunge)
        self.snapshot = snapshot
        if not self.ghosts:
            self.told = snapshot.highestmodseq
        return news

    def _compare(self, old: Sequence[Message], new: Sequence[Message], news: News, expunge: bool) -> None:
        added = new[position(new, old[-1].uid + 1) :] if old else new
        news.added = len(added)
        current = set(new)
        replaced: dict[int, Message] = {}
        gone: list[int] = []
        for i, m in enumerate(old):
            if m not in current:
                j = position(new, m.uid)
                if j < len(new) and new[j].uid == m.uid:
                    replaced[i] = new[j]
                else:
                    gone.append(i)
        if len(old) - len(gone) + len(added) != len(new):  # UIDs came from nowhere: numbers cannot be kept
            raise StoreError(Kind.NOT_FOUND, "the mailbox was replaced by another one")
        shown = [(i, m) for i, m in replaced.items() if _looks_different(old[i], m)]
        if expunge or not gone:
            news.expunged = [(i + 1, old[i].uid) for i in reversed(gone)]
            self.messages, self.ghosts = new, False
            news.changed = [(i + 1 - _below(gone, i), m) for i, m in shown]
        else:
            kept = list(old)
            for i, m in replaced.items():
                kept[i] = m
            kept.extend(added)
            self.messages, self.ghosts = kept, True
            news.changed = [(i + 1, m) for i, m in shown]


def _looks_different(old: Message, new: Message) -> bool:
    return old.flags != new.flags or old.keywords != new.keywords or old.modseq != new.modseq


def _below(ascending: Sequence[int], i: int) -> int:
    return bisect_left(ascending, i)


def uid_ranges(uids: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending UIDs as ranges, both ends included."""
    ranges: list[tuple[int, int]] = []
    first = last = -1
    for uid in uids:
        if uid == last + 1 and first >= 0:
            last = uid
            continue
        if first >= 0:
            ranges.append((first, last))
        first = last = uid
    if first >= 0:
        ranges.append((first, last))
    return ranges
