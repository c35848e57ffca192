"""Which flags changed at the source since they were last compared. Pure.

A flag is there or is not, so what changed there since then and what changed here can never contradict each other: a
flag that changed there becomes here what it is there, and every other one stays as it is here, whoever changed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mailserver.transfer.model import Item
from mailserver.transfer.record import Noted


@dataclass(frozen=True, slots=True)
class Change:
    """What came, and what went."""

    flags: int
    words: frozenset[str]
    flags_gone: int
    words_gone: frozenset[str]


def change(before: Noted, now: Item) -> Change | None:
    """None when nothing did. Keywords are the same in any case."""
    words = {word.lower(): word for word in now.keywords}
    known = {word.lower(): word for word in before.keywords}
    found = Change(
        int(now.flags) & ~before.flags,
        frozenset(words[word] for word in words.keys() - known.keys()),
        before.flags & ~int(now.flags),
        frozenset(known[word] for word in known.keys() - words.keys()),
    )
    return found if found.flags or found.words or found.flags_gone or found.words_gone else None


def is_untouched(before: Noted, flags: int, keywords: Iterable[str]) -> bool:
    """Whether a message has the flags here that it had there: nobody changed it here."""
    return before.flags == flags and {w.lower() for w in before.keywords} == {w.lower() for w in keywords}
