"""Status responses: tagged, untagged, continuation, and the codes in brackets."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNSAFE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Completion:
    """How a command ends: OK, NO or BAD, with an optional response code."""

    status: bytes
    text: str
    code: bytes = b""


def ok(text: str, code: bytes = b"") -> Completion:
    """The command succeeded."""
    return Completion(b"OK", text, code)


# RFC 9051 section 7.1: resp-cond-state = ("OK" / "NO" / "BAD") SP resp-text
# RFC 9051 section 9: resp-text = ["[" resp-text-code "]" SP] [text] - some clients want the text, so it is always there
def line(tag: bytes, status: bytes, text: str, code: bytes = b"") -> bytes:
    """One status line; ``tag`` is ``*`` for an untagged one."""
    safe = _UNSAFE.sub("?", text).encode("ascii")
    if code:
        return b"%s %s [%s] %s\r\n" % (tag, status, code, safe)
    return b"%s %s %s\r\n" % (tag, status, safe)


def untagged_ok(code: bytes, text: str) -> bytes:
    """``* OK [CODE] text``."""
    return line(b"*", b"OK", text, code)


# RFC 9051 section 7.6: continue-req = "+" SP (resp-text / base64) CRLF
def go_ahead(text: bytes = b"OK") -> bytes:
    """A continuation request; the space is there even before an empty challenge."""
    return b"+ " + text + b"\r\n"
