"""The header of a message: where it ends, its fields, a selection of them.

RFC 5322 section 2.2. A line without a colon does not end the header; it is a field without a name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

_EMPTY_LINE = re.compile(rb"\n(?:\r?\n)")
# A line and the lines that continue it. Name, then what follows the colon, neither with the ending newline.
_CONTINUED = rb"[^\n]*+(?:\n[ \t][^\n]*+)*+"
_FIELD = re.compile(rb"([^\n:]*+)(:?)(" + _CONTINUED + rb")(?:\n|\Z)")
_MIME = re.compile(rb"\n((?i:content-[^\n:]*+|mime-version[ \t]*+)):(" + _CONTINUED + rb")")


class Field(NamedTuple):
    """A header field; ``start`` and ``end`` are its octets in the header, the ending newline included."""

    name: bytes  # as written, without the space before the colon
    value: bytes  # behind the colon: folded as it came, without the ending CRLF
    start: int
    end: int


def end_of(message: bytes, start: int = 0) -> int:
    """Return the offset behind the empty line that ends the header; the length when there is none."""
    if message.startswith((b"\n", b"\r\n"), start):
        return start + (1 if message.startswith(b"\n", start) else 2)
    found = _EMPTY_LINE.search(message, start)
    return found.end() if found else len(message)


def split(message: bytes) -> tuple[bytes, int]:
    """Return the header, its empty line included, and the offset of the body."""
    end = end_of(message)
    return message[:end], end


def _content_end(header: bytes) -> int:
    # The empty line is no field.
    if header.endswith(b"\n\r\n") or header == b"\r\n":
        return len(header) - 2
    return len(header) - 1 if header.endswith(b"\n\n") or header == b"\n" else len(header)


def iterate(header: bytes) -> list[Field]:
    """Return every field of the header, in order."""
    found: list[Field] = []
    end = _content_end(header)
    for match in _FIELD.finditer(header, 0, end):
        name, colon, value = match.groups()
        if not colon and match.start() == match.end():
            break
        if not colon:
            name, value = b"", name + value
        if value.endswith(b"\r"):
            value = value[:-1]
        found.append(Field(name.rstrip(b" \t"), value, match.start(), match.end()))
    return found


def pairs(header: bytes) -> list[tuple[bytes, bytes]]:
    """Return name, in lower case, and value of every field that has a colon; quicker than ``iterate``.

    CRLF within a value is LF, and the space before its first word is gone.
    """
    found = _FIELD.findall(header.replace(b"\r\n", b"\n"))
    return [(name.rstrip(b" \t").lower(), _without_start(value)) for name, colon, value in found if colon]


def mime_pairs(header: bytes) -> list[tuple[bytes, bytes]]:
    """Return what ``pairs`` does, but only MIME-Version and the Content-... fields (RFC 2045 section 3)."""
    found = _MIME.findall(b"\n" + header.replace(b"\r\n", b"\n"))
    return [(name.rstrip(b" \t").lower(), _without_start(value)) for name, value in found]


def _without_start(value: bytes) -> bytes:
    text = value.lstrip(b" \t")
    blanks = len(value) - len(text)
    if blanks < 2 or text[:1] not in b"\n":
        return text
    # When only space stands on the first line, Dovecot takes one away; so do we, for clients compare.
    return value[1:]


def fields(header: bytes, names: Collection[bytes], inverse: bool = False) -> bytes:
    """Return the fields of these names (or, ``inverse``, all others) and the empty line, octets unchanged.

    RFC 9051 section 6.4.5.1: "Subsetting does not exclude the [RFC5322] delimiting blank line between the header and
    the body". Names are compared without regard to case. When the header has no such line, one is put behind the chosen
    fields, but not behind ``inverse``, which leaves out and adds nothing.
    """
    wanted = {name.upper() for name in names}
    chosen = [header[f.start : f.end] for f in iterate(header) if (f.name.upper() in wanted) is not inverse]
    if inverse:
        return b"".join(chosen) + header[_content_end(header) :]
    if chosen and not chosen[-1].endswith(b"\n"):
        chosen.append(b"\r\n")
    chosen.append(b"\r\n")
    return b"".join(chosen)


def unfold(value: bytes) -> bytes:
    """RFC 5322 section 2.2.3: remove any CRLF that is followed by space."""
    return re.sub(rb"\r?\n(?=[ \t])", b"", value)
