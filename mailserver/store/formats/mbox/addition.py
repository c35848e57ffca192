"""A message on its way into an mbox: as octets with its From_ line and its header fields, quoted."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mailserver.store.formats.mbox import fromline, headers, quoting
from mailserver.store.formats.mbox.entry import NO_MARKS, Base, Marks

_RETURN_PATH = re.compile(rb"^Return-Path:[ \t]*<?([^>\s]*)", re.M | re.I)
_EMPTY_LINE = re.compile(rb"(?:\A|\n)\r?\n")


class Content(Protocol):
    """Anything that gives a message's octets, with CRLF: a `MessageFile`, an `MboxMessage`."""

    def chunks(self) -> Iterator[bytes]:
        """The octets in pieces, from the start at each call."""
        ...


@dataclass(frozen=True, slots=True)
class Addition:
    """A message to append; ``date`` is seconds since 1970, None: now."""

    content: Content
    marks: Marks = NO_MARKS
    date: int | None = None
    uid: int = 0  # 0: the next one
    unique_id: str = ""  # POP3's, when another server gave it


def encoded(addition: Addition, uid: int, base: Base | None, *, crlf: bool) -> Iterator[bytes]:
    """The octets that go into the file, from the From_ line to the line end that no message owns.

    ``base`` is given when it is the first message of the file. The octets that clients get are those of the message,
    but for foreign fields of the names in which an mbox keeps its books: they are dropped, as Dovecot drops them.
    """
    break_ = b"\r\n" if crlf else b"\n"
    chunks = addition.content.chunks()
    header = _header(chunks)
    quoter = quoting.Quoter(crlf=crlf)
    kept = headers.visible(header[0])
    fields = headers.lines(addition.marks, uid, base, addition.unique_id)
    found = _RETURN_PATH.search(kept)
    date = int(time.time()) if addition.date is None else addition.date
    yield fromline.make(found[1] if found else b"", date) + break_
    start = quoter.convert(kept) + (b"" if header[1] else quoter.finish())
    edit = headers.revised(start, fields, crlf=crlf, keep_length=False, roomy=base is not None)
    yield start[: edit.start] + edit.new + start[edit.end :]
    yield quoter.convert(header[1])
    for chunk in chunks:
        yield quoter.convert(chunk)
    yield quoter.finish() + break_


def _header(chunks: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The header with its empty line, and what was read behind it; a header without end is cut."""
    data = b""
    for chunk in chunks:
        data += chunk
        found = _EMPTY_LINE.search(data)
        if found is not None:
            return data[: found.end()], data[found.end() :]
        if len(data) > headers.LONGEST:
            cut = data.rfind(b"\n", 0, headers.LONGEST) + 1
            return data[:cut], data[cut:]
    return data, b""
