"""The header fields in which an mbox keeps its books: read, hidden from clients, written.

====================  =================================================================================
``X-IMAPbase``        in the first message: UIDVALIDITY, the last UID given (ten digits), the keywords
``X-IMAP``            the same in the pseudo message that holds the place when there may be no other
``X-UID``             the message's UID
``X-UIDL``            its unique-id for POP3, when it directly follows ``X-UID``; elsewhere it is the message's own
``Status``            ``R`` seen, ``O`` not recent
``X-Status``          ``A`` answered, ``F`` flagged, ``T`` draft, ``D`` deleted
``X-Keywords``        the message's keywords, then the space that later changes need
``Content-Length``    octets of the body as they stand in the file
====================  =================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from mailserver.mail.dates import MONTHS
from mailserver.store.formats.mbox.entry import Base, Marks
from mailserver.store.model.flags import Flag
from mailserver.store.model.numbers import MAX_UID

LONGEST = 1 << 20  # octets of a header that are looked at; what is behind them is taken for the body
_PADDING = 50  # spaces behind a message's keywords, as Dovecot leaves
_BASE_PADDING = 150  # more in the message that has X-IMAPbase: new keywords are named there

_FIELD = re.compile(
    rb"^(Status|X-Status|X-Keywords|(X-UID)|X-IMAPbase|X-IMAP|Content-Length)[ \t]*:"
    rb"([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)"
    rb"(?(2)(?:X-UIDL:[ \t]*([\x21-\x7e]{1,255})[ \t]*\r?(?:\n(?![ \t])|\Z))?)",
    re.M | re.I,
)
_UNIQUE_ID = re.compile(r"[\x21-\x7e]{1,255}")
_BASE = re.compile(rb"\s*(\d{1,10})\s+(\d{1,10})((?:\s+\S+)*)\s*\Z")
_NUMBER = re.compile(rb"\s*(\d{1,18})\s*\Z")
_COUNTED_BY_MUTT = re.compile(rb"^Content-Length:[^\n]*\nLines:", re.M | re.I)
_PSEUDO_SUBJECT = re.compile(rb"^Subject:[^\n]*FOLDER INTERNAL DATA", re.M | re.I)
_STATUS = ((b"R", Flag.SEEN),)
_X_STATUS = ((b"A", Flag.ANSWERED), (b"F", Flag.FLAGGED), (b"T", Flag.DRAFT), (b"D", Flag.DELETED))


@dataclass(frozen=True, slots=True)
class Books:
    """What the fields of one message say; what is not there or cannot be read is None or empty."""

    base: Base | None
    pseudo: bool
    uid: int | None
    uid_behind_base: bool  # X-UID of a first message counts only when X-IMAPbase stands before it
    marks: Marks
    content_length: int | None
    counted_by_mutt: bool
    unique_id: str


def read(header: bytes) -> Books:
    """Read the fields of a header as it stands in the file."""
    base: Base | None = None
    pseudo = behind = False
    uid = length = None
    unique_id = b""
    status = x_status = words = b""
    for found in _FIELD.finditer(header):
        name, value = found[1].lower(), found[3]
        if name == b"x-uid":
            unique_id = unique_id or found[4] or b""
            if uid is None:
                uid, behind = _number(value), base is not None
        elif name in (b"x-imapbase", b"x-imap"):
            if base is None:
                base = _base(value)
                pseudo = base is not None and name == b"x-imap" and _PSEUDO_SUBJECT.search(header) is not None
        elif name == b"content-length":
            length = _number(value) if length is None else length
        elif name == b"status":
            status += value.upper()
        elif name == b"x-status":
            x_status += value.upper()
        else:
            words += value
    flags = 0
    for letters, table in ((status, _STATUS), (x_status, _X_STATUS)):
        for letter, flag in table:
            if letter in letters:
                flags |= flag
    keywords = frozenset(word.decode("utf-8", "replace") for word in words.split())
    recent = b"O" not in status
    by_mutt = length is not None and _COUNTED_BY_MUTT.search(header) is not None
    return Books(base, pseudo, uid, behind, Marks(flags, keywords, recent), length, by_mutt, unique_id.decode("ascii"))


def _number(value: bytes) -> int | None:
    found = _NUMBER.match(value)
    return int(found[1]) if found else None


def _base(value: bytes) -> Base | None:
    found = _BASE.match(value)
    if found is None:
        return None
    uidvalidity, last = int(found[1]), int(found[2])
    if not 0 < uidvalidity < 1 << 32 or last > MAX_UID:
        return None
    return Base(uidvalidity, last + 1, tuple(word.decode("utf-8", "replace") for word in found[3].split()))


def can_be_unique_id(text: str) -> bool:
    """Whether a field can hold it."""
    return _UNIQUE_ID.fullmatch(text) is not None


def visible(header: bytes) -> bytes:
    """The header without the fields that are nobody's business."""
    return _FIELD.sub(b"", header)


