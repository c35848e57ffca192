"""A message as RETR and TOP send it. Pure: chunks in, chunks out, never the whole message in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_DOT = re.compile(rb"\n\.")  # searching for it is twice as quick as replacing, and most mail has none


# RFC 1939 section 3: "If any line of the multi-line response begins with the termination octet, the line is
# 'byte-stuffed' by pre-pending the termination octet to that line of the response."
def stuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks with dots doubled at the beginning of lines, a last CRLF where it is missing, and ".CRLF".

    Expects CRLF line ends, as the store gives them.
    """
    last = b"\r\n"
    for chunk in chunks:
        if not chunk:
            continue
        out = chunk.replace(b"\n.", b"\n..") if _DOT.search(chunk) else chunk
        if chunk[:1] == b"." and last[-1:] == b"\n":
            out = b"." + out
        yield out
        last = (last + chunk[-2:])[-2:]
    yield b".\r\n" if last == b"\r\n" else b"\r\n.\r\n"


# RFC 1939 section 7: TOP sends "the headers of the message, the blank line separating the headers from the body, and
# then the number of lines of the indicated message's body"
def top(chunks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """Yield the header, the empty line and so many lines of the body."""
    before = b"\n"  # the octets before the chunk: an empty line may begin in the chunk before
    source = iter(chunks)
    for chunk in source:
        window = before + chunk
        found = window.find(b"\n\r\n")
        if found < 0:
            yield chunk
            before = window[-2:]
            continue
        body = found + 3 - len(before)
        yield chunk[:body]
        yield from _first_lines(chunk[body:], source, lines)
        return


def _first_lines(first: bytes, rest: Iterator[bytes], lines: int) -> Iterator[bytes]:
    chunk = first
    while lines > 0:
        count = chunk.count(b"\n")
        if count >= lines:
            parts = chunk.split(b"\n", lines)
            yield b"\n".join(parts[:lines]) + b"\n"
            return
        lines -= count
        yield chunk
        following = next(rest, None)
        if following is None:
            return
        chunk = following
