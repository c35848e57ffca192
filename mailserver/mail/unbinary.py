"""Parts in the transfer encoding ``binary``: made base64 where a mail store could not keep them, and made from others.

RFC 3516 section 4.4: the server may change the encoding of what is appended, "however any such transformation MUST NOT
result in a loss of data".
"""

from __future__ import annotations

import base64
import re

from mailserver.mail import encodings, structure
from mailserver.mail.structure import Part

# NUL cannot be sent in a literal; LF without CR would be stored as CRLF
_NOT_KEPT = re.compile(rb"\0|(?<!\r)\n")
_ENCODING = re.compile(rb"^(content-transfer-encoding[ \t]*:)[^\n]*(?:\n[ \t][^\n]*)*$", re.IGNORECASE | re.MULTILINE)


def to_base64(message: bytes) -> bytes:
    """Return the message with each binary part that has NUL or LF without CR in base64; all else as it is."""
    if _NOT_KEPT.search(message) is None:
        return message
    pieces, end = [], 0
    for part in _leaves(structure.parse(message)):
        octets = part.body(message)
        if _encoding(part) != b"binary" or not _NOT_KEPT.search(octets):
            continue
        # RFC 2045 section 6.8: lines of no more than 76 characters
        body = base64.encodebytes(octets).replace(b"\n", b"\r\n")
        if part.body_end < len(message):  # the line end in front of a boundary belongs to the boundary
            body = body.removesuffix(b"\r\n")
        pieces += [message[end : part.header_start], _ENCODING.sub(rb"\1 base64\r", part.header(message)), body]
        end = part.body_end
    return b"".join([*pieces, message[end:]])


def to_binary(message: bytes, part: Part, start: int) -> bytes:
    """Return the octets of ``part`` from ``start`` on with all parts in it decoded, and called ``binary`` then.

    ValueError when an encoding is none of RFC 2045.
    """
    pieces, end = [], start
    for leaf in _leaves(part):
        octets = encodings.decode(leaf.body(message), leaf.encoding)
        if _encoding(leaf) not in (b"base64", b"quoted-printable"):
            continue
        pieces += [message[end : leaf.header_start], _ENCODING.sub(rb"\1 binary\r", leaf.header(message)), octets]
        end = leaf.body_end
    return b"".join([*pieces, message[end : part.body_end]])


def _encoding(part: Part) -> bytes:
    return (part.encoding or b"").lower()


def _leaves(part: Part) -> list[Part]:
    """The parts that hold no others, in their order in the message."""
    if part.children or part.is_multipart or part.is_message:
        return [found for child in part.children for found in _leaves(child)]
    return [part]
