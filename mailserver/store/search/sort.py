"""SORT: messages in the order of keys.

RFC 5256 section 3: with equal keys the sequence number decides, whichever way the others run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailserver.store.mailbox import Mailbox
from mailserver.store.search.keys import Keys

Value = float | str
_BY_NAME: dict[str, Callable[[Keys, int], Value]] = {
    "ARRIVAL": lambda k, size: k.arrival(),
    "CC": lambda k, size: k.mailbox_of(b"cc"),
    "DATE": lambda k, size: k.sent(),
    "FROM": lambda k, size: k.mailbox_of(b"from"),
    "SIZE": lambda k, size: float(size),
    "SUBJECT": lambda k, size: k.subject(),
    "TO": lambda k, size: k.mailbox_of(b"to"),
    "DISPLAYFROM": lambda k, size: k.display_of(b"from"),
    "DISPLAYTO": lambda k, size: k.display_of(b"to"),
}


def sort(
    mailbox: Mailbox, indexes: Sequence[int], keys: Sequence[Keys], order: Sequence[tuple[str, bool]]
) -> list[int]:
    """The indexes in the order of the named keys; each with ``True`` for reverse."""
    sizes = [0] * len(keys)
    if any(name == "SIZE" for name, _ in order):
        sizes = mailbox.sizes([k.message for k in keys])
    places = list(range(len(indexes)))
    for name, reverse in reversed(order):  # stable: the last key first
        values = [_BY_NAME[name](k, size) for k, size in zip(keys, sizes, strict=True)]
        places.sort(key=values.__getitem__, reverse=reverse)
    return [indexes[p] for p in places]
