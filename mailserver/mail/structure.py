"""The parts of a message, as offsets into it.

RFC 2045 and RFC 2046. There is always a tree, whatever the octets: a boundary that never comes, or comes in the wrong
place, ends what can be ended. One pass, linear in the size of the message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from mailserver.mail import encodings, headers, parameters
from mailserver.mail.parameters import Parameters
from mailserver.mail.scanner import without_nul

STRUCTURE_VERSION = 1  # goes up when the same octets give another tree or another ENVELOPE or BODYSTRUCTURE

MAX_DEPTH = 100  # parts within parts; deeper ones are left as they are, text of their parent
MAX_PARTS = 10_000
_MAX_BOUNDARY = 80  # RFC 2046 section 5.1.1 allows 70

_EMPTY_LINE = re.compile(rb"\n\r?\n")


class Part:
    """A part: a message, or a body part of one. All numbers are offsets into the message's octets."""

    __slots__ = (
        "body_end",
        "body_start",
        "children",
        "description",
        "disposition",
        "disposition_parameters",
        "encoding",
        "header_start",
        "id",
        "is_message",
        "is_multipart",
        "is_text",
        "languages",
        "lines",
        "location",
        "md5",
        "parameters",
        "subtype",
        "type",
    )

    def __init__(self, header_start: int) -> None:
        self.header_start = header_start
        self.body_start = header_start  # the header's end, its empty line included
        self.body_end = header_start
        self.lines = 0  # newlines in the body
        self.children: list[Part] = []  # of a multipart its parts, of a message/rfc822 the one message
        self.is_multipart = False
        self.is_message = False
        self.is_text = True
        self.forget_content()

    def forget_content(self) -> None:
        """Set what the Content-... fields say to what holds without any; octets as they came, None: no such field."""
        self.type: bytes | None = None
        self.subtype: bytes = b""
        self.parameters: Parameters = ()
        self.id: bytes | None = None
        self.description: bytes | None = None
        self.encoding: bytes | None = None
        self.md5: bytes | None = None
        self.disposition: bytes | None = None
        self.disposition_parameters: Parameters = ()
        self.languages: tuple[bytes, ...] = ()
        self.location: bytes | None = None

    def header(self, message: bytes) -> bytes:
        """Return the octets of the part's own header (MIME header), the empty line included."""
        return message[self.header_start : self.body_start]

    def body(self, message: bytes) -> bytes:
        """Return the octets of the body, still encoded."""
        return message[self.body_start : self.body_end]


def parse(message: bytes, max_depth: int = MAX_DEPTH, max_parts: int = MAX_PARTS) -> Part:
    """Return the tree of parts. Never raises."""
    return _Parser(message, max_depth, max_parts).run()


def decoded_body(message: bytes, part: Part) -> bytes:
    """Return the body with its Content-Transfer-Encoding undone; ValueError when that encoding is not known.

    RFC 2045 section 6. What cannot be decoded within a known encoding is passed over: the sender's mistake must not
    hide the rest.
    """
    return encodings.decode(part.body(message), part.encoding)


def section(root: Part, path: tuple[int, ...]) -> Part | None:
    """Return the part with this number, counted as in RFC 9051 section 6.4.5; None when there is none.

    "Every message has at least one part number": 1 is also the only part of a message that is no multipart. For
    HEADER and TEXT of a part that ``is_message`` take its only child. A 1 too many behind a part of a
    multipart that has no parts of its own is let pass, as Dovecot does.
    """
    part = root
    last = len(path) - 1
    for level, number in enumerate(path):
        if part.is_multipart:
            if not 1 <= number <= len(part.children):
                return None
            part = part.children[number - 1]
        elif number != 1 or (level < last and not part.is_message):
            return None
        if level < last and part.is_message:
            part = part.children[0]
    return part


class _Hit(NamedTuple):
    line: int  # where the delimiter line begins
    boundary: int  # which of the list
    closes: bool


