"""Why a command fails, and the one place where that becomes NO or BAD."""

from __future__ import annotations

from mailserver.imap.grammar.cursor import BadCharset, BadSyntax
from mailserver.imap.responses.status import Completion
from mailserver.store.errors import Kind, StoreError


class Refused(Exception):
    """NO: the command is right, but will not be done. ``code`` is the response code without brackets."""

    def __init__(self, text: str, code: bytes = b"") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Invalid(Exception):
    """BAD: the command makes no sense here, though its grammar is right."""

    def __init__(self, text: str, code: bytes = b"") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Goodbye(Exception):
    """BYE: the session ends."""

    def __init__(self, text: str, code: bytes = b"") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


# RFC 5530 section 3: response codes
_CODES: dict[Kind, bytes] = {
    Kind.NOT_FOUND: b"NONEXISTENT",
    Kind.EXISTS: b"ALREADYEXISTS",
    Kind.BAD_NAME: b"CANNOT",
    Kind.NO_QUOTA: b"OVERQUOTA",
    Kind.TOO_BIG: b"TOOBIG",  # RFC 7889 section 4
    Kind.IN_USE: b"INUSE",
    Kind.EXPUNGED: b"EXPUNGEISSUED",
    Kind.READ_ONLY: b"NOPERM",
    Kind.NO_PERMISSION: b"NOPERM",
    Kind.LIMIT: b"LIMIT",
    Kind.CANNOT: b"CANNOT",
    Kind.HAS_CHILDREN: b"HASCHILDREN",  # RFC 9051 section 7.1
    Kind.CORRUPT: b"CORRUPTION",
    Kind.TEMPORARY: b"UNAVAILABLE",
}


def completion(error: Exception) -> Completion | None:
    """The tagged answer to a failed command; None for an error that is nobody's fault but the server's."""
    if isinstance(error, StoreError):
        return Completion(b"NO", _sentence(error.text), _CODES[error.kind])
    if isinstance(error, Refused):
        return Completion(b"NO", error.text, error.code)
    if isinstance(error, Invalid):
        return Completion(b"BAD", error.text, error.code)
    if isinstance(error, BadSyntax):
        return Completion(b"BAD", error.text)
    if isinstance(error, BadCharset):
        # RFC 9051 section 6.4.4: the server must return NO; the code may list what is known
        return Completion(b"NO", f"The charset {error.charset} is not known", b"BADCHARSET (UTF-8 US-ASCII)")
    return None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
