"""STARTTLS, AUTHENTICATE, LOGIN. STARTTLS is `anystate.nothing`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import astring, atom, end, more, space


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN. The password is left out of the representation."""

    user: bytes
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE. ``initial`` is still base64 ("=" for an empty response); None: none was sent."""

    mechanism: str
    initial: bytes | None = field(repr=False)


_INITIAL = re.compile(rb"=|[A-Za-z0-9+/]+={0,2}")


# RFC 9051 section 9: login = "LOGIN" SP userid SP password ; userid = astring ; password = astring
def login(c: Cursor) -> Login:
    """Read LOGIN."""
    space(c)
    user = astring(c, "a user name")
    space(c)
    if c.at(b"\0") or c.at(b'"') or more(c):
        password = astring(c, "a password")
    else:
        c.expected("a password")
    end(c)
    return Login(user, password)


# RFC 9051 section 9
# authenticate = "AUTHENTICATE" SP auth-type [SP initial-resp] *(CRLF base64)
# initial-resp = (base64 / "=")
def authenticate(c: Cursor) -> Authenticate:
    """Read AUTHENTICATE; the response may be broken base64: `mailserver.auth` judges it."""
    space(c)
    mechanism = atom(c, "the name of a mechanism").decode("ascii").upper()
    initial = None
    if more(c):
        space(c)
        match = _INITIAL.match(c.data, c.pos)
        if match is None:
            c.expected('base64 or "="')
        c.pos = match.end()
        initial = match.group()
    end(c)
    return Authenticate(mechanism, initial)
