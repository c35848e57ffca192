"""Which messages meet a criterion.

A criterion is compiled to a predicate. The parts of a conjunction are tried one after the other over what is left, the
cheap ones first: flags and numbers, then the header from the cache, then the octets. For a text of three characters or
more the text index names candidates first; each is verified on the text, so the answer is that of reading everything.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from functools import partial

from mailserver.mail import dates, headers, objectid, text
from mailserver.store.mailbox import Mailbox
from mailserver.store.model import search as criteria
from mailserver.store.model.message import Message
from mailserver.store.model.search import Criterion, DateOf, Field, Relation
from mailserver.store.search.indexer import index, unindexed
from mailserver.store.search.texts import Texts

Predicate = Callable[["Subject"], bool]
# How dear a predicate is: flags and numbers, a header from the cache, a whole message.
CHEAP, HEADER, OCTETS = 0, 1, 2
_NO_TEXTS = Texts("", "")
_INDEXED_BATCH = 50  # messages decoded and indexed together
_INDEXING_SECONDS = 2.0  # that a search may spend on filling the index; clients lose patience after half a minute
_WORTH_INDEXING = 20  # messages; fewer are read as quickly


class Subject:
    """A message under examination; what was read or decoded of it once serves all keys."""

    __slots__ = ("_texts", "index", "message", "search")

    def __init__(self, search: Search, index: int, message: Message) -> None:
        self.search = search
        self.index = index  # in the view: sequence number - 1
        self.message = message
        self._texts: Texts | None = None

    def fact(self, kind: str, make: Callable[[bytes], bytes]) -> bytes:
        """A value made from the header; empty when the message is gone."""
        return self.search.mailbox.header_facts(kind, [self.message], make)[0] or b""

    def texts(self) -> Texts:
        """The decoded texts of its header and body; empty when it is gone."""
        if self._texts is None:
            self._texts = self.search.mailbox.texts([self.message])[0] or _NO_TEXTS
        return self._texts

    def size(self) -> int:
        """RFC822.SIZE."""
        return self.message.vsize if self.message.vsize >= 0 else self.search.mailbox.sizes([self.message])[0]


class Resolver:
    """What only the session knows: its numbers and what is recent in it."""

    def __init__(
        self, indexes: Callable[[criteria.NumberSet], Sequence[int]], is_recent: Callable[[int], bool]
    ) -> None:
        self.indexes = indexes
        self.is_recent = is_recent


class Search:
    """One search over one view."""

    def __init__(self, mailbox: Mailbox, messages: Sequence[Message], resolver: Resolver) -> None:
        self.mailbox = mailbox
        self.messages = messages
        self.resolver = resolver

    def run(self, criterion: Criterion) -> list[int]:
        """Indexes of the messages that meet the criterion, ascending."""
        keys = criterion.keys if isinstance(criterion, criteria.And) else (criterion,)
        compiled = sorted((_compile(key, self) for key in keys), key=lambda c: c[0])
        left = [Subject(self, i, m) for i, m in enumerate(self.messages)]
        for cost, predicate in compiled:
            if isinstance(predicate, _InField):
                left = predicate.sift(self.mailbox, left)
                continue
            if cost >= HEADER and left:
                self.mailbox.headers([s.message for s in left])  # all at once, not one by one
            left = [s for s in left if predicate(s)]
        return [s.index for s in left]


def search(mailbox: Mailbox, messages: Sequence[Message], criterion: Criterion, resolver: Resolver) -> list[int]:
    """Indexes into ``messages`` of those that meet the criterion, ascending."""
    return Search(mailbox, messages, resolver).run(criterion)


Compiled = tuple[int, Predicate]


def _compile(c: Criterion, search: Search) -> Compiled:
    return _MAKERS[type(c)](c, search)


def _all(c: criteria.All, search: Search) -> Compiled:
    return CHEAP, lambda s: True


def _has_flag(c: criteria.HasFlag, search: Search) -> Compiled:
    bit = int(c.flag)
    return CHEAP, lambda s: s.message.flags & bit != 0


def _has_keyword(c: criteria.HasKeyword, search: Search) -> Compiled:
    name = c.name.lower()
    return CHEAP, lambda s: any(k.lower() == name for k in s.message.keywords)


def _recent(c: criteria.Recent, search: Search) -> Compiled:
    is_recent = search.resolver.is_recent
    return CHEAP, lambda s: is_recent(s.message.uid)


def _numbers(c: criteria.NumberSet, search: Search) -> Compiled:
    found = frozenset(search.resolver.indexes(c))
    return CHEAP, lambda s: s.index in found


def _larger(c: criteria.Larger, search: Search) -> Compiled:
    return CHEAP, lambda s: s.size() > c.octets


def _smaller(c: criteria.Smaller, search: Search) -> Compiled:
    return CHEAP, lambda s: s.size() < c.octets


def _modified(c: criteria.ModifiedSince, search: Search) -> Compiled:
    return CHEAP, lambda s: s.message.modseq >= c.modseq


def _emailid(c: criteria.HasEmailId, search: Search) -> Compiled:
    return OCTETS, lambda s: search.mailbox.facts(objectid.KIND, [s.message], objectid.of)[0] == c.value


# RFC 5032 section 3: measured from now
def _within(c: criteria.Within, search: Search) -> Compiled:
    limit = int(time.time()) - c.seconds
    if c.younger:
        return CHEAP, lambda s: s.message.internaldate >= limit
    return CHEAP, lambda s: s.message.internaldate <= limit


_RELATIONS: dict[Relation, Callable[[int, int], bool]] = {
    Relation.BEFORE: lambda a, b: a < b,
    Relation.ON: lambda a, b: a == b,
    Relation.SINCE: lambda a, b: a >= b,
}


# RFC 9051 section 6.4.4: BEFORE, ON, SINCE disregard time and zone; SENT... look at the Date: field
def _date(c: criteria.Date, search: Search) -> Compiled:
    holds, day = _RELATIONS[c.relation], c.day.toordinal()
    if c.of is DateOf.INTERNAL:
        return CHEAP, lambda s: holds(_day(s.message.internaldate), day)
    if c.of is DateOf.SAVED:
        # RFC 8514 section 4.3: a message without a save date falls back to its internal date
        return CHEAP, lambda s: holds(_day(s.message.savedate or s.message.internaldate), day)

    def sent(s: Subject) -> bool:
        found = s.fact("sent-day", _sent_day)
        return bool(found) and holds(int(found), day)

    return HEADER, sent


def _day(seconds: int) -> int:
    t = time.localtime(seconds)
    return datetime.date(t.tm_year, t.tm_mon, t.tm_mday).toordinal()


def _sent_day(header: bytes) -> bytes:
    """The day that the Date: field names, in its own zone; empty without a usable one."""
    for name, value in headers.pairs(header):
        if name == b"date":
            found = dates.parse(value)
            return b"%d" % found.date().toordinal() if found is not None else b""
    return b""


# RFC 9051 section 6.4.4: substrings, compared under i;unicode-casemap (RFC 5051)
def _text(c: criteria.Text, search: Search) -> Compiled:
    needle = text.fold(c.needle)
    if c.field in (Field.HEADER, Field.ADDRESSES):
        return HEADER, _InField(c.header, needle.encode("utf-8", "replace"), addresses=c.field is Field.ADDRESSES)
    candidates = _candidates(search, needle)
    if c.field is Field.BODY:
        return OCTETS, lambda s: (candidates is None or s.message.uid in candidates) and needle in s.texts().body

    def anywhere(s: Subject) -> bool:
        possible = candidates is None or s.message.uid in candidates
        return possible and (needle in s.texts().headers or needle in s.texts().body)

    return OCTETS, anywhere


class _InField:
    """Whether a field holds the needle: of one message, or of many at once."""

    def __init__(self, name: str, needle: bytes, *, addresses: bool) -> None:
        as_addresses = addresses and bool(needle)
        values = text.address_values if as_addresses else text.header_values
        self._kind = ("addresses." if as_addresses else "text.") + name.lower()
        self._make = partial(_field_text, values, name.encode("utf-8"))
        # RFC 9051 section 6.4.4: a zero-length string matches all messages that have the field
        self._needle = needle or b"\0"

    def __call__(self, s: Subject) -> bool:
        return self._needle in s.fact(self._kind, self._make)

    def sift(self, mailbox: Mailbox, subjects: Sequence[Subject]) -> list[Subject]:
        needle = self._needle
        values = mailbox.header_facts(self._kind, [s.message for s in subjects], self._make)
        return [s for s, value in zip(subjects, values, strict=True) if value is not None and needle in value]


def _field_text(values: Callable[[bytes, bytes], list[str]], name: bytes, header: bytes) -> bytes:
    """The folded values of a field; each behind a NUL, so that an empty one is not none."""
    return b"".join(b"\0" + text.fold(value).encode("utf-8", "replace") for value in values(header, name))


def _candidates(search: Search, needle: str) -> frozenset[int] | None:
    """UIDs whose texts may hold the needle, after the index has been filled as far as time allows; None: any may."""
    if len(needle) < 3 or len(search.messages) < _WORTH_INDEXING:
        return None
    mailbox = search.mailbox
    missing = unindexed(mailbox, search.messages)
    until = time.monotonic() + _INDEXING_SECONDS
    while missing and time.monotonic() < until:
        index(mailbox, missing[:_INDEXED_BATCH])
        del missing[:_INDEXED_BATCH]
    texts, key = mailbox.text_index()
    found = texts.candidates(key, needle)
    if not missing or found is None:
        return found
    mailbox.index_soon()  # the rest in the background; this time it is read
    return found.union(m.uid for m in missing)


def _not(c: criteria.Not, search: Search) -> Compiled:
    cost, inner = _compile(c.key, search)
    return cost, lambda s: not inner(s)


def _or(c: criteria.Or, search: Search) -> Compiled:
    (cost, first), (dearer, second) = sorted((_compile(c.left, search), _compile(c.right, search)), key=lambda p: p[0])
    return max(cost, dearer), lambda s: first(s) or second(s)


def _and(c: criteria.And, search: Search) -> Compiled:
    pairs = sorted((_compile(key, search) for key in c.keys), key=lambda pair: pair[0])
    predicates = [p for _, p in pairs]
    return max((cost for cost, _ in pairs), default=CHEAP), lambda s: all(p(s) for p in predicates)


_MAKERS: dict[type, Callable[..., Compiled]] = {
    criteria.All: _all,
    criteria.HasFlag: _has_flag,
    criteria.HasKeyword: _has_keyword,
    criteria.Recent: _recent,
    criteria.NumberSet: _numbers,
    criteria.Larger: _larger,
    criteria.Smaller: _smaller,
    criteria.ModifiedSince: _modified,
    criteria.HasEmailId: _emailid,
    criteria.Within: _within,
    criteria.Date: _date,
    criteria.Text: _text,
    criteria.Not: _not,
    criteria.Or: _or,
    criteria.And: _and,
}
