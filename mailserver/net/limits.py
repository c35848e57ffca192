"""Caps that count over all worker processes: connections per server and per client address.

Made before the workers are forked. A worker adds to its own row and reads the sum of all rows; when it dies, the
supervisor gives its share back (`SharedLimits.give_back`). Two workers that look at the same instant may pass a cap by
one each: a cap protects memory, where one more or less does not matter, and no lock between processes is then held by a
process that was killed.
"""

from __future__ import annotations

import ipaddress
import threading
import zlib

from mailserver.ops.shared import SharedRows

ADDRESS_SLOTS = 16384  # per table; two tables, so that two addresses share a count only when they collide in both
MAX_SEMAPHORES = 64


def address_group(address: str) -> str:
    """Return what is counted as one client: the IPv4 address, or the /64 an IPv6 address lies in (one household has
    that many).
    """
    if ":" not in address:
        return address
    try:
        network = ipaddress.ip_network(address.partition("%")[0] + "/64", strict=False)
    except ValueError:
        return address
    return str(network.network_address)


class SharedLimits:
    """The counters of one program: named semaphores and connections by address."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._row = 0
        self._lock = threading.Lock()
        self._names: dict[str, int] = {}
        self._totals = SharedRows(workers, MAX_SEMAPHORES)
        self._addresses = SharedRows(workers, 2 * ADDRESS_SLOTS)

    def adopt(self, row: int) -> None:
        """Say which worker this process is; called once, just after the fork."""
        self._row = row
        self._lock = threading.Lock()

    def give_back(self, row: int) -> None:
        """Free what a dead worker held."""
        self._totals.clear_row(row)
        self._addresses.clear_row(row)

    def semaphore(self, name: str, cap: int) -> SharedSemaphore:
        """Return the semaphore of that name, counted over all workers. Call it before the fork."""
        with self._lock:
            column = self._names.setdefault(name, len(self._names))
        if column >= MAX_SEMAPHORES:
            raise ValueError(f"more than {MAX_SEMAPHORES} semaphores")
        return SharedSemaphore(self, column, cap)

    def add(self, column: int, amount: int, cap: int) -> bool:
        """Add to a total unless that would pass ``cap``; say whether it was added."""
        totals = self._totals
        with self._lock:
            if amount > 0 and totals.sum(column) + amount > cap:
                return False
            cell = self._row * MAX_SEMAPHORES + column
            totals.cells[cell] = max(0.0, totals.cells[cell] + amount)
        return True

    def total(self, column: int) -> int:
        """Return a total over all workers."""
        return int(self._totals.sum(column))

    def lighter(self, column: int) -> int:
        """Return how many workers have less of a total than this one (of two with the same, the first)."""
        rows = self._totals
        shares = [(rows.cells[row * MAX_SEMAPHORES + column], row) for row in range(self.workers)]
        mine = shares[self._row]
        return sum(share < mine for share in shares)

    def _slots(self, address: str) -> tuple[int, int]:
        key = address_group(address).encode()
        return zlib.crc32(key) % ADDRESS_SLOTS, ADDRESS_SLOTS + zlib.adler32(
            key
        ) * 2654435761 % 4294967296 % ADDRESS_SLOTS

    def enter_address(self, address: str, cap: int) -> bool:
        """Count a connection from ``address``; False, and nothing counted, when it has ``cap`` already."""
        first, second = self._slots(address)
        rows = self._addresses
        with self._lock:
            if min(rows.sum(first), rows.sum(second)) >= cap:
                return False
            base = self._row * rows.columns
            rows.cells[base + first] += 1
            rows.cells[base + second] += 1
        return True

    def leave_address(self, address: str) -> None:
        """Undo `enter_address`."""
        cells = self._addresses.cells
        with self._lock:
            base = self._row * self._addresses.columns
            for slot in self._slots(address):
                cells[base + slot] = max(0.0, cells[base + slot] - 1)


class SharedSemaphore:
    """A semaphore of ``cap`` permits over all workers; never blocks."""

    def __init__(self, limits: SharedLimits, column: int, cap: int) -> None:
        self._limits = limits
        self._column = column
        self.cap = cap

    def acquire(self) -> bool:
        """Take a permit if there is one."""
        return self._limits.add(self._column, 1, self.cap)

    def release(self) -> None:
        """Give a permit back."""
        self._limits.add(self._column, -1, self.cap)

    @property
    def lighter(self) -> int:
        """How many workers hold fewer permits than this one."""
        return self._limits.lighter(self._column) if self._limits.workers > 1 else 0

    @property
    def held(self) -> int:
        """Permits taken, over all workers."""
        return self._limits.total(self._column)
