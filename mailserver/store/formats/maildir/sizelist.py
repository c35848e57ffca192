"""``courierpop3dsizelist``: the unique-ids that Courier's POP3 server gave to the messages of a Maildir.

Courier's versions have written four forms, which the first line tells apart:

=======================  ==========================  ===================================================
first line               lines                       unique-id
=======================  ==========================  ===================================================
(none: version 0)        ``name size``               the name, what is not plain in it as ``+HH``
``/1 next``              ``name size uid``           ``UIDuid``
``/2 next uidvalidity``  ``name size uid:uidv``      ``UIDuid-uidv``, ``UIDuid`` where uidv is 0
``/3 next uidvalidity``  ``name size uid:uidv:utf8`` the same
=======================  ==========================  ===================================================

``name`` is a file name, with flags or without. A uid of 0 is none: Courier would give a new one. The order in which
Courier shows messages is that of their names. A list that Courier would not read either is as good as none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from mailserver.store.model.pop import plain

NAME = "courierpop3dsizelist"
_HEADER = re.compile(rb"/(\d) (\d+)(?: (\d+))?\s*\Z")


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
        if header is None or not 1 <= version <= 3 or (version > 1 and header[3] is None):
            return {}
    found: dict[str, str] = {}
    for line in lines:
        name, _, rest = line.partition(b" ")
        base = name.partition(b":")[0]
        uidl = _unique_id(version, base, rest.split())
        if uidl:
            found[os.fsdecode(base)] = uidl
    return found


def _unique_id(version: int, base: bytes, words: list[bytes]) -> str:
    if not base or len(words) < 1 + (version > 0) or not words[0].isdigit():
        return ""
    if version == 0:
        return plain(base)
    numbers = words[1].split(b":")
    if not all(n.isdigit() for n in numbers[:2]) or not int(numbers[0]) or (version > 1 and len(numbers) < 2):
        return ""
    uidv = int(numbers[1]) if version > 1 else 0
    return f"UID{int(numbers[0])}" + (f"-{uidv}" if uidv else "")


def order(uidls: Mapping[str, str]) -> list[str]:
    """Return the bases as Courier numbers their messages."""
    return sorted(uidls, key=os.fsencode)
