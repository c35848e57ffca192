"""Items of FETCH that need a message's octets: sections of the body, decoded parts.

A message is read once and parsed once for all items. A large one is sent in chunks and never held whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.imap import sections
from mailserver.imap.errors import Refused
from mailserver.imap.grammar.fetch import Binary, BinarySize, Body, Section
from mailserver.imap.sections import without_nul
from mailserver.mail import encodings, structure, unbinary
from mailserver.mail.structure import Part
from mailserver.net.connection import ConnectionLost
from mailserver.store.content import Content as Stored

if TYPE_CHECKING:
    from mailserver.imap.session import Session

Content = Body | Binary | BinarySize
LARGE = 1 << 20  # octets; larger messages are not read whole
_WHOLE = Section()
_SMALL = 4096  # octets copied into one piece of output with what stands before them


class Opened:
    """A message while its answer is written."""

    def __init__(self, data: bytes | None, file: Stored | None) -> None:
        self.data = data
        self.file = file
        self._root: Part | None = None

    def octets(self) -> bytes:
        """All of them."""
        if self.data is None:
            assert self.file is not None
            self.data = self.file.read()
        return self.data

    def root(self) -> Part:
        """The parsed structure."""
        if self._root is None:
            self._root = structure.parse(self.octets())
        return self._root


def write(session: Session, pending: bytes, item: Content, opened: Opened) -> bytes:
    """Write ``pending`` and the item; returns what is still to be written."""
    if not isinstance(item, Body):
        return pending + item.label + b" " + _decoded(item, opened)
    if item.section == _WHOLE and opened.data is None and opened.file is not None:
        _stream(session, pending + item.label, item, opened.file)
        return b""
    root = opened.root() if item.section.part else None
    # RFC 9051 section 6.4.5.1 has no word for a part that is not there; clients know Dovecot's empty string
    value = sections.extract(opened.octets(), item.section, root) or b""
    value = without_nul(sections.cut(value, item.partial))
    if len(value) < _SMALL:
        return b"%b%b {%d}\r\n%b" % (pending, item.label, len(value), value)
    session.write_many([b"%b%b {%d}\r\n" % (pending, item.label, len(value)), value])
    return b""


def _stream(session: Session, start: bytes, item: Body, file: Stored) -> None:
    first, last = 0, file.size
    if item.partial is not None:
        first = min(item.partial.origin, file.size)
        last = min(first + item.partial.count, file.size)
    session.write(b"%b {%d}\r\n" % (start, last - first))
    for chunk in file.chunks(offset=first, end=last):
        session.write(without_nul(chunk))
        session.flush()
        first += len(chunk)
    if first < last:  # somebody cut the file: the size was promised, the stream cannot be mended
        raise ConnectionLost("the message became shorter while it was sent")


# RFC 3516 section 4: BINARY sends a part with its transfer encoding undone, BINARY.SIZE its size then
def _decoded(item: Binary | BinarySize, opened: Opened) -> bytes:
    octets = opened.octets()
    part = structure.section(opened.root(), item.part) if item.part else opened.root()
    if part is None:
        return b'""' if isinstance(item, Binary) else b"0"
    try:
        if part.is_multipart or part.is_message or not item.part:
            # RFC 3516 section 4.2: decoded is what the section holds; in several parts, each of them, as Dovecot does
            data = unbinary.to_binary(octets, part, part.body_start if item.part else part.header_start)
        else:
            data = encodings.decode(part.body(octets), part.encoding)
    except ValueError:
        # RFC 3516 section 4.3: UNKNOWN-CTE
        raise Refused("The transfer encoding of the part is not known", b"UNKNOWN-CTE") from None
    if isinstance(item, BinarySize):
        return b"%d" % len(data)
    data = sections.cut(data, item.partial)
    return (b"~{%d}\r\n" if b"\0" in data else b"{%d}\r\n") % len(data) + data
