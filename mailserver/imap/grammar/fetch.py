"""FETCH and UID FETCH."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from mailserver.imap.grammar.cursor import BadSyntax, Cursor
from mailserver.imap.grammar.syntax import (
    MAX_NUMBER64,
    astring,
    end,
    more,
    number,
    parenthesized,
    sequence_set,
    space,
    word,
)
from mailserver.imap.grammar.window import Window, window
from mailserver.store.model.search import NumberSet


class Item(Enum):
    """An item without arguments; the value is its name in the answer."""

    ENVELOPE = b"ENVELOPE"
    FLAGS = b"FLAGS"
    INTERNALDATE = b"INTERNALDATE"
    RFC822_SIZE = b"RFC822.SIZE"
    BODY = b"BODY"  # the structure without extension data
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    UID = b"UID"
    RFC822 = b"RFC822"  # RFC 3501 section 6.4.5, and the two below
    RFC822_HEADER = b"RFC822.HEADER"
    RFC822_TEXT = b"RFC822.TEXT"
    MODSEQ = b"MODSEQ"  # RFC 7162 section 3.1.4
    SAVEDATE = b"SAVEDATE"  # RFC 8514 section 4.1
    EMAILID = b"EMAILID"  # RFC 8474 section 5.1
    THREADID = b"THREADID"  # RFC 8474 section 5.2


class Text(Enum):
    """What of a part is asked for."""

    ALL = ""  # the part itself, or the whole message
    HEADER = "HEADER"
    FIELDS = "HEADER.FIELDS"
    FIELDS_NOT = "HEADER.FIELDS.NOT"
    TEXT = "TEXT"
    MIME = "MIME"


@dataclass(frozen=True, slots=True)
class Partial:
    """So many octets from an origin counted from 0."""

    origin: int
    count: int


@dataclass(frozen=True, slots=True)
class Section:
    """What stands in the brackets. ``part`` is () for the whole message; ``fields`` in capitals."""

    part: tuple[int, ...] = ()
    text: Text = Text.ALL
    fields: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """BODY[...] and BODY.PEEK[...]. ``label`` is how the answer names it: b"BODY[1.TEXT]<0>"."""

    section: Section
    peek: bool
    partial: Partial | None
    label: bytes


@dataclass(frozen=True, slots=True)
class Binary:
    """BINARY[...] and BINARY.PEEK[...].  RFC 9051 section 6.4.5.1."""

    part: tuple[int, ...]
    peek: bool
    partial: Partial | None
    label: bytes


@dataclass(frozen=True, slots=True)
class BinarySize:
    """BINARY.SIZE[...]."""

    part: tuple[int, ...]
    label: bytes


@dataclass(frozen=True, slots=True)
class Preview:
    """PREVIEW; ``lazy``: only if it costs nothing.  RFC 8970 section 3."""

    lazy: bool


FetchItem = Item | Body | Binary | BinarySize | Preview


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH. Items in the order asked, each once."""

    messages: NumberSet
    items: tuple[FetchItem, ...]
    changed_since: int | None = None
    vanished: bool = False
    window: Window | None = None


# RFC 9051 section 6.4.5: ALL, FAST and FULL stand for several items; only as the sole argument
_FAST = (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE)
_MACROS: dict[bytes, tuple[FetchItem, ...]] = {
    b"FAST": _FAST,
    b"ALL": (*_FAST, Item.ENVELOPE),
    b"FULL": (*_FAST, Item.ENVELOPE, Item.BODY),
}
_NAME = re.compile(rb"[A-Za-z0-9.]+")
_PART = re.compile(rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9}){0,63}(?=[].])")
_TEXT = re.compile(rb"(HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME)(?=[] ])", re.IGNORECASE)
_LAZY = re.compile(rb" \(LAZY\)", re.IGNORECASE)
_PLAIN_FIELD = re.compile(rb"[!-~]+")
_NEEDS_QUOTES = re.compile(rb'[\x00-\x20\x7f-\xff(){%*"\\]')
_REMEMBERED = 600  # octets of arguments worth remembering: clients ask for the same items again and again


# RFC 9051 section 9
# fetch = "FETCH" SP sequence-set SP ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")")
# RFC 4466 section 6: fetch =/ ... [fetch-modifiers]
def fetch(c: Cursor, uid: bool = False) -> Fetch:
    """Read FETCH."""
    space(c)
    messages = sequence_set(c, uid)
    space(c)
    return Fetch(messages, *_arguments(c, uid))


# RFC 9051 section 9: uid = "UID" SP (... / fetch / ...)
def uid_fetch(c: Cursor) -> Fetch:
    """Read UID FETCH."""
    return fetch(c, uid=True)


