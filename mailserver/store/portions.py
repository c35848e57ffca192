"""Many messages in groups that are few and small enough to be handled, or held in memory, together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def portions(items: Iterable[T], size: Callable[[T], int], *, octets: int, most: int = 1 << 30) -> Iterator[list[T]]:
    """In their order; each group has at most ``most`` items and ``octets`` octets, but never less than one item."""
    group: list[T] = []
    held = 0
    for item in items:
        if group and (len(group) >= most or held + size(item) > octets):
            yield group
            group, held = [], 0
        group.append(item)
        held += size(item)
    if group:
        yield group
