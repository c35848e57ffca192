"""A message made fit for a way that takes fewer octets: binary to 8bit, 8bit to 7bit. No octet of a content is lost.

RFC 2045 section 6 has the encodings, RFC 3030 section 3 the bounds: "The conversion MUST cause no loss of information",
and no encoding within an encoding. Works on a mapped file, so a big message is never in memory as a whole.
"""

from __future__ import annotations

import base64
import binascii
import mmap
import re
from collections.abc import Iterator

from mailserver.mail import headers, structure
from mailserver.mail.structure import Part

_CHUNK = 57 * 2048  # octets encoded at once: whole lines of base64
# RFC 2045 section 2.8: 8bit data has lines of at most 998 octets, CR and LF only as CRLF, no NUL; 2.7: and 7bit ASCII
_FITS = {
    b"8bit": re.compile(rb"(?:[^\r\n\0]{0,998}+\r\n)*+[^\r\n\0]{0,998}+"),
    b"7bit": re.compile(rb"(?:[^\r\n\0\x80-\xff]{0,998}+\r\n)*+[^\r\n\0\x80-\xff]{0,998}+"),
}
_ASCII = re.compile(rb"[\x01-\x7f]*+")
_IDENTITY = (b"7bit", b"8bit", b"binary")  # each may hold what those before it hold
_ENCODING = re.compile(rb"^(content-transfer-encoding[ \t]*:)[^\n]*(?:\n[ \t][^\n]*)*\n", re.IGNORECASE | re.MULTILINE)
_MIME_VERSION = re.compile(rb"^mime-version[ \t]*:", re.IGNORECASE | re.MULTILINE)


class Unconvertible(ValueError):
    """There is no way to say this in fewer octets: a header that is not ASCII, an encoding that is broken."""


class Mapped(mmap.mmap):
    """A mapped file that can be parsed as if it were bytes."""

    def startswith(self, prefix: bytes | tuple[bytes, ...], start: int = 0) -> bool:
        """Do as bytes do."""
        prefixes = (prefix,) if isinstance(prefix, bytes) else prefix
        return any(self[start : start + len(one)] == one for one in prefixes)

    def count(self, octets: bytes, start: int = 0, end: int | None = None) -> int:
        """Do as bytes do, for one octet."""
        stop = len(self) if end is None else end
        return sum(self[at : min(at + (1 << 20), stop)].count(octets) for at in range(start, stop, 1 << 20))


def convert(message: bytes, target: bytes) -> Iterator[bytes]:
    """Yield the message as ``target``, b"8bit" or b"7bit"; it may be a `Mapped`. Raises `Unconvertible` on the way."""
    root = structure.parse(message)
    end = 0
    for part, top in _parts(root):
        yield from _plain(message, end, part.header_start, target)
        header = part.header(message)
        if target == b"7bit" and not header.isascii():
            raise Unconvertible("a header is not ASCII")
        if part.children or part.is_multipart or part.is_message:
            yield _labelled(header, target) if _wide(part, target) else header
            end = part.body_start
            continue
        encoding = _needed(message, part, target)
        end = part.body_end
        if encoding is None:
            yield _labelled(header, target) if _wide(part, target) else header
            yield from _slices(message, part.body_start, end)
        else:
            yield _mime(_labelled(header, encoding), part) if top else _labelled(header, encoding)
            yield from _encoded(message, part, encoding, last=end == len(message))
    yield from _plain(message, end, len(message), target)


def _parts(root: Part) -> Iterator[tuple[Part, bool]]:
    """All parts in the order of their headers, and which are messages; with a stack, for they may lie deep."""
    stack = [(root, True)]
    while stack:
        part, top = stack.pop()
        yield part, top
        stack += [(child, part.is_message) for child in reversed(part.children)]


def _wide(part: Part, target: bytes) -> bool:
    """Whether the label promises more than ``target`` allows."""
    encoding = (part.encoding or b"7bit").lower()
    return encoding in _IDENTITY and _IDENTITY.index(encoding) > _IDENTITY.index(target)


def _needed(message: bytes, part: Part, target: bytes) -> bytes | None:
    """Return the encoding a leaf must get; None when it may stay as it is."""
    if _FITS[target].fullmatch(message, part.body_start, part.body_end):
        return None
    if (part.encoding or b"7bit").lower() not in _IDENTITY:
        if target == b"8bit" or _ASCII.fullmatch(message, part.body_start, part.body_end):
            return None  # what an encoding lets stand between its characters means nothing
        raise Unconvertible("an encoded part is not ASCII")
    lines = _FITS[b"8bit"].fullmatch(message, part.body_start, part.body_end)
    return b"quoted-printable" if part.is_text and lines else b"base64"


def _labelled(header: bytes, encoding: bytes) -> bytes:
    """Return a header that says so."""
    field = b"Content-Transfer-Encoding: %b\r\n" % encoding
    changed, count = _ENCODING.subn(rb"\1 %b\r\n" % encoding, header)
    if count:
        return changed
    end = len(header) - 2 if header.endswith(b"\r\n") else len(header) - 1 if header.endswith(b"\n") else len(header)
    return header[:end] + field + header[end:]


def _mime(header: bytes, part: Part) -> bytes:
    """Make the header of a message that knew nothing of MIME say what it now is. RFC 1428: unknown-8bit."""
    if _MIME_VERSION.search(header):
        return header
    fields = b"MIME-Version: 1.0\r\n"
    if part.type is None and not any(name.lower() == b"content-type" for name, _ in headers.pairs(header)):
        fields += b"Content-Type: text/plain; charset=unknown-8bit\r\n"
    return fields + header


def _plain(message: bytes, start: int, end: int, target: bytes) -> Iterator[bytes]:
    """What stands between the parts."""
    for piece in _slices(message, start, end):
        if target == b"7bit" and not piece.isascii():
            raise Unconvertible("what stands between the parts is not ASCII")
        yield piece


def _slices(message: bytes, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, _CHUNK):
        yield message[at : min(at + _CHUNK, end)]


def _encoded(message: bytes, part: Part, encoding: bytes, *, last: bool) -> Iterator[bytes]:
    if encoding == b"quoted-printable":
        yield from _quoted(message, part.body_start, part.body_end)
        return
    for at in range(part.body_start, part.body_end, _CHUNK):
        piece = message[at : min(at + _CHUNK, part.body_end)]
        lines = base64.encodebytes(piece).replace(b"\n", b"\r\n")
        # the line end in front of a boundary belongs to the boundary
        ends = at + len(piece) == part.body_end and not last
        yield lines.removesuffix(b"\r\n") if ends else lines


def _quoted(message: bytes, start: int, end: int) -> Iterator[bytes]:
    """RFC 2045 section 6.7, line by line; what comes here has lines that end with CRLF."""
    out: list[bytes] = []
    while start < end:
        found = message.find(b"\r\n", start, end)
        stop = found if found >= 0 else end
        out.append(binascii.b2a_qp(message[start:stop]).replace(b"\n", b"\r\n"))
        if found >= 0:
            out.append(b"\r\n")
        start = stop + 2
        if len(out) > 2048:
            yield b"".join(out)
            out.clear()
    yield b"".join(out)
