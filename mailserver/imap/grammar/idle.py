"""What ends IDLE. IDLE itself is `anystate.nothing`."""

from __future__ import annotations


# RFC 9051 section 9: idle = "IDLE" CRLF "DONE"
def is_done(line: bytes) -> bool:
    """Say whether the line ends IDLE, in any case and with spaces behind it."""
    return line.rstrip(b" ").upper() == b"DONE"
