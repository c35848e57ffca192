"""SEARCH and UID SEARCH, and the criteria that SORT and THREAD share with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mailserver.imap.grammar.charset import Decode, decoder
from mailserver.imap.grammar.cursor import BadCharset, BadSyntax, Cursor
from mailserver.imap.grammar.syntax import (
    MAX_NUMBER64,
    astring,
    atom,
    date,
    end,
    more,
    number,
    nz_number,
    parenthesized,
    quoted,
    sequence_set,
    space,
    word,
)
from mailserver.imap.grammar.window import Window, window
from mailserver.store.model.flags import Flag
from mailserver.store.model.search import (
    All,
    And,
    Criterion,
    Date,
    DateOf,
    Field,
    HasEmailId,
    HasFlag,
    HasKeyword,
    Larger,
    ModifiedSince,
    Not,
    Or,
    Recent,
    Relation,
    Smaller,
    Text,
    Within,
)

MAX_NESTING = 100  # parentheses, NOT and OR within each other; Apple Mail nests two for each field it looks at
RETURN_OPTIONS = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE", "PARTIAL"})


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is looked for. ``modseq``: a MODSEQ criterion was used; ``charset`` as the client named it."""

    key: Criterion
    charset: str | None = None
    modseq: bool = False


@dataclass(frozen=True, slots=True)
class Returns:
    """What stands behind RETURN: words in capitals, and the range of PARTIAL."""

    words: frozenset[str]
    window: Window | None = None

    def __contains__(self, word: str) -> bool:
        return word in self.words


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH. Without RETURN the answer is an untagged SEARCH."""

    criteria: Criteria
    uid: bool
    returns: Returns | None = None


_RETURN = re.compile(rb" RETURN (?=\()", re.IGNORECASE)
_CHARSET = re.compile(rb"CHARSET ", re.IGNORECASE)
_KEY = re.compile(rb"[A-Za-z]+")
_NUMBERS = re.compile(rb"[0-9*$]")
_ENTRY_TYPE = re.compile(rb" (?:priv|shared|all) ", re.IGNORECASE)


# RFC 9051 section 9: search = "SEARCH" [search-return-opts] SP search-program
def search(c: Cursor, uid: bool = False) -> Search:
    """Read SEARCH."""
    returns = return_options(c)
    space(c)
    charset = None  # Leniency.CHARSET_WITH_UTF8_ACCEPT: UTF8=ACCEPT is not looked at
    if (match := _CHARSET.match(c.data, c.pos)) is not None:
        c.pos = match.end()
        charset = astring(c, "a charset")
        space(c)
    return Search(criteria(c, charset, returns), uid, returns)


# RFC 9051 section 9: uid = "UID" SP (... / search / ...)
def uid_search(c: Cursor) -> Search:
    """Read UID SEARCH."""
    return search(c, uid=True)


# RFC 9051 section 9: search-return-opts = SP "RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")"
def return_options(c: Cursor) -> Returns | None:
    """Read RETURN (...) if it stands here; an empty list means ALL (RFC 4731 section 3.1)."""
    match = _RETURN.match(c.data, c.pos)
    if match is None:
        return None
    c.pos = match.end()
    options = parenthesized(c, _return_option, "return options", empty=True)
    windows = [found for _, found in options if found is not None]
    words = frozenset(option for option, _ in options) or frozenset({"ALL"})
    # RFC 9394 section 3.1: "either one PARTIAL, one ALL, or neither PARTIAL nor ALL is allowed"
    if len(windows) > 1 or (windows and "ALL" in words):
        c.pos -= 1
        c.expected("one PARTIAL, or ALL")
    return Returns(words, windows[0] if windows else None)


def _return_option(c: Cursor) -> tuple[str, Window | None]:
    start = c.pos
    option = word(c, "a return option")
    if option not in RETURN_OPTIONS:
        c.pos = start
        c.expected("MIN, MAX, ALL, COUNT, PARTIAL or SAVE")
    return option, window(c) if option == "PARTIAL" else None


# RFC 9051 section 9: search-program = ["CHARSET" SP charset SP] search-key *(SP search-key)
def criteria(c: Cursor, charset: bytes | None, returns: Returns | None = None) -> Criteria:
    """Read search keys to the end of the command. Raises BadCharset."""
    try:
        reader = _Keys(c, decoder(charset))
    except BadCharset as error:
        error.save = returns is not None and "SAVE" in returns
        raise
    keys = [reader.key()]
    while more(c):
        space(c)
        keys.append(reader.key())
    end(c)
    return Criteria(_all_of(keys), charset.decode("ascii") if charset is not None else None, reader.modseq)


def _all_of(keys: list[Criterion]) -> Criterion:
    return keys[0] if len(keys) == 1 else And(tuple(keys))


_SEEN = HasFlag(Flag.SEEN)
_CONSTANT: dict[bytes, Criterion] = {
    b"ALL": All(),
    b"ANSWERED": HasFlag(Flag.ANSWERED),
    b"DELETED": HasFlag(Flag.DELETED),
    b"DRAFT": HasFlag(Flag.DRAFT),
    b"FLAGGED": HasFlag(Flag.FLAGGED),
    b"SEEN": _SEEN,
    b"UNANSWERED": Not(HasFlag(Flag.ANSWERED)),
    b"UNDELETED": Not(HasFlag(Flag.DELETED)),
    b"UNDRAFT": Not(HasFlag(Flag.DRAFT)),
    b"UNFLAGGED": Not(HasFlag(Flag.FLAGGED)),
    b"UNSEEN": Not(_SEEN),
    b"NEW": And((Recent(), Not(_SEEN))),  # RFC 3501 section 6.4.4: "functionally equivalent to (RECENT UNSEEN)"
    b"OLD": Not(Recent()),
    b"RECENT": Recent(),
    b"SAVEDATESUPPORTED": All(),  # RFC 8514 section 4.3: every mailbox of ours keeps the date
}
_DATES = {
    prefix + relation.value.upper().encode(): (of, relation)
    for prefix, of in ((b"", DateOf.INTERNAL), (b"SENT", DateOf.SENT), (b"SAVED", DateOf.SAVED))
    for relation in Relation
}


class _Keys:
    """Reads search keys; knows the charset and how deep it is."""

    def __init__(self, c: Cursor, decode: Decode) -> None:
        self._c = c
        self._decode = decode
        self._depth = 0
        self.modseq = False

    # RFC 9051 section 9: search-key
    def key(self) -> Criterion:
        c = self._c
        match = _KEY.match(c.data, c.pos)
        if match is None:
            return self._unnamed()
        name = match.group().upper()
        constant = _CONSTANT.get(name)
        if constant is not None:
            c.pos = match.end()
            return constant
        if name in _DATES:
            c.pos = match.end()
            space(c)
            return Date(*_DATES[name], date(c))
        reader = _READERS.get(name)
        if reader is None:
            c.expected("a search key that this server knows")
        c.pos = match.end()
        space(c)
        return reader(self)

    # RFC 9051 section 9: search-key = ... / sequence-set / "(" search-key *(SP search-key) ")"
    def _unnamed(self) -> Criterion:
        c = self._c
        if c.at(b"("):
            self._enter()
            keys = parenthesized(c, lambda _: self.key(), "search keys")
            self._depth -= 1
            return _all_of(keys)
        if not _NUMBERS.match(c.data, c.pos):
            c.expected("a search key")
        return sequence_set(c, uid=False)

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise BadSyntax(f"Search keys are nested more than {MAX_NESTING} deep")

    # RFC 9051 section 9: "NOT" SP search-key
    def negation(self) -> Criterion:
        self._enter()
        key = self.key()
        self._depth -= 1
        return Not(key)

    # RFC 9051 section 9: "OR" SP search-key SP search-key
    def either(self) -> Criterion:
        self._enter()
        left = self.key()
        space(self._c)
        right = self.key()
        self._depth -= 1
        return Or(left, right)

    # RFC 9051 section 9: "UID" SP sequence-set
    def uids(self) -> Criterion:
        return sequence_set(self._c, uid=True)

    # RFC 9051 section 9: "BODY" SP astring / "TEXT" SP astring / "FROM" SP astring / ...
    def text(self, field: Field, header: str = "") -> Criterion:
        return Text(field, self._decode(astring(self._c, "what to look for")), header)

    # RFC 9051 section 9: "HEADER" SP header-fld-name SP astring
    def header(self) -> Criterion:
        name = astring(self._c, "the name of a header field").decode("iso-8859-1").lower()
        space(self._c)
        return self.text(Field.HEADER, name)

    # RFC 9051 section 9: "KEYWORD" SP flag-keyword
    def keyword(self) -> Criterion:
        return HasKeyword(atom(self._c, "a keyword").decode("ascii"))

    # RFC 9051 section 9: "LARGER" SP number64 / "SMALLER" SP number64
    def octets(self) -> int:
        return number(self._c, "a number of octets", MAX_NUMBER64)

    # RFC 5032 section 3: search-key =/ ( "OLDER" / "YOUNGER" ) SP nz-number
    def seconds(self) -> int:
        return nz_number(self._c, "a number of seconds")

    # RFC 7162 section 7: search-modsequence = "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer
    def modified(self) -> Criterion:
        c = self._c
        if c.at(b'"'):
            quoted(c, "the name of an entry")  # we keep one number for all flags, as RFC 7162 section 3.1.5 allows
            match = _ENTRY_TYPE.match(c.data, c.pos)
            if match is None:
                c.expected("priv, shared or all")
            c.pos = match.end()
        self.modseq = True
        return ModifiedSince(number(c, "a modification sequence", MAX_NUMBER64))

    # RFC 8474 section 7: search-key =/ "EMAILID" SP objectid / "THREADID" SP objectid
    def objectid(self) -> bytes:
        return astring(self._c, "an object identifier")


def _addresses(name: str) -> Callable[[_Keys], Criterion]:
    return lambda keys: keys.text(Field.ADDRESSES, name)


# RFC 8474 section 5.3: THREADID of every message is NIL
def _threadid(keys: _Keys) -> Criterion:
    keys.objectid()
    return Not(All())


_READERS: dict[bytes, Callable[[_Keys], Criterion]] = {
    b"BCC": _addresses("bcc"),
    b"CC": _addresses("cc"),
    b"FROM": _addresses("from"),
    b"SUBJECT": lambda keys: keys.text(Field.HEADER, "subject"),
    b"TO": _addresses("to"),
    b"BODY": lambda keys: keys.text(Field.BODY),
    b"TEXT": lambda keys: keys.text(Field.TEXT),
    b"HEADER": _Keys.header,
    b"KEYWORD": _Keys.keyword,
    b"UNKEYWORD": lambda keys: Not(keys.keyword()),
    b"LARGER": lambda keys: Larger(keys.octets()),
    b"SMALLER": lambda keys: Smaller(keys.octets()),
    b"OLDER": lambda keys: Within(False, keys.seconds()),
    b"YOUNGER": lambda keys: Within(True, keys.seconds()),
    b"MODSEQ": _Keys.modified,
    b"EMAILID": lambda keys: HasEmailId(keys.objectid()),
    b"THREADID": _threadid,
    b"NOT": _Keys.negation,
    b"OR": _Keys.either,
    b"UID": _Keys.uids,
}