_Modifiers = tuple[int | None, bool, Window | None]
_Arguments = tuple[tuple[FetchItem, ...], int | None, bool, Window | None]


def _arguments(c: Cursor, uid: bool) -> _Arguments:
    """Read what stands behind the set, from memory when the same was read before."""
    if c.next_literal == len(c.literals) and len(c.data) - c.pos <= _REMEMBERED:
        try:
            arguments = _remembered(c.data[c.pos :], uid)
        except BadSyntax:
            pass  # read it once more at its place, so that the column is right
        else:
            c.pos = len(c.data)
            return arguments
    return _read_arguments(c, uid)


@lru_cache(maxsize=1024)
def _remembered(text: bytes, uid: bool) -> _Arguments:
    return _read_arguments(Cursor(text), uid)


def _read_arguments(c: Cursor, uid: bool) -> _Arguments:
    items = _items(c)
    modifiers: _Modifiers = None, False, None
    if more(c):
        space(c)
        modifiers = _modifiers(c, uid)
    end(c)
    return items, *modifiers


# RFC 9051 section 9: fetch = ... ("ALL" / "FULL" / "FAST" / fetch-att / "(" fetch-att *(SP fetch-att) ")")
def _items(c: Cursor) -> tuple[FetchItem, ...]:
    if c.at(b"("):
        return tuple(dict.fromkeys(parenthesized(c, _item, "items")))
    match = _NAME.match(c.data, c.pos)
    macro = _MACROS.get(match.group().upper()) if match else None
    if match is None or macro is None:
        return (_item(c),)
    c.pos = match.end()
    return macro


# RFC 9051 section 9: fetch-att
def _item(c: Cursor) -> FetchItem:
    match = _NAME.match(c.data, c.pos)
    if match is None:
        c.expected("an item to fetch")
    name = match.group().upper()
    sectioned = c.data[match.end() : match.end() + 1] == b"["
    reader = _SECTIONED.get(name) if sectioned else _READERS.get(name)
    if reader is None:
        c.expected("an item to fetch that this server knows")
    c.pos = match.end()
    return reader(c)


# RFC 8970 section 6: fetch-att =/ "PREVIEW" [SP "(" preview-mod *(SP preview-mod) ")"] ; preview-mod = "LAZY"
def _preview(c: Cursor) -> Preview:
    match = _LAZY.match(c.data, c.pos)
    if match is not None:
        c.pos = match.end()
    return Preview(lazy=match is not None)


# RFC 9051 section 9: "BODY" section [partial] / "BODY.PEEK" section [partial]
def _body(c: Cursor, peek: bool) -> Body:
    section, label = _section(c)
    partial = _partial(c)
    return Body(section, peek, partial, b"BODY[" + label + b"]" + _origin(partial))


# RFC 9051 section 9: "BINARY" [".PEEK"] section-binary [partial]
def _binary(c: Cursor, peek: bool) -> Binary:
    part, label = _section_binary(c)
    partial = _partial(c)
    return Binary(part, peek, partial, b"BINARY[" + label + b"]" + _origin(partial))


# RFC 9051 section 9: "BINARY.SIZE" section-binary
def _binary_size(c: Cursor) -> BinarySize:
    part, label = _section_binary(c)
    return BinarySize(part, b"BINARY.SIZE[" + label + b"]")


def _simple(item: Item) -> Callable[[Cursor], FetchItem]:
    return lambda c: item


_Reader = Callable[[Cursor], FetchItem]
_SECTIONED: dict[bytes, _Reader] = {
    b"BODY": lambda c: _body(c, peek=False),
    b"BODY.PEEK": lambda c: _body(c, peek=True),
    b"BINARY": lambda c: _binary(c, peek=False),
    b"BINARY.PEEK": lambda c: _binary(c, peek=True),
    b"BINARY.SIZE": _binary_size,
}
_READERS: dict[bytes, _Reader] = {b"PREVIEW": _preview, **{item.value: _simple(item) for item in Item}}


# RFC 9051 section 9: section-part = nz-number *("." nz-number)
def _part(c: Cursor) -> tuple[int, ...]:
    """Read a part's number, () when there is none."""
    match = _PART.match(c.data, c.pos)
    if match is None:
        return ()
    c.pos = match.end()
    return tuple([int(n) for n in match.group().split(b".")])


