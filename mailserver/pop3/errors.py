"""What went wrong, in POP3's words: the one place that turns an exception into -ERR.

Response codes: RFC 2449 section 8.1.1 ([IN-USE], [LOGIN-DELAY]), RFC 3206 section 4 ([SYS/TEMP], [SYS/PERM], [AUTH]),
RFC 6856 section 5 ([UTF8]).
"""

from __future__ import annotations

from mailserver.auth.sasl import SaslSyntax
from mailserver.auth.saslprep import Prohibited
from mailserver.auth.service import AuthFailed, AuthUnavailable
from mailserver.store.errors import Kind, StoreError


class BadCommand(Exception):
    """The client sent something that is no command, or not here; too many of them end the session."""


class Refused(Exception):
    """A command that cannot be done, with the response code that says why ("" for none)."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


_CODES = {
    Kind.IN_USE: "IN-USE",
    Kind.TEMPORARY: "SYS/TEMP",
    Kind.LIMIT: "SYS/TEMP",
    Kind.NO_QUOTA: "SYS/TEMP",
    Kind.CORRUPT: "SYS/PERM",
    Kind.NO_PERMISSION: "SYS/PERM",
    Kind.READ_ONLY: "SYS/PERM",
    Kind.NOT_FOUND: "SYS/PERM",
}


# RFC 2449 section 8: schema = "-ERR" SP "[" resp-code "]" SP text
def error_line(code: str, text: str) -> bytes:
    """Return a complete -ERR line; ``text`` may hold anything and is made printable."""
    clean = "".join(c if " " <= c <= "~" else "?" for c in text[:400])
    return f"-ERR [{code}] {clean}\r\n".encode() if code else f"-ERR {clean}\r\n".encode()


def line_for(error: Exception) -> bytes | None:
    """Return the line that answers ``error``; None for what nobody foresaw."""
    match error:
        case Refused():
            return error_line(error.code, str(error))
        case BadCommand():
            return error_line("", str(error))
        case Prohibited():
            return error_line("AUTH", f"This cannot be a name or password: {error}")
        case AuthFailed():
            return error_line("AUTH", str(error))
        case AuthUnavailable():
            return error_line("SYS/TEMP", str(error))
        case SaslSyntax():
            return error_line("", f"Malformed response: {error}")
        case StoreError(kind=kind):
            return error_line(_CODES.get(kind, ""), error.text)
        case _:
            return None
