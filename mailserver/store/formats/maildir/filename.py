"""What a Maildir file name says, and how ours are made.

``cur/1700000000.M12P34Q5.host,S=1000,W=1020:2,FSa``: unique part, physical and virtual size, flags, keyword letters.
The unique part with its sizes is the *base*: it never changes while flags come and go.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import time
from dataclasses import dataclass
from functools import lru_cache

from mailserver.store.model.flags import Flag

KEYWORD_LETTERS = "abcdefghijklmnopqrstuvwxyz"

_FLAG_LETTERS = (  # in the order in which they must stand: ASCII
    ("D", Flag.DRAFT),
    ("F", Flag.FLAGGED),
    ("R", Flag.ANSWERED),
    ("S", Flag.SEEN),
    ("T", Flag.DELETED),
)
_FLAG_BY_LETTER = {letter: int(flag) for letter, flag in _FLAG_LETTERS}
_SYSTEM_SUFFIX = tuple(
    "".join(letter for letter, flag in _FLAG_LETTERS if bits & flag) for bits in range(32)
)  # indexed by the bits of Flag
_SIZES = re.compile(r",(?P<kind>[SW])=(?P<octets>\d{1,15})(?=[,:]|$)")
_counter = itertools.count(1)
_host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file name taken apart. ``letters`` are the keyword letters, ``other`` flags that nobody defined: kept."""

    base: str
    flags: int
    letters: str
    other: str


def unique() -> str:
    """Make a name that no other delivery on any machine has: seconds, microseconds, process, counter, host."""
    now = time.time_ns()
    return f"{now // 10**9}.M{now % 10**9 // 1000}P{os.getpid()}Q{next(_counter)}.{_host}"


def base_of(file: str) -> str:
    """The part of ``cur/NAME:2,FLAGS`` that stays the same: NAME."""
    return file[4:].partition(":")[0]


def parse(file: str) -> Parsed:
    """Take ``cur/...`` or ``new/...`` apart."""
    base, _, info = file[4:].partition(":")
    return Parsed(base, *parse_info(info))


@lru_cache(maxsize=4096)
def parse_info(info: str) -> tuple[int, str, str]:
    """Flags, keyword letters and other letters of what stands behind the colon; a folder has few different ones."""
    if not info.startswith("2,"):
        return 0, "", ""
    flags, letters, other = 0, "", ""
    for letter in info[2:]:
        if letter in _FLAG_BY_LETTER:
            flags |= _FLAG_BY_LETTER[letter]
        elif letter in KEYWORD_LETTERS:
            letters += letter
        else:
            other += letter
    return flags, letters, other


@lru_cache(maxsize=4096)
def suffix(flags: int, positions: tuple[int, ...], other: str = "") -> str:
    """``:2,`` and the letters for these flags and keyword positions (those past ``z`` have no letter)."""
    letters = "".join(KEYWORD_LETTERS[p] for p in sorted(positions) if p < len(KEYWORD_LETTERS))
    if other:
        return ":2," + "".join(sorted(set(_SYSTEM_SUFFIX[flags] + letters + other)))
    return ":2," + _SYSTEM_SUFFIX[flags] + letters


def sizes(file: str) -> tuple[int, int]:
    """Physical and virtual size as the name gives them, each -1 where it does not."""
    found = {m["kind"]: int(m["octets"]) for m in _SIZES.finditer(base_of(file))}
    return found.get("S", -1), found.get("W", -1)


def order(base: str) -> tuple[int, int, str]:
    """Sort key: the order of arrival, as far as the name tells it."""
    m = re.match(r"(\d{1,18})(?:\.M(\d{1,9}))?", base)
    return (int(m[1]), int(m[2] or 0), base) if m else (2**63, 0, base)
