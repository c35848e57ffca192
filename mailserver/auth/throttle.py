"""Slowing down those who guess: a delay before the answer, never a lock-out.

A score per client address and one per user rise with each *distinct* wrong password and halve every few minutes; a
telephone that repeats an old password all day counts once. Loopback is never delayed. The scores lie in memory shared
by all workers, in a table of fixed size by hash: a flood of addresses makes it no bigger.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from mailserver.ops.shared import SharedRows

SLOTS = 32768
HALF_LIFE = 300.0  # seconds
FREE = 3.0  # wrong passwords of an address that cost nothing: everybody mistypes
USER_FREE = 10.0  # the same for a user: many addresses guess at one user
LONGEST = 15.0  # seconds of delay at most
USER_LONGEST = 4.0  # the owner waits so long at most while others guess at the account
REMEMBERED = 10_000  # wrong passwords remembered, to count the same one once
TRUSTED = 600.0  # seconds for which an address that logged in does not feel the guessing of others


class Throttle:
    """See the module. Make it before the workers are forked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._scores = SharedRows(1, 2 * SLOTS)  # a score and when it was written, slot by slot
        self._key = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._trusted: OrderedDict[bytes, float] = OrderedDict()

    def delay(self, address: str, user: str, loopback: bool = False) -> float:
        """Return the seconds to wait before a password from ``address`` for ``user`` is looked at."""
        if loopback:
            return 0.0
        wait = _seconds(self._score(self._slot(b"a" + address.encode())), FREE, LONGEST)
        if self._fresh(self._trusted, self._digest(address, user), TRUSTED):
            return wait
        by_user = _seconds(self._score(self._slot(_user_key(user))), USER_FREE, USER_LONGEST)
        return max(wait, by_user)

    def failed(self, address: str, user: str, password: bytes, loopback: bool = False) -> None:
        """Note a wrong password."""
        digest = self._digest(address, user, password)
        with self._lock:
            known = self._fresh(self._seen, digest, 2 * HALF_LIFE)
            self._remember(self._seen, digest)
        if not known and not loopback:
            self._raise(self._slot(b"a" + address.encode()))
            self._raise(self._slot(_user_key(user)))

    def succeeded(self, address: str, user: str) -> None:
        """Note a right password: the address no longer feels the guessing of others at this user."""
        with self._lock:
            self._remember(self._trusted, self._digest(address, user))

    def unblock(self, address: str) -> None:
        """Forget an address's wrong passwords."""
        self._scores.cells[self._slot(b"a" + address.encode())] = 0.0

    def _digest(self, address: str, user: str, password: bytes = b"") -> bytes:
        text = b"\0".join((address.encode(), user.encode("utf-8", "surrogateescape"), password))
        return hashlib.blake2b(text, key=self._key, digest_size=16).digest()

    def _slot(self, name: bytes) -> int:
        digest = hashlib.blake2b(name, key=self._key, digest_size=8).digest()
        return int.from_bytes(digest, "big") % SLOTS * 2

    def _score(self, slot: int) -> float:
        score, since = self._scores.cells[slot : slot + 2].tolist()
        return score * 0.5 ** (max(0.0, self._clock() - since) / HALF_LIFE) if score else 0.0

    def _raise(self, slot: int) -> None:
        cells = self._scores.cells  # two workers at once may lose one count; nothing hangs on one
        cells[slot], cells[slot + 1] = self._score(slot) + 1, self._clock()

    def _fresh(self, table: OrderedDict[bytes, float], digest: bytes, seconds: float) -> bool:
        since = table.get(digest)
        return since is not None and self._clock() - since < seconds

    def _remember(self, table: OrderedDict[bytes, float], digest: bytes) -> None:
        table[digest] = self._clock()
        table.move_to_end(digest)
        if len(table) > REMEMBERED:
            table.popitem(last=False)


def _user_key(user: str) -> bytes:
    return b"u" + user.encode("utf-8", "surrogateescape")


def _seconds(score: float, free: float, longest: float) -> float:
    return 0.0 if score <= free else min(longest, 0.5 * 2.0 ** min(score - free, 10.0))