# RFC 9051 section 9: section = "[" [section-spec] "]"
# section-spec = section-msgtext / (section-part ["." section-text]) ; section-text = section-msgtext / "MIME"
def _section(c: Cursor) -> tuple[Section, bytes]:
    """Read a section; also what stood in its brackets, as the answer repeats it."""
    c.take(b"[", '"["')
    start = c.pos
    part = _part(c)
    if c.skip(b"]"):
        return Section(part), c.data[start : c.pos - 1]
    if part:
        c.take(b".", '"." or "]"')
    match = _TEXT.match(c.data, c.pos)
    if match is None:
        c.expected('a part\'s number, HEADER, HEADER.FIELDS, TEXT, MIME or "]"')
    text = Text(match.group().decode("ascii").upper())
    if text is Text.MIME and not part:
        c.expected("the number of a part before MIME")
    c.pos = match.end()
    label = c.data[start : c.pos].upper()
    fields: tuple[bytes, ...] = ()
    if text in (Text.FIELDS, Text.FIELDS_NOT):
        space(c)
        names = parenthesized(c, _field_name, "names of header fields")
        label += b" (" + b" ".join([_spelled(name) for name in names]) + b")"
        fields = tuple([name.upper() for name in names])
    c.take(b"]", '"]"')
    return Section(part, text, fields), label


# RFC 9051 section 9: section-binary = "[" [section-part] "]"
def _section_binary(c: Cursor) -> tuple[tuple[int, ...], bytes]:
    c.take(b"[", '"["')
    start = c.pos
    part = _part(c)
    label = c.data[start : c.pos]
    c.take(b"]", 'a part\'s number or "]"')
    return part, label


# RFC 9051 section 9: header-fld-name = astring
def _field_name(c: Cursor) -> bytes:
    start = c.pos
    name = astring(c, "the name of a header field")
    if not _PLAIN_FIELD.fullmatch(name):  # RFC 5322 section 2.2: printable US-ASCII
        c.pos = start
        c.expected("the name of a header field in printable US-ASCII")
    return name


def _spelled(name: bytes) -> bytes:
    """Return the name as an astring."""
    if not _NEEDS_QUOTES.search(name):
        return name
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


# RFC 9051 section 9: partial = "<" number64 "." nz-number64 ">"
def _partial(c: Cursor) -> Partial | None:
    if not c.skip(b"<"):
        return None
    origin = number(c, "the first octet", MAX_NUMBER64)
    c.take(b".", '"."')
    count = number(c, "a number of octets", MAX_NUMBER64)  # Leniency.PARTIAL_ZERO
    c.take(b">", '">"')
    return Partial(origin, count)


# RFC 9051 section 9: msg-att-static: "BODY" section ["<" number ">"]: only the origin is repeated
def _origin(partial: Partial | None) -> bytes:
    return b"" if partial is None else b"<%d>" % partial.origin


# RFC 4466 section 6: fetch-modifiers = SP "(" fetch-modifier *(SP fetch-modifier) ")"
# RFC 7162 section 7: chgsince-fetch-mod = "CHANGEDSINCE" SP mod-sequence-value ; rexpunges-fetch-mod = "VANISHED"
# RFC 9394 section 4: fetch-modifier =/ modifier-partial
def _modifiers(c: Cursor, uid: bool) -> _Modifiers:
    start = c.pos
    values: dict[str, int | Window] = dict(parenthesized(c, _modifier, "CHANGEDSINCE, VANISHED or PARTIAL"))
    changed_since, part = values.get("CHANGEDSINCE"), values.get("PARTIAL")
    # RFC 7162 section 3.2.6: VANISHED "is only allowed" in UID FETCH, and together with CHANGEDSINCE
    if "VANISHED" in values and not (uid and "CHANGEDSINCE" in values):
        c.pos = start
        c.expected("VANISHED only in UID FETCH and with CHANGEDSINCE")
    if part is not None and not uid:  # RFC 9394 section 3.3: it extends UID FETCH
        c.pos = start
        c.expected("PARTIAL only in UID FETCH")
    return (
        changed_since if isinstance(changed_since, int) else None,
        "VANISHED" in values,
        part if isinstance(part, Window) else None,
    )


def _modifier(c: Cursor) -> tuple[str, int | Window]:
    start = c.pos
    name = word(c, "CHANGEDSINCE, VANISHED or PARTIAL")
    if name == "VANISHED":
        return name, 1
    if name == "PARTIAL":
        return name, window(c)
    if name != "CHANGEDSINCE":
        c.pos = start
        c.expected("CHANGEDSINCE, VANISHED or PARTIAL")
    space(c)
    return name, number(c, "a modification sequence", MAX_NUMBER64)  # Leniency.CHANGEDSINCE_ZERO
