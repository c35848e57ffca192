"""APPEND (one message or many) and REPLACE: whole, and their beginnings while a literal waits for its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailserver.imap.framer import Literal
from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import (
    Flags,
    collect,
    date_time,
    end,
    flag,
    flag_list,
    mailbox,
    more,
    sequence_set,
    space,
)
from mailserver.store.model.search import NumberSet

_NO_FLAGS = Flags(0, frozenset())
_UTF8 = re.compile(rb"UTF8 \(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """One message: ``literal`` is its octets, or the token of those that went to a sink."""

    flags: int
    keywords: frozenset[str]
    internaldate: int | None  # seconds since 1970; None: now
    utf8: bool  # RFC 6855 section 4: sent as UTF8 (~{n}...)
    literal: Literal


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND."""

    name: bytes
    messages: tuple[AppendMessage, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE and UID REPLACE: ``target`` is a single number, or ``*``."""

    target: NumberSet
    name: bytes
    message: AppendMessage


@dataclass(frozen=True, slots=True)
class AppendHead:
    """An APPEND or REPLACE up to a literal that has been announced.

    ``name`` is None when the literal is the mailbox's name itself. ``message`` counts the messages from 0.
    """

    name: bytes | None
    message: int = 0
    flags: int = 0
    keywords: frozenset[str] = frozenset()
    internaldate: int | None = None
    utf8: bool = False
    target: NumberSet | None = None  # of REPLACE


# RFC 4466 section 6: append = "APPEND" SP mailbox 1*append-message
def append(c: Cursor) -> Append:
    """Read APPEND."""
    space(c)
    name = mailbox(c)
    messages = [_message(c)]
    while more(c):
        messages.append(_message(c))
    end(c)
    return Append(name, tuple(messages))


# RFC 8508 section 5: replace = "REPLACE" SP seq-number SP mailbox append-message
def replace(c: Cursor, uid: bool = False) -> Replace:
    """Read REPLACE."""
    target = _target(c, uid)
    space(c)
    name = mailbox(c)
    message = _message(c)
    end(c)
    return Replace(target, name, message)


# RFC 8508 section 5: uid =/ "UID" SP replace
def uid_replace(c: Cursor) -> Replace:
    """Read UID REPLACE."""
    return replace(c, uid=True)


def append_head(c: Cursor) -> AppendHead:
    """Read the beginning of APPEND, up to the announced literal; BadSyntax when no literal can stand there."""
    space(c)
    return _head(c, None)


def replace_head(c: Cursor, uid: bool = False) -> AppendHead:
    """Read the beginning of REPLACE, up to the announced literal."""
    target = _target(c, uid)
    space(c)
    return _head(c, target)


def uid_replace_head(c: Cursor) -> AppendHead:
    """Read the beginning of UID REPLACE, up to the announced literal."""
    return replace_head(c, uid=True)


def _head(c: Cursor, target: NumberSet | None) -> AppendHead:
    if c.pos == len(c.data):
        return AppendHead(None, target=target)
    name = mailbox(c)
    count = 0
    while True:
        flags, internaldate, utf8 = _options(c)
        if c.pos == len(c.data):
            return AppendHead(name, count, flags.flags, flags.keywords, internaldate, utf8, target)
        if target is not None:
            c.expected("one message")
        _octets(c, utf8)
        count += 1


# RFC 8508 section 5: replace = "REPLACE" SP seq-number ...
def _target(c: Cursor, uid: bool) -> NumberSet:
    space(c)
    start = c.pos
    target = sequence_set(c, uid)
    if target.saved or len(target.ranges) != 1 or target.ranges[0][0] != target.ranges[0][1]:
        c.pos = start
        c.expected("the number of one message")
    return target


# RFC 4466 section 6: append-message = append-opts SP append-data
def _message(c: Cursor) -> AppendMessage:
    flags, internaldate, utf8 = _options(c)
    return AppendMessage(flags.flags, flags.keywords, internaldate, utf8, _octets(c, utf8))


# RFC 4466 section 6: append-opts = [SP flag-list] [SP date-time] *(SP append-ext)
def _options(c: Cursor) -> tuple[Flags, int | None, bool]:
    """Read up to the place where the literal stands."""
    space(c)
    flags, internaldate = _NO_FLAGS, None
    if c.at(b"("):
        flags = flag_list(c)
        space(c)
    elif c.at(b"\\"):  # Leniency.FLAGS_WITHOUT_PARENTHESES
        flags = collect([flag(c)])
        space(c)
    if c.at(b'"'):
        internaldate = date_time(c)
        space(c)
    # RFC 6855 section 4: utf8-literal = "UTF8" SP "(" literal8 ")"
    match = _UTF8.match(c.data, c.pos)
    if match is not None:
        c.pos = match.end()
    elif c.pos < len(c.data) and not c.at(b"\0"):
        c.expected("flags, a date-time or the message as a literal")
    return flags, internaldate, match is not None


# RFC 4466 section 6: append-data = literal / literal8 / append-data-ext
def _octets(c: Cursor, utf8: bool) -> Literal:
    literal = c.literal()
    if utf8:
        c.take(b")", '")"')
    return literal