def lines(
    marks: Marks, uid: int | None = None, base: Base | None = None, unique_id: str = "", *, pseudo: bool = False
) -> bytes:
    """The fields of a message, each with LF, the last one being X-Keywords, whose end can be padded.

    The pseudo message has no UID, and its last line is X-IMAP.
    """
    status = (b"R" if marks.flags & Flag.SEEN else b"") + (b"" if marks.recent else b"O")
    x_status = b"".join(letter for letter, flag in _X_STATUS if marks.flags & flag)
    text = b"Status: " + status + b"\n" + (b"X-Status: " + x_status + b"\n" if x_status else b"")
    if pseudo:
        return text + (_base_line(b"X-IMAP", base) if base else b"")
    numbers = (_base_line(b"X-IMAPbase", base) if base else b"") + (b"X-UID: %d\n" % uid if uid is not None else b"")
    if uid is not None and unique_id:
        numbers += b"X-UIDL: " + unique_id.encode("ascii") + b"\n"
    words = "".join(" " + word for word in sorted(marks.keywords)).encode()
    return numbers + text + b"X-Keywords:" + (words or b" ") + b"\n"


def _base_line(name: bytes, base: Base) -> bytes:
    words = "".join(" " + word for word in base.keywords).encode()
    return b"%s: %d %010d%s\n" % (name, base.uidvalidity, base.uidnext - 1, words)


@dataclass(frozen=True, slots=True)
class Edit:
    """Octets ``start`` to ``end`` become ``new``."""

    start: int
    end: int
    new: bytes


def revised(header: bytes, fields: bytes, *, crlf: bool, keep_length: bool, roomy: bool) -> Edit:
    """How the header gets these ``fields`` in place of those that it has; offsets are those in ``header``.

    As long as before wherever the new ones fit: they are padded. Otherwise there is room for later changes, much of it
    when ``roomy``. Content-Length stays only when ``keep_length``. Other fields keep their order, and come behind: what
    mutt writes behind Content-Length stays there.
    """
    found = list(_FIELD.finditer(header))
    if found:
        start, end = found[0].start(), found[-1].end()
    else:
        start = end = _place(header)
    others, at = b"", start
    for field in found:
        others += header[at : field.start()]
        if keep_length and field[1].lower() == b"content-length":
            others += field[0]
        at = field.end()
    break_ = b"\r\n" if crlf else b"\n"
    new = fields.replace(b"\n", break_)
    if start and header[start - 1 : start] != b"\n":
        new = (b"\r\n" if header[start - 1 : start] == b"\r" else break_) + new
    room = end - start - len(new) - len(others)
    if room < 0 or not found:
        room = _BASE_PADDING if roomy else _PADDING
    return Edit(start, end, new[: -len(break_)] + b" " * room + break_ + others)


def _place(header: bytes) -> int:
    """Where the fields go when there are none: at the top, where nothing that is odd about the header can harm them.

    But a first line that looks like the continuation of another would continue ours, so there they go to its end (and
    the line gets its line end when it has none: the one case in which a message is not left as it came).
    """
    if header[:1] not in (b" ", b"\t"):
        return 0
    for ending in (b"\n\r\n", b"\n\n"):
        if header.endswith(ending):
            return len(header) - len(ending) + 1
    return len(header)


def pseudo_message(base: Base, host: str, now: int) -> bytes:
    """The message that is none, with LF: it keeps the base when no other message is left, for us and for others."""
    moment = datetime.fromtimestamp(now, UTC)
    date = f"{moment:%a}, {moment.day} {MONTHS[moment.month - 1]} {moment.year} {moment:%H:%M:%S} +0000"
    top = (
        f"Date: {date}\nFrom: Mail System Internal Data <MAILER-DAEMON@{host}>\n"
        "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
        f"Message-ID: <{base.uidvalidity}@{host}>\n"
    )
    fields = lines(Marks(int(Flag.SEEN), recent=False), base=base, pseudo=True)
    text = (
        "This message keeps the numbers of this mail folder; mail programs do not show it.\n"
        "When it is deleted, they all fetch the folder's messages once more.\n\n"
    )
    return top.encode() + fields[:-1] + b" " * _BASE_PADDING + b"\n\n" + text.encode()
