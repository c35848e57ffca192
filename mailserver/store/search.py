"""Which messages meet a criterion.

A criterion is compiled to a predicate; in a conjunction the cheap ones go first, and a message's octets are read only
when a text is asked for and everything cheaper has agreed.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence

from mailserver.mail import dates, headers, structure, text
from mailserver.mail.structure import Part
from mailserver.store.errors import StoreError
from mailserver.store.mailbox import Mailbox
from mailserver.store.model import search as criteria
from mailserver.store.model.message import Message
from mailserver.store.model.search import Criterion, DateOf, Field, Relation

HEADER_FACT = "header.1"  # the message's header as it is

Predicate = Callable[["Subject"], bool]
# How dear a predicate is: flags and numbers, a header from the cache, a whole message.
_CHEAP, _HEADER, _OCTETS = 0, 1, 2


def make_header(message: bytes) -> bytes:
    """The header with its empty line: kept as a fact."""
    return headers.split(message)[0]


class Subject:
    """A message under examination; what was read or decoded of it once serves all keys."""

    __slots__ = ("_body", "_header", "_headers", "_octets", "_parts", "index", "mailbox", "message")

    def __init__(self, mailbox: Mailbox, index: int, message: Message, header: bytes | None) -> None:
        self.mailbox = mailbox
        self.index = index  # in the view: sequence number - 1
        self.message = message
        self._header = header
        self._octets: bytes | None = None
        self._body: str | None = None
        self._headers: str | None = None
        self._parts: Part | None = None

    def octets(self) -> bytes:
        """The whole message; empty when it is gone."""
        if self._octets is None:
            try:
                self._octets = self.mailbox.read(self.message)
            except StoreError:
                self._octets = b""
        return self._octets

    def header(self) -> bytes:
        """Its header; empty when it is gone."""
        if self._header is None:
            self._header = self.mailbox.facts(HEADER_FACT, [self.message], make_header)[0] or b""
        return self._header

    def _root(self) -> Part:
        if self._parts is None:
            self._parts = structure.parse(self.octets())
        return self._parts

    def body(self) -> str:
        """The decoded text of its body, casemapped."""
        if self._body is None:
            self._body = text.fold(text.body_text(self.octets(), self._root()))
        return self._body

    def headers(self) -> str:
        """The decoded text of its header and those of its parts, casemapped."""
        if self._headers is None:
            self._headers = text.fold("\n".join(text.header_texts(self.octets(), self._root())))
        return self._headers

    def size(self) -> int:
        """RFC822.SIZE."""
        return self.message.vsize if self.message.vsize >= 0 else self.mailbox.sizes([self.message])[0]


class Resolver:
    """What only the session knows: its numbers and what is recent in it."""

    def __init__(
        self, indexes: Callable[[criteria.NumberSet], Sequence[int]], is_recent: Callable[[int], bool]
    ) -> None:
        self.indexes = indexes
        self.is_recent = is_recent


def search(mailbox: Mailbox, messages: Sequence[Message], criterion: Criterion, resolver: Resolver) -> list[int]:
    """Indexes into ``messages`` of those that meet the criterion, ascending."""
    cost, predicate = _compile(criterion, resolver)
    subjects = [Subject(mailbox, i, m, None) for i, m in enumerate(messages)]
    if cost == _HEADER:
        _prefetch_headers(mailbox, subjects)
    return [s.index for s in subjects if predicate(s)]


def _prefetch_headers(mailbox: Mailbox, subjects: Sequence[Subject]) -> None:
    for s, header in zip(subjects, mailbox.facts(HEADER_FACT, [s.message for s in subjects], make_header), strict=True):
        s._header = header


def _compile(c: Criterion, resolver: Resolver) -> tuple[int, Predicate]:
    for kind, maker in _MAKERS.items():
        if isinstance(c, kind):
            return maker(c, resolver)
    raise AssertionError(c)


def _all(c: criteria.All, resolver: Resolver) -> tuple[int, Predicate]:
    return _CHEAP, lambda s: True


def _has_flag(c: criteria.HasFlag, resolver: Resolver) -> tuple[int, Predicate]:
    bit = int(c.flag)
    return _CHEAP, lambda s: s.message.flags & bit != 0


def _has_keyword(c: criteria.HasKeyword, resolver: Resolver) -> tuple[int, Predicate]:
    name = c.name.lower()
    return _CHEAP, lambda s: any(k.lower() == name for k in s.message.keywords)


def _recent(c: criteria.Recent, resolver: Resolver) -> tuple[int, Predicate]:
    return _CHEAP, lambda s: resolver.is_recent(s.message.uid)


def _numbers(c: criteria.NumberSet, resolver: Resolver) -> tuple[int, Predicate]:
    found = frozenset(resolver.indexes(c))
    return _CHEAP, lambda s: s.index in found


def _larger(c: criteria.Larger, resolver: Resolver) -> tuple[int, Predicate]:
    return _CHEAP, lambda s: s.size() > c.octets


def _smaller(c: criteria.Smaller, resolver: Resolver) -> tuple[int, Predicate]:
    return _CHEAP, lambda s: s.size() < c.octets


def _modified(c: criteria.ModifiedSince, resolver: Resolver) -> tuple[int, Predicate]:
    return _CHEAP, lambda s: s.message.modseq >= c.modseq


# RFC 5032 section 3: measured from now
def _within(c: criteria.Within, resolver: Resolver) -> tuple[int, Predicate]:
    limit = int(time.time()) - c.seconds
    if c.younger:
        return _CHEAP, lambda s: s.message.internaldate >= limit
    return _CHEAP, lambda s: s.message.internaldate <= limit


_RELATIONS: dict[Relation, Callable[[datetime.date, datetime.date], bool]] = {
    Relation.BEFORE: lambda a, b: a < b,
    Relation.ON: lambda a, b: a == b,
    Relation.SINCE: lambda a, b: a >= b,
}


# RFC 9051 section 6.4.4: BEFORE, ON, SINCE disregard time and zone; SENT... look at the Date: field
def _date(c: criteria.Date, resolver: Resolver) -> tuple[int, Predicate]:
    holds, day = _RELATIONS[c.relation], c.day
    if c.of is DateOf.INTERNAL:
        return _CHEAP, lambda s: holds(_day(s.message.internaldate), day)
    if c.of is DateOf.SAVED:
        # RFC 8514 section 4.3: a message without a save date falls back to its internal date
        return _CHEAP, lambda s: holds(_day(s.message.savedate or s.message.internaldate), day)

    def sent(s: Subject) -> bool:
        found = sent_date(s.header())
        return found is not None and holds(found.date(), day)

    return _HEADER, sent


def _day(seconds: int) -> datetime.date:
    t = time.localtime(seconds)
    return datetime.date(t.tm_year, t.tm_mon, t.tm_mday)


def sent_date(header: bytes) -> datetime.datetime | None:
    """What the Date: field says, None without a usable one."""
    for name, value in headers.pairs(header):
        if name == b"date":
            return dates.parse(value)
    return None


# RFC 9051 section 6.4.4: substrings, compared under i;unicode-casemap (RFC 5051)
def _text(c: criteria.Text, resolver: Resolver) -> tuple[int, Predicate]:
    needle = text.fold(c.needle)
    if c.field is Field.BODY:
        return _OCTETS, lambda s: needle in s.body()
    if c.field is Field.TEXT:
        return _OCTETS, lambda s: needle in s.headers() or needle in s.body()
    name = c.header.encode("utf-8")
    values = text.address_values if c.field is Field.ADDRESSES and needle else text.header_values
    return _HEADER, lambda s: any(needle in text.fold(value) for value in values(s.header(), name))


def _not(c: criteria.Not, resolver: Resolver) -> tuple[int, Predicate]:
    cost, inner = _compile(c.key, resolver)
    return cost, lambda s: not inner(s)


def _or(c: criteria.Or, resolver: Resolver) -> tuple[int, Predicate]:
    (cost, first), (cost2, second) = sorted(
        (_compile(c.left, resolver), _compile(c.right, resolver)), key=lambda pair: pair[0]
    )
    return max(cost, cost2), lambda s: first(s) or second(s)


def _and(c: criteria.And, resolver: Resolver) -> tuple[int, Predicate]:
    pairs = sorted((_compile(key, resolver) for key in c.keys), key=lambda pair: pair[0])
    predicates = [p for _, p in pairs]
    # what only a header or the octets can tell is read for those alone that pass the cheap keys
    cost = _CHEAP if pairs and pairs[0][0] == _CHEAP else max((p[0] for p in pairs), default=_CHEAP)
    return cost, lambda s: all(p(s) for p in predicates)


_MAKERS: dict[type, Callable[..., tuple[int, Predicate]]] = {
    criteria.All: _all,
    criteria.HasFlag: _has_flag,
    criteria.HasKeyword: _has_keyword,
    criteria.Recent: _recent,
    criteria.NumberSet: _numbers,
    criteria.Larger: _larger,
    criteria.Smaller: _smaller,
    criteria.ModifiedSince: _modified,
    criteria.Within: _within,
    criteria.Date: _date,
    criteria.Text: _text,
    criteria.Not: _not,
    criteria.Or: _or,
    criteria.And: _and,
}
