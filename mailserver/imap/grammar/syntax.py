"""The words of the grammar that the commands share. Each function reads one rule at the cursor."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from mailserver.imap.framer import tag_of
from mailserver.imap.grammar.cursor import BadSyntax, Cursor
from mailserver.store.model.flags import FLAG_BY_NAME
from mailserver.store.model.search import NumberSet

T = TypeVar("T")

MAX_NUMBER = 2**32 - 1
MAX_NUMBER64 = 2**63 - 1

# RFC 9051 section 9:
# ATOM-CHAR     = <any CHAR except atom-specials>
# atom-specials = "(" / ")" / "{" / SP / CTL / list-wildcards / quoted-specials / resp-specials
_ATOM_CHAR = rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]'
_ATOM = re.compile(_ATOM_CHAR + rb"+")
# ASTRING-CHAR = ATOM-CHAR / resp-specials
_ASTRING = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
# list-char = ATOM-CHAR / list-wildcards / resp-specials
_LIST_CHARS = re.compile(rb'[^\x00-\x20\x7f-\xff(){"\\]+')
# tag = 1*<any ASTRING-CHAR except "+">
_HEAD = re.compile(rb'([^\x00-\x20\x7f-\xff(){%*"\\+]+) ([A-Za-z0-9=_.-]+)')
_UID_COMMAND = re.compile(rb" ([A-Za-z]+)")
# quoted = DQUOTE *QUOTED-CHAR DQUOTE.  Leniency.EIGHT_BIT_IN_QUOTED
_QUOTED = re.compile(rb'"([^\x00\r\n"\\]*(?:\\["\\][^\x00\r\n"\\]*)*)"')
_ESCAPE = re.compile(rb'\\(["\\])')
_DIGITS = re.compile(rb"[0-9]+")
_WORD = re.compile(rb"[A-Za-z0-9._-]+")
_NIL = re.compile(rb"NIL(?![^\x00-\x20\x7f-\xff(){%*\"\\])", re.IGNORECASE)
_TRAIL = re.compile(rb" *\Z")  # Leniency.TRAILING_SPACES


class Head(NamedTuple):
    """How a command begins. ``name`` is in capitals, "UID FETCH" for the UID forms."""

    tag: str
    name: str


# RFC 9051 section 9
# command = tag SP (command-any / command-auth / command-nonauth / command-select) CRLF
# uid     = "UID" SP (copy / move / fetch / search / store / uid-expunge)
def head(c: Cursor) -> Head:
    """Read tag and name; the cursor then stands behind the name."""
    match = _HEAD.match(c.data, c.pos)
    if match is None:
        tag = tag_of(c.data)
        c.pos = 0 if tag is None else min(len(c.data), len(tag) + 1)
        try:
            c.expected("a tag, a space and a command" if tag is None else "the name of a command")
        except BadSyntax as bad:
            bad.tag = tag
            raise
    c.pos = match.end()
    name = match.group(2).decode("ascii").upper()
    if name == "UID":
        form = _UID_COMMAND.match(c.data, c.pos)
        if form is not None:
            c.pos = form.end()
            name = "UID " + form.group(1).decode("ascii").upper()
    return Head(match.group(1).decode("ascii"), name)


def space(c: Cursor) -> None:
    """SP: exactly one."""
    if c.data[c.pos : c.pos + 1] != b" ":
        c.expected("a space")
    c.pos += 1


def end(c: Cursor) -> None:
    """CRLF: the command must end here."""
    if c.pos != len(c.data) and not _TRAIL.match(c.data, c.pos):
        c.expected("the end of the command")


def more(c: Cursor) -> bool:
    """Say whether the command goes on here, trailing spaces not counted."""
    return c.pos != len(c.data) and not _TRAIL.match(c.data, c.pos)


# RFC 9051 section 9: atom = 1*ATOM-CHAR
def atom(c: Cursor, what: str = "an atom") -> bytes:
    """Read an atom."""
    match = _ATOM.match(c.data, c.pos)
    if match is None:
        c.expected(what)
    c.pos = match.end()
    return match.group()


def word(c: Cursor, what: str) -> str:
    """Read a word of the protocol (letters, digits, "." "-" "_"), in capitals."""
    match = _WORD.match(c.data, c.pos)
    if match is None:
        c.expected(what)
    c.pos = match.end()
    return match.group().decode("ascii").upper()


# RFC 9051 section 9: quoted = DQUOTE *QUOTED-CHAR DQUOTE
def quoted(c: Cursor, what: str = "a quoted string") -> bytes:
    """Read a quoted string."""
    match = _QUOTED.match(c.data, c.pos)
    if match is None:
        c.expected(what if not c.at(b'"') else 'a quoted string that ends, in which only \\ and " are escaped')
    c.pos = match.end()
    value = match.group(1)
    return _ESCAPE.sub(rb"\1", value) if b"\\" in value else value


# RFC 9051 section 9: string = quoted / literal
def string(c: Cursor, what: str = "a string") -> bytes:
    """Read a quoted string or a literal in memory."""
    if c.at(b"\0"):
        literal = c.literal()  # Leniency.LITERAL8_ANYWHERE
        if literal.data is None:
            raise BadSyntax(f"The literal of {literal.size} octets is too large for {what}")
        return literal.data
    return quoted(c, what)


# RFC 9051 section 9: astring = 1*ASTRING-CHAR / string
def astring(c: Cursor, what: str = "an atom or string") -> bytes:
    """Read an astring."""
    match = _ASTRING.match(c.data, c.pos)
    if match is not None:
        c.pos = match.end()
        return match.group()
    return string(c, what)


# RFC 9051 section 9: nil = "NIL"
def nil(c: Cursor) -> bool:
    """Take NIL if it stands here."""
    match = _NIL.match(c.data, c.pos)
    if match is None:
        return False
    c.pos = match.end()
    return True


# RFC 9051 section 9: nstring = string / nil
def nstring(c: Cursor, what: str = "a string or NIL") -> bytes | None:
    """Read a string or NIL (None)."""
    return None if nil(c) else string(c, what)


# RFC 9051 section 9: number = 1*DIGIT ; unsigned 32-bit.  number64 ; unsigned 63-bit
def number(c: Cursor, what: str = "a number", maximum: int = MAX_NUMBER) -> int:
    """Read a number from 0 to ``maximum``."""
    match = _DIGITS.match(c.data, c.pos)
    if match is None:
        c.expected(what)
    digits = match.group().lstrip(b"0") or b"0"
    value = int(digits) if len(digits) <= 19 else maximum + 1
    if value > maximum:
        c.expected(f"{what} up to {maximum}")
    c.pos = match.end()
    return value


# RFC 9051 section 9: nz-number = digit-nz *DIGIT
def nz_number(c: Cursor, what: str = "a number from 1", maximum: int = MAX_NUMBER) -> int:
    """Read a number from 1 to ``maximum``."""
    if c.at(b"0"):
        c.expected(what)
    return number(c, what, maximum)


# RFC 9051 section 9: mailbox = "INBOX" / astring ; INBOX is case insensitive
def mailbox(c: Cursor, what: str = "a mailbox name") -> bytes:
    """Read a mailbox name as the client sent it; every spelling of INBOX is b"INBOX"."""
    return inbox(astring(c, what))


def inbox(name: bytes) -> bytes:
    """Return ``name``, or b"INBOX" when it is that in another spelling."""
    return b"INBOX" if len(name) == 5 and name.upper() == b"INBOX" else name


# RFC 9051 section 9: list-mailbox = 1*list-char / string
def list_mailbox(c: Cursor) -> bytes:
    """Read a pattern for LIST and LSUB."""
    match = _LIST_CHARS.match(c.data, c.pos)
    if match is not None:
        c.pos = match.end()
        return match.group()
    return string(c, "a mailbox name or pattern")


def parenthesized(c: Cursor, item: Callable[[Cursor], T], what: str, empty: bool = False) -> list[T]:
    """Read "(" item *(SP item) ")", or "()" when ``empty`` is allowed."""
    c.take(b"(", f'"(" and {what}')
    items: list[T] = []
    if empty and c.skip(b")"):
        return items
    while True:
        items.append(item(c))
        if c.skip(b")"):
            return items
        if not c.skip(b" "):
            c.expected('a space or ")"')


# -- numbers of messages ---------------------------------------------------------------------------------------------

# RFC 9051 section 9:
# sequence-set = (seq-number / seq-range) ["," sequence-set] / seq-last-command
# seq-range    = seq-number ":" seq-number
# seq-number   = nz-number / "*"
_N = rb"(?:[1-9][0-9]{0,9}|\*)"
_RANGE = _N + rb"(?::" + _N + rb")?"
_SEQUENCE_SET = re.compile(_RANGE + rb"(?:," + _RANGE + rb")*(?![0-9:,*$])")


def sequence_set(c: Cursor, uid: bool) -> NumberSet:
    """Read a set of sequence numbers, or of UIDs; the smaller end of a range first, ``*`` (None) last."""
    if c.at(b"$"):  # RFC 5182 section 2.1
        c.pos += 1
        return NumberSet((), uid, saved=True)
    match = _SEQUENCE_SET.match(c.data, c.pos)
    if match is None:
        c.expected("a set of UIDs" if uid else "a set of sequence numbers")
    ranges = tuple([_range(part) for part in match.group().split(b",")])
    if any((low or 0) > MAX_NUMBER or (high or 0) > MAX_NUMBER for low, high in ranges):
        c.expected(f"numbers up to {MAX_NUMBER}")
    c.pos = match.end()
    return NumberSet(ranges, uid)


def _range(text: bytes) -> tuple[int | None, int | None]:
    low, colon, high = text.partition(b":")
    first = None if low == b"*" else int(low)
    if not colon:
        return first, first
    last = None if high == b"*" else int(high)
    if first is None or (last is not None and first > last):
        return last, first
    return first, last


# RFC 7162 section 7: known-uids = sequence-set ; "*" is not allowed
def known_set(c: Cursor, uid: bool) -> NumberSet:
    """Read a set without ``*`` and ``$``."""
    start = c.pos
    numbers = sequence_set(c, uid)
    if numbers.saved or b"*" in c.data[start : c.pos]:
        c.pos = start
        c.expected('a set without "*" and "$"')
    return numbers


# -- flags -----------------------------------------------------------------------------------------------------------

# RFC 9051 section 9: flag = "\Answered" / ... / flag-keyword / flag-extension ; flag-keyword = atom
_FLAG = re.compile(rb"\\?" + _ATOM_CHAR + rb"+")


_BITS = {name: int(bit) for name, bit in FLAG_BY_NAME.items()}


class Flags(NamedTuple):
    """System flags as bits of `store.model.flags.Flag`, and keywords as the client spelled them."""

    flags: int
    keywords: frozenset[str]


def flag(c: Cursor) -> str:
    """Read one flag."""
    match = _FLAG.match(c.data, c.pos)
    if match is None:
        c.expected("a flag")
    text = match.group().decode("ascii")
    if text[0] == "\\" and text.lower() not in FLAG_BY_NAME and text.lower() != "\\recent":
        c.expected("one of \\Answered \\Flagged \\Deleted \\Seen \\Draft or a keyword")
    c.pos = match.end()
    return text


# RFC 9051 section 9: flag-list = "(" [flag *(SP flag)] ")"
def flag_list(c: Cursor) -> Flags:
    """Read flags in parentheses."""
    return collect(parenthesized(c, flag, "flags", empty=True))


def collect(names: list[str]) -> Flags:
    """Sort names of flags into bits and keywords; of two spellings of a keyword the first is kept."""
    bits = 0
    keywords: dict[str, str] = {}
    for name in names:
        if name[0] == "\\":
            bits |= _BITS.get(name.lower(), 0)  # Leniency.RECENT_IN_FLAGS
        else:
            keywords.setdefault(name.lower(), name)
    return Flags(bits, frozenset(keywords.values()))


# -- dates -----------------------------------------------------------------------------------------------------------

_MONTHS = {name: n for n, name in enumerate(b"JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)}
_DATE = re.compile(rb'("?)( ?[0-9]|[0-9]{2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME = re.compile(
    rb'"( ?[0-9]|[0-9]{2})-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)


# RFC 9051 section 9: date = date-text / DQUOTE date-text DQUOTE ; date-text = date-day "-" date-month "-" date-year
def date(c: Cursor) -> datetime.date:
    """Read a date.  Leniency.DATE_FOUR_FORMS."""
    match = _DATE.match(c.data, c.pos)
    if match is None:
        c.expected("a date such as 1-Feb-2026")
    try:
        day = datetime.date(int(match[4]), _MONTHS.get(match[3].upper(), 0), int(match[2]))
    except ValueError:
        c.expected("a date that exists")
    c.pos = match.end()
    return day


# RFC 9051 section 9
# date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
def date_time(c: Cursor) -> int:
    """Read a date-time as seconds since 1970, UTC.  Leniency.DATE_TIME_SHORT_DAY."""
    match = _DATE_TIME.match(c.data, c.pos)
    if match is None:
        c.expected('a date-time such as " 1-Feb-2026 12:30:00 +0100"')
    day, month, year, hour, minute, second, sign, east_hours, east_minutes = match.groups()
    try:
        moment = datetime.datetime(  # a leap second is shown as the one before
            int(year), _MONTHS.get(month.upper(), 0), int(day), int(hour), int(minute), min(int(second), 59)
        )
    except ValueError:
        c.expected("a date-time that exists")
    east = int(east_hours) * 3600 + int(east_minutes) * 60
    if int(second) > 60 or int(east_minutes) > 59 or int(east_hours) > 23:
        c.expected("a date-time that exists")
    c.pos = match.end()
    seconds = int((moment - _EPOCH).total_seconds())
    return seconds - east if sign == b"+" else seconds + east


_EPOCH = datetime.datetime(1970, 1, 1)
