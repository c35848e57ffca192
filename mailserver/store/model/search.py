"""What a SEARCH asks, as a tree of values; made by a grammar, judged by ``store.search``.

RFC 9051 section 6.4.4 and RFC 3501 section 6.4.4 name the keys.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import Enum

from mailserver.store.model.flags import Flag


class Field(Enum):
    """Where a text is looked for."""

    BODY = "body"  # the body of the message, not its header
    TEXT = "text"  # header and body
    HEADER = "header"  # the named header field
    ADDRESSES = "addresses"  # the named header field, as ENVELOPE shows its addresses


class DateOf(Enum):
    """Which date of a message is compared."""

    INTERNAL = "internal"
    SENT = "sent"
    SAVED = "saved"


class Relation(Enum):
    """How a date, in whole days, must stand to the one given."""

    BEFORE = "before"
    ON = "on"
    SINCE = "since"


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class HasFlag:
    """The system flag is set."""

    flag: Flag


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """The keyword is set; compared without regard to case."""

    name: str


@dataclass(frozen=True, slots=True)
class Recent:
    """The message is recent in this session."""


@dataclass(frozen=True, slots=True)
class Text:
    """A substring, already decoded to text. ``header`` is the field's name when ``field`` is HEADER or ADDRESSES."""

    field: Field
    needle: str
    header: str = ""


@dataclass(frozen=True, slots=True)
class Date:
    """A date in whole days, disregarding time and zone."""

    of: DateOf
    relation: Relation
    day: datetime.date


@dataclass(frozen=True, slots=True)
class Within:
    """RFC 5032: ``younger`` than so many seconds, or older."""

    younger: bool
    seconds: int


@dataclass(frozen=True, slots=True)
class Larger:
    """RFC822.SIZE greater than ``octets``."""

    octets: int


@dataclass(frozen=True, slots=True)
class Smaller:
    """RFC822.SIZE less than ``octets``."""

    octets: int


@dataclass(frozen=True, slots=True)
class NumberSet:
    """Ranges of sequence numbers or UIDs; ``None`` stands for ``*``, ``saved`` for ``$`` (RFC 5182)."""

    ranges: tuple[tuple[int | None, int | None], ...]
    uid: bool
    saved: bool = False


@dataclass(frozen=True, slots=True)
class ModifiedSince:
    """RFC 7162 section 3.1.5: MODSEQ at least this."""

    modseq: int


@dataclass(frozen=True, slots=True)
class HasEmailId:
    """RFC 8474 section 6: EMAILID is this."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    key: Criterion


@dataclass(frozen=True, slots=True)
class Or:
    """Either."""

    left: Criterion
    right: Criterion


@dataclass(frozen=True, slots=True)
class And:
    """All of them."""

    keys: tuple[Criterion, ...]


Criterion = (
    All
    | HasFlag
    | HasKeyword
    | Recent
    | Text
    | Date
    | Within
    | Larger
    | Smaller
    | NumberSet
    | ModifiedSince
    | HasEmailId
    | Not
    | Or
    | And
)
