"""``courierpop3dsizelist``: the unique-ids that Courier's POP3 server gave to the messages of a Maildir.

Courier's versions have written four forms, which the first line tells apart:

=======================  ==========================  ==============================================
first line               lines                       unique-id
=======================  ==========================  ==============================================
(none: version 0)        ``name size``               the name
``/1 next``              ``name size uid``           ``UIDuid``
``/2 next uidvalidity``  ``name size uid:uidv``      ``UIDuid-uidv``, ``UIDuid`` where uidv is 0
``/3 next uidvalidity``  ``name size uid:uidv:utf8`` the same
=======================  ==========================  ==============================================

``name`` is a file name, which may hold spaces, with flags or without. Where uid is 0, as later versions write what they
found in version 0, the unique-id is the name without flags, what is not plain in it as ``+HH``. The order in which
Courier shows messages is that of their names. Courier 1.0 reads versions 2 and 3 only: who left an older list was an
older Courier, and its clients know the older forms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from mailserver.store.model.pop import plain

NAME = "courierpop3dsizelist"
_HEADER = re.compile(rb"/(\d+) \d+")
_NUMBERS = re.compile(rb"(\d+)(?::(\d+))?")


def read(path: str) -> dict[str, str]:
    """Return the unique-id of each base (a file name without flags); nothing when there is no list."""
    try:
        with open(path, "rb") as f:
            return parse(f.read())
    except FileNotFoundError:
        return {}


def parse(data: bytes) -> dict[str, str]:
    """Return what the list says. Lines that make no sense are passed over."""
    lines = data.split(b"\n")
    version = 0
    if lines[0].startswith(b"/"):
        header = _HEADER.match(lines.pop(0))
        version = int(header[1]) if header else -1
        if not 1 <= version <= 3:
            return {}
    found: dict[str, str] = {}
    for line in lines:
        name, *words = line.rsplit(b" ", 2 if version else 1)
        base = name.partition(b":")[0]
        uidl = _unique_id(version, base, words) if base and words and words[0].isdigit() else ""
        if uidl:
            found[os.fsdecode(base)] = uidl
    return found


def _unique_id(version: int, base: bytes, words: list[bytes]) -> str:
    if not version:
        return plain(base)
    numbers = _NUMBERS.match(words[1]) if len(words) == 2 else None
    if numbers is None or (version > 1 and numbers[2] is None):
        return ""
    uid, uidv = int(numbers[1]), int(numbers[2] or 0) if version > 1 else 0
    if not uid:
        return plain(base)
    return f"UID{uid}-{uidv}" if uidv else f"UID{uid}"


def order(uidls: Mapping[str, str]) -> list[str]:
    """Return the bases as Courier numbers their messages."""
    return sorted(uidls, key=os.fsencode)
