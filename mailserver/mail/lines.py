"""Line ends: in memory and on the wire every line ends with CRLF, whatever the file has.

A CR that stands alone is no line end and stays as it is (RFC 5322 section 2.3 forbids it, and mail has it).
"""

from __future__ import annotations

import re

_BARE_LF = re.compile(rb"(?<!\r)\n")


def to_crlf(data: bytes) -> bytes:
    """Return ``data`` with each bare LF made CRLF; the same object when there was none."""
    if data.count(b"\n") == data.count(b"\r\n"):
        return data
    return _BARE_LF.sub(b"\r\n", data) if b"\r\n" in data else data.replace(b"\n", b"\r\n")


def vsize(data: bytes) -> int:
    """Return how many octets ``to_crlf(data)`` has."""
    return len(data) + data.count(b"\n") - data.count(b"\r\n")


class CrlfWriter:
    """``to_crlf`` for data that comes in pieces, cut anywhere: a CRLF may be cut in two."""

    def __init__(self) -> None:
        self._after_cr = False
        self.size = 0  # octets returned so far

    def convert(self, data: bytes) -> bytes:
        """Return the next piece; the pieces together are ``to_crlf`` of all."""
        if not data:
            return data
        if self._after_cr and data.startswith(b"\n"):
            converted = b"\n" + to_crlf(data[1:])
        else:
            converted = to_crlf(data)
        self._after_cr = data.endswith(b"\r")
        self.size += len(converted)
        return converted
