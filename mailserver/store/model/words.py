"""Sets of keywords."""

from __future__ import annotations

_MAX_KNOWN = 10_000
_known: dict[str, frozenset[str]] = {}


def keyword_set(words: str) -> frozenset[str]:
    """Space-separated keywords as a set; equal ones are the same object."""
    found = _known.get(words)
    if found is None:
        if len(_known) > _MAX_KNOWN:
            _known.clear()
        found = _known[words] = frozenset(words.split())
    return found
