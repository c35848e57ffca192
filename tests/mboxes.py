"""What tests of the mbox format share: messages to append, a simple reader to compare with, a check of a whole file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mailserver.mail.lines import to_crlf
from mailserver.store.formats.mbox.addition import Addition
from mailserver.store.formats.mbox.entry import NO_MARKS, Box, Marks
from mailserver.store.formats.mbox.folder import MboxFolder

BOOKS = rb"(?:status|x-status|x-keywords|x-uid|x-imapbase|x-imap|content-length)[ \t]*:"
_FROM = re.compile(
    rb"From (?:\"[^\"\r\n]*\")?[^ \r\n]* +[^ \r\n]{3} (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)  ?\d\d? "
    rb"\d\d:\d\d(?::\d\d)?(?: (?:[a-z][^ \r\n]*|[+-]\d{4}))? \d{4}",
    re.I,
)


class Octets:
    """A message in memory, given in pieces of ``count`` octets."""

    def __init__(self, data: bytes, count: int = 1 << 16) -> None:
        self.data = data
        self.count = count

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self.data), self.count):
            yield self.data[start : start + self.count]


def addition(data: bytes, marks: Marks = NO_MARKS, date: int | None = 1700000000, count: int = 1 << 16) -> Addition:
    return Addition(Octets(data, count), marks, date)


def without_books(message: bytes) -> bytes:
    """What is left of a message when it went through an mbox: line by line, so that it is plainly right."""
    kept, inside, hidden = [], True, False
    for line in re.findall(rb"[^\n]*\n|[^\n]+", message):
        inside = inside and line not in (b"\r\n", b"\n")
        if inside and not (line[:1] in (b" ", b"\t") and kept is not None and (hidden or kept)):
            hidden = re.match(BOOKS, line, re.I) is not None
        if not inside or not hidden:
            kept.append(line)
    return b"".join(kept)


def stored(message: bytes) -> bytes:
    """What clients get of a message that went through an mbox."""
    if message[:1] in (b" ", b"\t") and b"\r\n\r\n" not in message and not message.endswith(b"\n"):
        message += b"\r\n"
    return without_books(message)


def simple(file: bytes) -> list[bytes]:
    """The messages of a file without Content-Length, as clients see them; line by line."""
    messages: list[list[bytes]] = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", file):
        if _FROM.match(line):
            messages.append([])
        elif messages:
            messages[-1].append(line)
    found = []
    for lines in messages:
        text = b"".join(lines)
        text = text.removesuffix(b"\r\n") if text.endswith(b"\r\n") else text.removesuffix(b"\n")
        found.append(to_crlf(re.sub(rb"(?m)^>(?=>*From )", b"", without_books(text))))
    return found


def contents(folder: MboxFolder, box: Box) -> dict[int | None, bytes]:
    """What clients get of each message."""
    found = {}
    for entry in box.entries:
        with folder.open(entry) as message:
            found[entry.uid] = message.read()
            assert message.size == entry.size == len(found[entry.uid])
    return found


def check(folder: MboxFolder, box: Box) -> None:
    """What is known of the file is what reading it again says. Within ``hold``."""
    again = folder.load()
    base = again.base if again.entries or again.pseudo else box.base
    assert replace(again, fingerprint=box.fingerprint, certain=box.certain, base=base) == replace(box, verified=True)


def opened(path: Path, uidvalidity: int = 4711) -> tuple[MboxFolder, Box]:
    """A folder whose messages have UIDs. To be held by the caller before it is used again."""
    folder = MboxFolder(str(path), sync=False)
    folder.make()
    with folder.hold():
        return folder, folder.assign(folder.load(), uidvalidity)
