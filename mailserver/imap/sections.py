"""Which octets of a message a section of FETCH names. Pure.

RFC 9051 section 6.4.5.1: BODY[<section>]<<partial>>.
"""

from __future__ import annotations

from mailserver.imap.grammar.fetch import Partial, Section, Text
from mailserver.mail import headers, structure
from mailserver.mail.structure import Part

_CHILDLESS = (Text.HEADER, Text.FIELDS, Text.FIELDS_NOT, Text.TEXT)


def needs_only_header(section: Section) -> bool:
    """Whether the message's header alone answers."""
    return not section.part and section.text in (Text.HEADER, Text.FIELDS, Text.FIELDS_NOT)


def extract(message: bytes, section: Section, root: Part | None = None) -> bytes | None:
    """The octets, None for a part that does not exist. ``root``: the parsed structure, if the caller has it."""
    if not section.part:
        return _of_message(message, section, 0, headers.end_of(message), len(message))
    part = structure.section(root or structure.parse(message), section.part)
    if part is None:
        return None
    if section.text is Text.MIME:
        return part.header(message)
    if section.text is Text.ALL:
        return part.body(message)
    # RFC 9051 section 6.4.5.1: HEADER and TEXT of a part belong to the message within it
    if not part.is_message or not part.children:
        return None
    inner = part.children[0]
    return _of_message(message, section, inner.header_start, inner.body_start, inner.body_end)


def _of_message(message: bytes, section: Section, start: int, body: int, end: int) -> bytes:
    if section.text is Text.ALL:
        return message if (start, end) == (0, len(message)) else message[start:end]
    if section.text is Text.TEXT:
        return message[body:end]
    header = message[start:body]
    if section.text is Text.HEADER:
        return header
    return headers.fields(header, section.fields, inverse=section.text is Text.FIELDS_NOT)


def cut(octets: bytes, partial: Partial | None) -> bytes:
    """The part of the octets that was asked for; empty when it begins behind the end."""
    if partial is None:
        return octets
    return octets[partial.origin : partial.origin + partial.count]


# RFC 9051 section 9: CHAR8 = %x01-ff; a literal cannot hold NUL, and Dovecot sends 0x80 as we do: the size stays
def without_nul(octets: bytes) -> bytes:
    """The octets with each NUL replaced."""
    return octets.replace(b"\0", b"\x80") if b"\0" in octets else octets
