"""The text of a message as a person reads it, for searching.

RFC 9051 section 6.4.4: the server decodes transfer encodings and charsets before it compares, and compares without
regard to case.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from mailserver.mail import address, encodings, headers, words
from mailserver.mail.address import Address
from mailserver.mail.scanner import ATEXT
from mailserver.mail.structure import Part, parse

_ATOMS = re.compile(rb"[%b ]+" % ATEXT)
_SPECIAL = re.compile(rb'[\\"]')
_OTHER = re.compile("([^\x00-\x7f]+)")


class _Casemap(dict[int, str]):
    """RFC 5051 section 2 for one character: titlecase, then decompose; worked out when first needed."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        titled = character.title()
        if len(titled) != 1:  # UnicodeData.txt has no mapping of one character to several: "ß" stays
            titled = character
        self[code] = mapped = unicodedata.normalize("NFKD", titled)
        return mapped


_CASEMAP = _Casemap()


# RFC 5051 section 2: i;unicode-casemap
def fold(text: str) -> str:
    """Return ``text`` as it is compared: in titlecase and decomposed, so that "o" is found in "Ö", not "ö" in "o"."""
    if text.isascii():
        return text.upper()
    parts = _OTHER.split(text)  # ASCII and others in turn
    parts[::2] = [part.upper() for part in parts[::2]]
    parts[1::2] = [part.translate(_CASEMAP) for part in parts[1::2]]
    return "".join(parts)


def header_values(header: bytes, name: bytes) -> list[str]:
    """Return the decoded values of every field of this name, whatever its case."""
    wanted = name.lower()
    return [words.decode(value) for field, value in headers.pairs(header) if field == wanted]


# RFC 9051 section 6.4.4: FROM: "in the envelope structure's FROM field"
def address_values(header: bytes, name: bytes) -> list[str]:
    """Return the addresses of every field of this name as one text each: ``Name <mailbox@host>, ...``."""
    wanted = name.lower()
    return [words.decode(_written(address.parse(value))) for field, value in headers.pairs(header) if field == wanted]


def _written(addresses: list[Address]) -> bytes:
    parts: list[bytes] = []
    for name, route, mailbox, host in addresses:
        if host is None:
            parts.append(b";" if mailbox is None else _phrase(mailbox) + b":")
            continue
        path = b"<%b%b@%b>" % (route + b":" if route else b"", mailbox or b"", host)
        parts.append(_phrase(name) + b" " + path if name else path)
    return b", ".join(parts).replace(b":, ;", b":;").replace(b":, ", b": ").replace(b", ;", b";")


def _phrase(name: bytes) -> bytes:
    # RFC 2047 section 5: an encoded word is none within a quoted string
    if b"=?" in name or _ATOMS.fullmatch(name):
        return name
    return b'"' + _SPECIAL.sub(rb"\\\g<0>", name) + b'"'


def header_text(header: bytes) -> str:
    """Return the whole header, encoded words decoded, a field a line."""
    return "\n".join(
        [f"{field.name.decode('latin-1')}: {words.decode(field.value.lstrip())}" for field in headers.iterate(header)]
    )


def charset(part: Part) -> str:
    """Return the charset a text part names, else ``us-ascii`` (RFC 2045 section 5.2)."""
    for name, value in part.parameters:
        if name.lower() == b"charset":
            return value.decode("ascii", "replace")
    return "us-ascii"


def _described(message: bytes, part: Part) -> Part:
    """The part as its fields describe it, though MIME-Version is missing: to a reader the text is what counts."""
    if part.type is not None or part.encoding is not None:
        return part
    header = part.header(message)
    return parse(b"MIME-Version: 1.0\r\n" + header) if b"ontent-" in header or b"ONTENT-" in header else part


def part_text(message: bytes, part: Part) -> str:
    """Return the text of one part; of a part that is neither text nor message (a delivery status), nothing."""
    content = _described(message, part)
    if not content.is_text and (content.type or b"").lower() != b"message":
        return ""
    data = part.body(message)
    try:
        data = encodings.decode(data, content.encoding)
    except ValueError:
        pass  # an encoding nobody knows: search what is there
    return words.to_text(data, charset(content))


def body_texts(message: bytes, root: Part | None = None) -> Iterator[str]:
    """Yield what a search of the body looks at: each text part, those of enclosed messages too."""
    pending = [root or parse(message)]
    while pending:
        part = pending.pop()
        if part.children:
            pending += reversed(part.children)
        else:
            yield part_text(message, part)


# RFC 9051 section 6.4.4: TEXT: "in the header (including MIME header fields) or body of the message"
def header_texts(message: bytes, root: Part | None = None) -> Iterator[str]:
    """Yield the header of the message and of each part and enclosed message."""
    pending = [root or parse(message)]
    while pending:
        part = pending.pop()
        yield header_text(part.header(message))
        pending += reversed(part.children)


def body_text(message: bytes, root: Part | None = None) -> str:
    """Return everything that ``SEARCH BODY`` looks at, as one text."""
    return "\n".join(body_texts(message, root))


def whole_text(message: bytes, root: Part | None = None) -> str:
    """Return everything that ``SEARCH TEXT`` looks at: the headers, then the body."""
    top = root or parse(message)
    return "\n".join([*header_texts(message, top), *body_texts(message, top)])