class _Boundary:
    __slots__ = ("delimiter", "part")

    def __init__(self, delimiter: bytes, part: Part) -> None:
        self.delimiter = delimiter
        self.part = part


class _Parser:
    def __init__(self, message: bytes, max_depth: int, max_parts: int) -> None:
        self.message = message
        self.end = len(message)
        self.max_depth = max_depth
        self.room = max_parts - 1
        self.parents: list[Part] = []  # of the current part, outermost first
        self.boundaries: list[_Boundary] = []  # innermost last
        self.delimiters: tuple[bytes, ...] = ()
        self.empty_line = -1  # end of an empty line found ahead, so that it is looked for once

    def run(self) -> Part:
        root = part = Part(0)
        while True:
            hit = self._header(part)
            if part.is_message:
                if hit is None:
                    part = self._child(part, part.body_start)
                    continue
                part.children.append(Part(part.body_start))  # cut short before its message began: an empty one
            following = self._body(part, hit)
            if following is None:
                return root
            part = following

    def _child(self, parent: Part, start: int) -> Part:
        part = Part(start)
        parent.children.append(part)
        self.parents.append(parent)
        self.room -= 1
        return part

    def _header(self, part: Part) -> _Hit | None:
        """Read the header; return the delimiter line that cut it short, if one did."""
        message = self.message
        start = part.header_start
        end = self._header_end(start)
        hit = self._find(start, end) if self.boundaries else None
        if hit is not None:
            end = start if hit.line == start else self._before_newline(hit.line)
        part.body_start = end
        boundary = _read_header(part, message[start:end], self.parents[-1] if self.parents else None)
        if (part.is_multipart or part.is_message) and (len(self.parents) + 1 >= self.max_depth or self.room <= 0):
            part.is_multipart = part.is_message = False
        if part.is_multipart and boundary is not None and hit is None:
            self._push(_Boundary(b"--" + boundary, part))
        return hit

    def _header_end(self, start: int) -> int:
        message = self.message
        if message.startswith((b"\n", b"\r\n"), start):
            return start + (1 if message.startswith(b"\n", start) else 2)
        if self.empty_line <= start:
            found = _EMPTY_LINE.search(message, start)
            self.empty_line = found.end() if found else self.end + 1
        return min(self.empty_line, self.end)

    def _body(self, part: Part, hit: _Hit | None) -> Part | None:
        """Go on to the next delimiter that begins a part, and return that part; None at the end of the message."""
        position = part.body_start
        behind_header = True
        while True:
            found = hit or (self._find(position, self.end) if self.boundaries else None)
            if found is None:
                self._close(part, None, self.end)
                return None
            line = found.line
            until = self.boundaries[found.boundary].part
            if line == position or hit is not None:
                if behind_header and until is not part:
                    part = self._close_bodiless(part, line)
                part = self._close(part, until, line)
            else:
                part = self._close(part, until, self._before_newline(line))
            hit = None
            behind_header = False
            newline = self.message.find(b"\n", line)
            position = newline + 1 if newline >= 0 else self.end
            self._pop(found.boundary if found.closes else found.boundary + 1)
            if newline >= 0 and not found.closes:
                return self._child(part, position)

    def _close_bodiless(self, part: Part, line: int) -> Part:
        # The newline before the delimiter is then the last one of the header, but still counts as body of whatever
        # this part is in.
        if part.header_start == line and self.parents[-1].is_message:
            part = self._close(part, self.parents[-1], line)  # a message without a header
        part.body_start = min(part.body_start, max(self._before_newline(line), part.header_start))
        return self._close(part, self.parents[-1], part.body_start)

    def _close(self, part: Part, until: Part | None, end: int) -> Part:
        while part is not until:
            part.body_end = end
            part.lines = self.message.count(b"\n", part.body_start, end)
            if not self.parents:
                break
            part = self.parents.pop()
        return part

    def _before_newline(self, line: int) -> int:
        # RFC 2046 section 5.1.1: "The CRLF preceding the boundary delimiter line is conceptually attached to the
        # boundary".
        end = line - 1
        return end - 1 if self.message.startswith(b"\r", end - 1) and end > 0 else end

    def _push(self, boundary: _Boundary) -> None:
        self.boundaries.append(boundary)
        self.delimiters = tuple(each.delimiter for each in self.boundaries)

    def _pop(self, length: int) -> None:
        if length < len(self.boundaries):
            del self.boundaries[length:]
            self.delimiters = tuple(each.delimiter for each in self.boundaries)

    def _find(self, position: int, end: int) -> _Hit | None:
        """Return the first delimiter line in [position, end); a line begins at ``position``."""
        message = self.message
        delimiters = self.delimiters
        if self.room <= 0:
            return None  # what follows is text of the last part
        if position < end and message.startswith(delimiters, position):
            return self._which(position)
        while True:
            newline = message.find(b"\n--", position, end)
            if newline < 0:
                return None
            if message.startswith(delimiters, newline + 1):
                return self._which(newline + 1)
            position = newline + 3

    def _which(self, line: int) -> _Hit:
        # RFC 2046 section 5.1.2: the innermost that the line is exactly, or else the longest it begins with.
        message = self.message
        newline = message.find(b"\n", line)
        text = message[line : newline if newline >= 0 else self.end].removesuffix(b"\r")
        best = -1
        length = -1
        for index in range(len(self.delimiters) - 1, -1, -1):
            delimiter = self.delimiters[index]
            if len(delimiter) > length and text.startswith(delimiter):
                best, length = index, len(delimiter)
                if text[length:] in (b"", b"--"):
                    break
        return _Hit(line, best, text.startswith(b"--", length))


