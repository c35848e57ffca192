"""``type/subtype; name=value`` of the MIME header fields.

RFC 2045 section 5.1 and RFC 2231 section 3. Continued parameters are put together again but stay encoded: an IMAP
client wants ``name*`` as it was sent.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

from mailserver.mail.scanner import BROKEN, END, MORE, Scanner

Parameters = tuple[tuple[bytes, bytes], ...]

# RFC 2045 section 5.1 in the form that nearly all mail has it.
_PLAIN_TYPE = re.compile(rb"[ \t\r\n]*([\w.+-]+)/([\w.+-]+)[ \t\r\n]*(?=;|\Z)", re.ASCII)
_PLAIN_PARAMETER = re.compile(
    rb';[ \t\r\n]*+([\w.+-]++)=(?:"([^"\\\r\n\0]*+)"|([!#-\'*+\-.0-9A-Z^_`a-z{|}~\x80-\xff]++))[ \t\r\n]*+(?=;|\Z)',
    re.ASCII,
)
_BROKEN_WORD = re.compile(rb"[^; \t\r\n]*")
# RFC 2231 section 7: ``initial-section``, ``other-sections``, ``extended-initial-name``.
_SECTION = re.compile(rb"([^*]*)\*(?:(\d*)(\*?))\Z", re.ASCII)
_TO_ESCAPE = re.compile(rb"%")


class ContentType(NamedTuple):
    """A parsed Content-Type. Both words are empty when the field is broken."""

    type: bytes
    subtype: bytes
    parameters: Parameters
    broken: bool


class _Section(NamedTuple):
    key: bytes
    number: int
    extended: bool
    value: bytes

    @property
    def order(self) -> tuple[bytes, int]:
        return self.key.lower(), self.number

    @property
    def written(self) -> bytes:
        return b"%b*%d%b" % (self.key, self.number, b"*" if self.extended else b"")


def content_type(value: bytes) -> ContentType:
    """Parse the value of Content-Type. Never raises."""
    scanner = Scanner(value)
    plain = _PLAIN_TYPE.match(value)
    if plain:
        scanner.position = plain.end()
        return ContentType(plain[1], plain[2], parameters(scanner), False)
    first: list[bytes] = []
    second: list[bytes] = []
    if scanner.skip_space() != MORE:
        return ContentType(b"", b"", (), True)
    result = scanner.mime_token(first)
    if result == BROKEN:  # a comment that does not end
        return ContentType(first[0], b"", (), True)
    if result == MORE:
        result = BROKEN
        if scanner.peek() == b"/":
            scanner.position += 1
            if scanner.skip_space() == MORE:
                result = scanner.mime_token(second)
    if result == BROKEN or not first[0] or second == [b""] or (scanner.peek() and scanner.peek() != b";"):
        return ContentType(b"", b"", (), True)
    return ContentType(first[0], b"".join(second), parameters(scanner), False)


def token(value: bytes) -> bytes | None:
    """Return the single token of Content-Transfer-Encoding; None when it is something else."""
    words: list[bytes] = []
    scanner = Scanner(value)
    scanner.skip_space()
    if scanner.mime_token(words) != END:
        return None
    return words[0] or None


def disposition(value: bytes) -> tuple[bytes, Parameters] | None:
    """RFC 2183 section 2: the disposition and its parameters."""
    words: list[bytes] = []
    scanner = Scanner(value)
    scanner.skip_space()
    if scanner.mime_token(words) == BROKEN:
        return None
    return words[0], parameters(scanner)


def languages(value: bytes) -> tuple[bytes, ...]:
    """RFC 3282 section 2: ``Language-List = Language-Tag *("," Language-Tag)``."""
    found: list[bytes] = []
    scanner = Scanner(value)
    scanner.skip_space()
    while scanner.atom(found) == MORE and scanner.peek() == b",":
        scanner.position += 1
        scanner.skip_space()
    return tuple(found)


def parameters(scanner: Scanner) -> Parameters:
    """Read the parameters that follow, those of RFC 2231 put together and behind the others."""
    found: list[tuple[bytes, bytes]] = []
    sections: list[_Section] = []
    while True:
        plain = _PLAIN_PARAMETER.match(scanner.data, scanner.position)
        if plain:
            scanner.position = plain.end()
            name = plain[1]
            value = plain[2] if plain[3] is None else plain[3]
        else:
            if not scanner.peek():
                break
            pair = _parameter(scanner)
            if pair is None:
                scanner.position += 1  # what is broken is left out, and reading goes on
                semicolon = scanner.data.find(b";", scanner.position)
                scanner.position = semicolon if semicolon >= 0 else len(scanner.data)
                continue
            name, value = pair
        section = _SECTION.match(name) if b"*" in name else None
        if section and (section[2] or section[3] or name.endswith(b"*")):
            number = int(section[2][-20:] or b"0") & 0xFFFFFFFF
            sections.append(_Section(section[1], number, bool(section[3]) or not section[2], value))
        else:
            found.append((name, value))
    if sections:
        sections.sort(key=lambda each: each.order)
        for _, group in groupby(sections, key=lambda each: each.order[0]):
            found += _join(list(group))
    return tuple(found)


def _parameter(scanner: Scanner) -> tuple[bytes, bytes] | None:
    """RFC 2045 section 5.1: ``";" attribute "=" value``; None when it is broken."""
    name: list[bytes] = []
    value: list[bytes] = []
    if scanner.peek() != b";":
        return None
    scanner.position += 1
    if scanner.skip_space() != MORE or scanner.mime_token(name) != MORE or scanner.peek() != b"=":
        return None
    scanner.position += 1
    result = scanner.skip_space()
    if result == MORE:
        following = scanner.peek()
        if following == b'"':
            result = scanner.quoted_string(value)
        elif following == b"=":  # an encoded word where none may be: name==?utf-8?b?...?=
            word = _BROKEN_WORD.match(scanner.data, scanner.position)
            value.append(word[0])  # type: ignore[index]  # matches the empty string too
            scanner.position = word.end()  # type: ignore[union-attr]  # likewise
        else:
            result = scanner.mime_token(value)
    return None if result == BROKEN else (name[0], b"".join(value))


def _join(sections: list[_Section]) -> list[tuple[bytes, bytes]]:
    if any(section.number != number for number, section in enumerate(sections)):
        return [(section.written, section.value) for section in sections]
    key = sections[0].key
    if not any(section.extended for section in sections):
        return [(key, b"".join(section.value for section in sections))]
    pieces = [section.value if section.extended else _TO_ESCAPE.sub(_escape, section.value) for section in sections]
    if not sections[0].extended:
        pieces.insert(0, b"''")
    return [(key + b"*", b"".join(pieces))]


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02x" % match[0][0]
