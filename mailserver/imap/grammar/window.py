"""PARTIAL: a part of what was found, counted from its beginning or from its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import nz_number, space

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Window:
    """From the ``first`` to the ``last``, both included, counted from 1; ``label`` as the client wrote it."""

    first: int
    last: int
    from_end: bool
    label: bytes

    def of(self, found: Sequence[T]) -> Sequence[T]:
        """What there is of it, in the order of ``found``."""
        if self.from_end:
            end = len(found) - self.first + 1
            return found[max(0, len(found) - self.last) : max(0, end)]
        return found[self.first - 1 : self.last]


# RFC 9394 section 4: modifier-partial = "PARTIAL" SP partial-range
# partial-range-first = nz-number ":" nz-number ; partial-range-last = MINUS nz-number ":" MINUS nz-number
def window(c: Cursor) -> Window:
    """Read the range behind the word PARTIAL; "500:400" is the same as "400:500"."""
    space(c)
    start = c.pos
    from_end = c.skip(b"-")
    one = nz_number(c, "a range of results")
    c.take(b":", '":"')
    if from_end:
        c.take(b"-", '"-": both ends of the range count from the end, or none')
    other = nz_number(c, "the end of the range")
    return Window(min(one, other), max(one, other), from_end, c.data[start : c.pos])
