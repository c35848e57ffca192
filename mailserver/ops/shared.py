"""Numbers that all worker processes see: rows of 8-octet floats in anonymous shared memory, made before the fork.

Each worker writes only its own row, so no lock is needed between processes; a reader sums the rows. A float holds every
whole number below 2^53 and is written in one aligned store, so a reader sees the old or the new number and nothing
between.
"""

from __future__ import annotations

import mmap


class SharedRows:
    """``rows`` rows of ``columns`` numbers, all 0. Processes forked later share them."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns
        self._memory = mmap.mmap(-1, max(rows * columns * 8, mmap.PAGESIZE))
        self.cells = memoryview(self._memory).cast("d")

    def sum(self, column: int) -> float:
        """Add up a column over all workers."""
        cells, width = self.cells, self.columns
        if self.rows == 1:
            return cells[column]
        return sum(cells[column : self.rows * width : width].tolist())

    def clear_row(self, row: int) -> None:
        """Set a row to 0: its worker is dead and what it held is free."""
        start = row * self.columns
        end = start + self.columns
        for first in range(start, end, 4096):
            last = min(first + 4096, end)
            if any(self.cells[first:last].tolist()):  # untouched pages stay untouched
                self.cells[first:last] = memoryview(bytes((last - first) * 8)).cast("d")
