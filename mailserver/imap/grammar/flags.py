"""STORE and UID STORE."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from mailserver.imap.grammar.cursor import BadSyntax, Cursor
from mailserver.imap.grammar.syntax import (
    MAX_NUMBER64,
    Flags,
    collect,
    end,
    flag,
    flag_list,
    more,
    number,
    sequence_set,
    space,
)
from mailserver.store.model.search import NumberSet


class StoreOp(Enum):
    """What is done with the flags."""

    REPLACE = ""
    ADD = "+"
    REMOVE = "-"


@dataclass(frozen=True, slots=True)
class StoreFlags:
    """STORE."""

    messages: NumberSet
    op: StoreOp
    silent: bool
    flags: int
    keywords: frozenset[str]
    unchanged_since: int | None = None  # RFC 7162 section 3.1.3


_UNCHANGEDSINCE = re.compile(rb"\(UNCHANGEDSINCE ", re.IGNORECASE)
_ITEM = re.compile(rb"([+-]?)FLAGS(\.SILENT)? ", re.IGNORECASE)
_REMEMBERED = 200  # octets of arguments worth remembering: clients set the same flags again and again
_OPS = {b"": StoreOp.REPLACE, b"+": StoreOp.ADD, b"-": StoreOp.REMOVE}


# RFC 4466 section 6: store = "STORE" SP sequence-set [store-modifiers] SP store-att-flags
# RFC 9051 section 9: store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))
def store(c: Cursor, uid: bool = False) -> StoreFlags:
    """Read STORE."""
    space(c)
    messages = sequence_set(c, uid)
    space(c)
    return StoreFlags(messages, *_arguments(c))


# RFC 9051 section 9: uid = "UID" SP (... / store / ...)
def uid_store(c: Cursor) -> StoreFlags:
    """Read UID STORE."""
    return store(c, uid=True)


_Arguments = tuple[StoreOp, bool, int, frozenset[str], int | None]


def _arguments(c: Cursor) -> _Arguments:
    """Read what stands behind the set, from memory when the same was read before."""
    if len(c.data) - c.pos <= _REMEMBERED:
        try:
            return _remembered(c.data[c.pos :])
        except BadSyntax:
            pass  # read it once more at its place, so that the column is right
    return _read_arguments(c)


@lru_cache(maxsize=512)
def _remembered(text: bytes) -> _Arguments:
    return _read_arguments(Cursor(text))


def _read_arguments(c: Cursor) -> _Arguments:
    unchanged_since = _unchanged_since(c) if c.at(b"(") else None
    match = _ITEM.match(c.data, c.pos)
    if match is None:
        c.expected("FLAGS, +FLAGS or -FLAGS, or one of them with .SILENT, and flags")
    c.pos = match.end()
    flags, keywords = flag_list(c) if c.at(b"(") else _bare_flags(c)
    end(c)
    return _OPS[match.group(1)], match.group(2) is not None, flags, keywords, unchanged_since


# RFC 7162 section 7: store-modifier =/ "UNCHANGEDSINCE" SP mod-sequence-valzer
def _unchanged_since(c: Cursor) -> int:
    match = _UNCHANGEDSINCE.match(c.data, c.pos)
    if match is None:
        c.expected("(UNCHANGEDSINCE and a modification sequence")
    c.pos = match.end()
    modseq = number(c, "a modification sequence", MAX_NUMBER64)
    c.take(b")", '")"')
    space(c)
    return modseq


def _bare_flags(c: Cursor) -> Flags:
    names = [flag(c)]
    while more(c):
        space(c)
        names.append(flag(c))
    return collect(names)
