"""The message behind DATA: where it ends, and its dots taken out. Pure, and works on chunks, never on lines.

RFC 5321 section 4.1.1.4: "the sequence <CRLF>.<CRLF>" ends the message, and nothing else does: not LF.LF, not
LF.CRLF, not CR.CR. A server that is less strict here than the one before it lets the message's text become commands
(SMTP smuggling).
"""

from __future__ import annotations

import re

END = b"\r\n.\r\n"
_PREFIXES = tuple(END[:count] for count in range(4, 0, -1))
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")


class DotReader:
    """Feed it what arrives; it gives the message's octets. ``done`` when the end was seen, ``rest`` is what follows."""

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.size = 0  # octets of the message so far
        # The line DATA ended with CRLF, so a "." that comes first ends an empty message.
        self._held = b"\r\n"
        self._surplus = 2  # octets of _held that are not the message's

    # RFC 5321 section 4.5.2: "If the first character is a period and there are other characters on the line, the first
    # character is deleted."
    def feed(self, data: bytes) -> bytes:
        """Take the next octets; return those of the message that are certain now."""
        window = self._held + data
        end = window.find(END)
        if end >= 0:
            self.done = True
            self.rest = window[end + len(END) :]
            self._held = b""
            piece = window[: end + 2]
        else:
            held = next((prefix for prefix in _PREFIXES if window.endswith(prefix)), b"")
            self._held = held
            piece = window[: len(window) - len(held)]
        if not piece:
            return b""
        if b"\r\n." in piece:
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self._surplus:
            piece, self._surplus = piece[2:], 0
        self.size += len(piece)
        return piece


class BareLines:
    """Looks for CR and LF that stand alone, in pieces cut anywhere. RFC 5321 section 2.3.8 forbids both."""

    def __init__(self) -> None:
        self.found = False
        self._last = b""

    def look(self, data: bytes) -> None:
        """Look at the next octets."""
        if self.found or not data:
            return
        window = self._last + data
        self._last = b"\r" if window.endswith(b"\r") else b""
        self.found = _BARE.search(window, 0, len(window) - len(self._last)) is not None

    def end(self) -> bool:
        """Say whether there was one."""
        return self.found or bool(self._last)
