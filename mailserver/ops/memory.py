"""Giving memory back to the system.

Each connection has a thread, and glibc gives threads heaps of their own, eight for each core. What they free stays
there, in pieces between what is kept, so that a process of many short connections grows for hours though it holds no
more than before.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

_EVERY = 30.0  # seconds
_WORTH = 2 << 20  # octets that a process must have grown since the last time
_PAGE = os.sysconf("SC_PAGE_SIZE")
_HEAPS = 2  # nearly all memory is taken by whoever holds the interpreter's lock: more heaps would serve nobody
_M_ARENA_MAX = -8  # of mallopt(3)


def resident() -> int:
    """Octets of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _find_trim() -> Callable[[int], int] | None:
    """malloc_trim(3); None where the C library is another."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim if trim is not None and os.path.exists("/proc/self/statm") else None


def share_heaps() -> None:
    """Have all threads take memory from a few heaps. For a process of our own, before it starts threads."""
    limit = getattr(ctypes.CDLL(None), "mallopt", None)
    if limit is not None:
        limit(_M_ARENA_MAX, _HEAPS)


class Tidy:
    """Call it now and then: it looks twice a minute, and acts when the process has grown."""

    def __init__(self) -> None:
        self._trim = _find_trim()
        self._due = time.monotonic() + _EVERY
        self._last = 0

    def __call__(self) -> None:
        """Takes some milliseconds, thirty after a storm; other threads run meanwhile."""
        now = time.monotonic()
        if self._trim is None or now < self._due:
            return
        self._due = now + _EVERY
        if resident() > self._last + _WORTH:
            self._trim(0)
            self._last = resident()