def _read_header(part: Part, header: bytes, parent: Part | None) -> bytes | None:
    """Fill in what the Content-... fields say; return the boundary of a multipart."""
    is_mime = parent is not None and parent.is_multipart
    for name, value in headers.mime_pairs(header):
        reader = _READERS.get(name)
        if reader is not None:
            reader(part, value)
        elif name == b"mime-version":
            is_mime = True
    if part.type is None and not is_mime:
        part.forget_content()  # RFC 2045 section 4: without MIME-Version the other fields mean nothing
    if part.type is None:
        if parent is not None and parent.is_multipart and parent.subtype.lower() == b"digest":
            # RFC 2046 section 5.1.5: the default within a digest.
            part.is_message = True
            part.is_text = False
        return None
    kind = part.type.lower()
    part.is_text = kind == b"text"
    part.is_multipart = kind == b"multipart" and bool(part.subtype)
    part.is_message = kind == b"message" and part.subtype.lower() == b"rfc822"
    if part.is_multipart:
        for name, value in part.parameters:
            if name.lower() == b"boundary":
                return value[:_MAX_BOUNDARY]
    return None


def _read_type(part: Part, value: bytes) -> None:
    if part.type is None:
        part.type, part.subtype, part.parameters, _ = parameters.content_type(value)


def _read_disposition(part: Part, value: bytes) -> None:
    # The first that has parameters wins, else the last.
    found = None if part.disposition_parameters else parameters.disposition(value)
    if found is not None:
        part.disposition, part.disposition_parameters = found


def _read_encoding(part: Part, value: bytes) -> None:
    part.encoding = part.encoding or parameters.token(value)


def _read_languages(part: Part, value: bytes) -> None:
    part.languages = part.languages or parameters.languages(value)


def _read_text(attribute: str) -> Callable[[Part, bytes], None]:
    def read(part: Part, value: bytes) -> None:
        if getattr(part, attribute) is None:
            setattr(part, attribute, without_nul(value))

    return read


_READERS: dict[bytes, Callable[[Part, bytes], None]] = {
    b"content-type": _read_type,
    b"content-transfer-encoding": _read_encoding,
    b"content-disposition": _read_disposition,
    b"content-language": _read_languages,
    b"content-id": _read_text("id"),
    b"content-description": _read_text("description"),
    b"content-md5": _read_text("md5"),
    b"content-location": _read_text("location"),
}
