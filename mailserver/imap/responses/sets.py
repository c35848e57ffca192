"""Sets of numbers as IMAP writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


# RFC 9051 section 9: uid-set = (uniqueid / uid-range) *("," uid-set)
def number_set(numbers: Iterable[int]) -> bytes:
    """Write ascending numbers with ranges: ``1:3,7``."""
    parts: list[bytes] = []
    first = last = -1
    for n in numbers:
        if n == last + 1 and first >= 0:
            last = n
            continue
        if first >= 0:
            parts.append(b"%d:%d" % (first, last) if last > first else b"%d" % first)
        first = last = n
    if first >= 0:
        parts.append(b"%d:%d" % (first, last) if last > first else b"%d" % first)
    return b",".join(parts)


# RFC 4315 section 3: the two sets of COPYUID correspond in their order; ours ascend both
def paired_sets(pairs: Sequence[tuple[int, int]]) -> tuple[bytes, bytes]:
    """Write old and new UIDs as two sets that correspond one to one."""
    return number_set(old for old, _ in pairs), number_set(new for _, new in pairs)
