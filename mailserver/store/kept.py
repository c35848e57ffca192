"""What a process keeps in memory of mailboxes that nobody may ask for again, within bounds for all accounts together.

`Values` holds what was made from messages' octets, `Open` the mailboxes themselves with their lists of messages. What
is put out is read again from the index when it is wanted.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

_VALUES = 64 << 20  # octets
_OVERHEAD = 120  # octets of memory that a value takes beside its own
_MAILBOXES = 1024
_MESSAGES = 300_000  # in the lists of all mailboxes; some 350 octets each
_AT_LEAST = 8  # mailboxes, however many messages they have


class Kept:
    """Values of one mailbox: kind -> UID -> value.

    Read by ``get`` without a lock while others write: each change is one operation of a dict.
    """

    __slots__ = ("kinds", "octets")

    def __init__(self) -> None:
        self.kinds: dict[str, dict[int, bytes]] = {}
        self.octets = 0

    def get(self, kind: str, uids: Iterable[int]) -> list[bytes | None]:
        """The value for each UID, None where there is none."""
        known = self.kinds.get(kind)
        return list(map(known.get, uids)) if known is not None else [None for _ in uids]


class Values:
    """Keeps the `Kept` of all mailboxes below ``capacity`` octets together. Thread-safe.

    The one that was filled longest ago is emptied first.
    """

    def __init__(self, capacity: int = _VALUES) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._held = 0
        self._filled: OrderedDict[int, Kept] = OrderedDict()
        self._abandoned: deque[Kept] = deque()

    @property
    def held(self) -> int:
        """Octets now."""
        with self._lock:
            self._sweep()
            return self._held

    def put(self, kept: Kept, kind: str, values: Mapping[int, bytes]) -> None:
        """Keep values that were not known."""
        with self._lock:
            self._sweep()
            known = kept.kinds.setdefault(kind, {})
            new = {uid: value for uid, value in values.items() if uid not in known}
            known.update(new)
            self._count(kept, sum(map(len, new.values())) + _OVERHEAD * len(new))
            self._filled[id(kept)] = kept
            self._filled.move_to_end(id(kept))
            while self._held > self._capacity:
                self._empty(self._filled.popitem(last=False)[1])

    def retain(self, kept: Kept, uids: frozenset[int]) -> None:
        """No other messages are left."""
        with self._lock:
            for kind, known in list(kept.kinds.items()):
                gone = known.keys() - uids
                self._count(kept, -sum(len(known[uid]) + _OVERHEAD for uid in gone))
                kept.kinds[kind] = {uid: value for uid, value in known.items() if uid in uids}

    def abandon(self, kept: Kept) -> None:
        """Nobody uses it any more. May be called at any moment, as the garbage collector does: takes no lock."""
        self._abandoned.append(kept)

    def _sweep(self) -> None:
        while self._abandoned:
            kept = self._abandoned.popleft()
            self._filled.pop(id(kept), None)
            self._empty(kept)

    def _empty(self, kept: Kept) -> None:
        self._held -= kept.octets
        kept.kinds, kept.octets = {}, 0

    def _count(self, kept: Kept, octets: int) -> None:
        kept.octets += octets
        self._held += octets


class HasMessages(Protocol):
    """A mailbox, as far as its size goes."""

    def known_messages(self) -> Sequence[object]:
        """Those that are in memory; looks at nothing else."""


class Open:
    """Holds on to the mailboxes used last, of all accounts, below so many mailboxes and messages. Thread-safe."""

    def __init__(self, mailboxes: int = _MAILBOXES, messages: int = _MESSAGES) -> None:
        self._most = mailboxes
        self._messages = messages
        self._lock = threading.Lock()
        self._used: OrderedDict[int, HasMessages] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def touch(self, mailbox: HasMessages) -> None:
        """It is being used."""
        with self._lock:
            new = id(mailbox) not in self._used
            self._used[id(mailbox)] = mailbox
            self._used.move_to_end(id(mailbox))
            out = self._put_out() if new else []
        del out  # here, without the lock: their end may lead back here

    def forget(self, mailbox: HasMessages) -> None:
        """It is gone, or its account is closed."""
        with self._lock:
            out = self._used.pop(id(mailbox), None)
        del out

    def _put_out(self) -> list[HasMessages]:
        """What there is no room for; counted when one comes, which is when its own messages are not read yet."""
        room = self._messages - sum(len(m.known_messages()) for m in self._used.values())
        out = []
        while len(self._used) > self._most or (room < 0 and len(self._used) > _AT_LEAST):
            mailbox = self._used.popitem(last=False)[1]
            room += len(mailbox.known_messages())
            out.append(mailbox)
        return out
