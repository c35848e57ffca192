"""The text of a message as a person reads it, for searching.

RFC 9051 section 6.4.4: the server decodes transfer encodings and charsets before it compares, and compares without
regard to case.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailserver.mail import encodings, headers, words
from mailserver.mail.structure import Part, parse


def fold(text: str) -> str:
    """Return ``text`` as it is compared: without case (RFC 5051 asks for titlecase; folding finds no less)."""
    return text.casefold()


def header_values(header: bytes, name: bytes) -> list[str]:
    """Return the decoded values of every field of this name, whatever its case."""
    wanted = name.lower()
    return [words.decode(value) for field, value in headers.pairs(header) if field == wanted]


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


def part_text(message: bytes, part: Part) -> str:
    """Return the text of one part; of a part that is no text, nothing."""
    if not part.is_text:
        return ""
    data = part.body(message)
    try:
        data = encodings.decode(data, part.encoding)
    except ValueError:
        pass  # an encoding nobody knows: search what is there
    return words.to_text(data, charset(part))


def body_texts(message: bytes, root: Part | None = None) -> Iterator[str]:
    """Yield what a search of the body looks at: each text part, and the headers of enclosed messages and parts."""
    pending = [root or parse(message)]
    top = pending[0]
    while pending:
        part = pending.pop()
        if part is not top:
            yield header_text(part.header(message))
        if part.children:
            pending += reversed(part.children)
        else:
            yield part_text(message, part)


def body_text(message: bytes, root: Part | None = None) -> str:
    """Return everything that ``SEARCH BODY`` looks at, as one text."""
    return "\n".join(body_texts(message, root))


def whole_text(message: bytes, root: Part | None = None) -> str:
    """Return everything that ``SEARCH TEXT`` looks at: the header, then the body."""
    top = root or parse(message)
    return "\n".join([header_text(top.header(message)), *body_texts(message, top)])
