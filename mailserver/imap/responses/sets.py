"""Sets of numbers as IMAP writes them."""

from __future__ import annotations

from collections.abc import Iterable


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


# RFC 4315 section 4: the two sets of COPYUID correspond one to one, so the order stays
def paired_sets(pairs: Iterable[tuple[int, int]]) -> tuple[bytes, bytes]:
    """Write two sets whose elements correspond, with ranges where both grow by one."""
    runs: list[list[int]] = []
    for old, new in pairs:
        if runs and old == runs[-1][1] + 1 and new == runs[-1][3] + 1:
            runs[-1][1], runs[-1][3] = old, new
        else:
            runs.append([old, old, new, new])
    return b",".join(_run(r[0], r[1]) for r in runs), b",".join(_run(r[2], r[3]) for r in runs)


def _run(first: int, last: int) -> bytes:
    return b"%d:%d" % (first, last) if last > first else b"%d" % first
