"""How much somebody did in the last minute or hour, counted over all workers. Knows nothing of what is counted.

Two windows are kept for each name, this one and the one before, and the older counts for as much of it as still lies
within the last window: never wrong by more than evenly spread traffic is. The numbers lie in shared memory, in a table
of fixed size by hash: a flood of names makes it no bigger. Each name has two places in it and the smaller number
counts, so that two names are taken for one only when they collide in both.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable

from mailserver.ops.shared import SharedRows

SLOTS = 8192
_CELLS = 3  # the number of the window, its count, the count of the one before


class Rates:
    """Counts over ``window`` seconds. Make it before the workers are forked."""

    def __init__(self, window: float, workers: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._rows = SharedRows(workers, 2 * SLOTS * _CELLS)
        self._key = secrets.token_bytes(16)
        self._row = 0
        self._lock = threading.Lock()

    def adopt(self, row: int) -> None:
        """Say which worker this process is; called once, just after the fork."""
        self._row = row
        self._lock = threading.Lock()

    def allow(self, name: str, cap: int) -> bool:
        """Count one for ``name`` unless that would pass ``cap``; say whether it was counted. 0 is no cap."""
        if not cap:
            return True
        slots = self._slots(name)
        with self._lock:
            if self._total(slots) + 1 > cap:
                return False
            for slot in slots:
                self._add(slot)
        return True

    def total(self, name: str) -> float:
        """Return what ``name`` did within the window."""
        with self._lock:
            return self._total(self._slots(name))

    def _slots(self, name: str) -> tuple[int, int]:
        digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), key=self._key, digest_size=16).digest()
        first, second = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
        return first % SLOTS * _CELLS, (SLOTS + second % SLOTS) * _CELLS

    def _total(self, slots: tuple[int, int]) -> float:
        rows, width = range(self._rows.rows), self._rows.columns
        return min(sum(self._value(row * width + slot) for row in rows) for slot in slots)

    def _value(self, cell: int) -> float:
        number, count, before = map(float, self._rows.cells[cell : cell + _CELLS].tolist())
        now = self._clock() / self._window
        age = int(now) - int(number)
        left = 1.0 - (now - int(now))
        if age == 0:
            return count + before * left
        return count * left if age == 1 else 0.0

    def _add(self, slot: int) -> None:
        """Count one in this worker's own row: nobody else writes there."""
        cells, cell = self._rows.cells, self._row * self._rows.columns + slot
        number, count, before = map(float, cells[cell : cell + _CELLS].tolist())
        now = int(self._clock() / self._window)
        if number != now:
            before = count if number == now - 1 else 0.0
            cells[cell], count = float(now), 0.0
        cells[cell + 1], cells[cell + 2] = count + 1.0, before
