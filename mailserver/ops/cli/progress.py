"""A line that says how far long work is: on a terminal only, and rewritten in place."""

from __future__ import annotations

import sys
import time

_EVERY_SECONDS = 0.2


class Meter:
    """``update`` as often as one likes; ``end`` clears the line."""

    def __init__(self, *, quiet: bool) -> None:
        self._on = not quiet and sys.stderr.isatty()
        self._begun = self._shown = time.monotonic()
        self._width = 0

    def update(self, what: str, done: int, total: int, octets: int) -> None:
        """``done`` of ``total`` messages, so many octets."""
        now = time.monotonic()
        if self._on and now - self._shown >= _EVERY_SECONDS:
            self._shown = now
            self._show(line(what, done, total, octets, now - self._begun))

    def _show(self, text: str) -> None:
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def end(self) -> None:
        """Leave an empty line to whoever writes next."""
        if self._width:
            self._show("")
            sys.stderr.write("\r")
            sys.stderr.flush()


def line(what: str, done: int, total: int, octets: int, seconds: float) -> str:
    """``INBOX: 120 of 5000 messages, 12.1 MB, 340/s, 0:14 left``; ``seconds`` it took so far."""
    name = "".join(c if c.isprintable() else "?" for c in what)
    rate = done / seconds if seconds > 0 else 0.0
    left = f", {_clock((total - done) / rate)} left" if rate and total > done else ""
    return f"{name}: {done} of {max(total, done)} messages, {octets / 1e6:.1f} MB, {rate:.0f}/s{left}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
