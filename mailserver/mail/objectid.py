"""EMAILID: RFC 8474 section 5.1."""

from __future__ import annotations

import hashlib

KIND = "objectid.1"  # goes up when the same octets give another one


# RFC 8474 section 5.1: the same octets have the same EMAILID, in whatever mailbox they lie
def of(message: bytes) -> bytes:
    """Return the identifier of a message with these octets."""
    return b"M" + hashlib.sha256(message).hexdigest()[:32].encode()
