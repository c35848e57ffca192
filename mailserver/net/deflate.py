"""DEFLATE over a connection, both ways. RFC 4978 section 3: raw deflate, no header; each answer ends in a flush.

What is received is inflated in steps of bounded size: a client cannot make a small packet fill the memory.
"""

from __future__ import annotations

import zlib

LEVEL = 3  # mail is text: nearly the size of level 6, twice as quick


class DeflateStream:
    """The two directions of one connection. ``early`` are octets that came behind the command."""

    def __init__(self, early: bytes = b"") -> None:
        self._in = zlib.decompressobj(-zlib.MAX_WBITS)
        self._out = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._tail = early
        self._full = False  # the last step gave all it might: there may be more inside

    @property
    def pending(self) -> bool:
        """Whether `inflate` may give something without new octets."""
        return self._full or bool(self._tail)

    def feed(self, data: bytes) -> None:
        """Take octets from the client."""
        self._tail += data

    def inflate(self, limit: int) -> bytes:
        """Return up to ``limit`` octets of what was fed. Raises `ValueError` for what is no deflate, or its end."""
        try:
            data = self._in.decompress(self._tail, limit)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        self._tail = self._in.unconsumed_tail
        self._full = len(data) == limit
        if self._in.eof and not data:
            raise ValueError("end of the compressed stream")
        return data

    def deflate(self, data: bytes | bytearray | memoryview, *, more: bool) -> bytes:
        """Return what to send for ``data``; with ``more`` some of it may wait for the next."""
        out = self._out.compress(data)
        return out if more else out + self._out.flush(zlib.Z_SYNC_FLUSH)
