"""SASL mechanisms, server side: PLAIN and LOGIN.

The protocols carry challenges and responses, base64 around them is theirs.

A protocol makes the mechanism, calls ``step`` with the initial response (or None) and then with each response, until it
returns an `Identity`. A lone ``*`` cancels and is the protocol's business.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Protocol

from mailserver.auth.names import BadName
from mailserver.auth.secret import Secret
from mailserver.auth.service import Authenticator, AuthFailed, Identity, Origin

MAX_RESPONSE = 12288  # octets of one decoded response: RFC 4616 section 2 has three parts of 255 characters at least


class SaslSyntax(ValueError):
    """A response that is not base64, or not what the mechanism says."""


def decode(line: bytes) -> bytes:
    """Decode the base64 of a response, strictly.

    ``=`` is the empty response (RFC 4954 section 4, RFC 4959 section 3).
    """
    line = line.rstrip(b"\r\n")
    if line == b"=":
        return b""
    if len(line) > MAX_RESPONSE * 4 // 3 + 4:
        raise SaslSyntax("response too long")
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error as error:
        raise SaslSyntax("not base64") from error


def encode(challenge: bytes) -> bytes:
    """Encode a challenge in base64, one line without its end."""
    return binascii.b2a_base64(challenge, newline=False)


class Mechanism(Protocol):
    """One exchange."""

    cleartext: bool  # sends the password as it is: only where `Authenticator.allows_cleartext`

    def __init__(self, authenticator: Authenticator, origin: Origin) -> None: ...

    def step(self, response: bytes | None) -> bytes | Identity:
        """Take a response (None: there is no initial one); return the next challenge or who logged in.

        Raises `SaslSyntax`, `AuthFailed`, `mailserver.auth.service.AuthUnavailable`.
        """
        ...


def _name(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise SaslSyntax("not UTF-8") from error


class Plain:
    """PLAIN. RFC 4616 section 2: ``message = [authzid] UTF8NUL authcid UTF8NUL passwd``."""

    cleartext = True

    def __init__(self, authenticator: Authenticator, origin: Origin) -> None:
        self._authenticator = authenticator
        self._origin = origin

    def step(self, response: bytes | None) -> bytes | Identity:
        """See `Mechanism.step`."""
        if response is None:
            return b""
        parts = response.split(b"\0")
        if len(parts) != 3 or not parts[1] or not parts[2]:
            raise SaslSyntax("PLAIN wants three parts")
        authorize, user, password = _name(parts[0]), _name(parts[1]), Secret(parts[2])
        identity = self._authenticator.login(user, password, self._origin, "PLAIN")
        if authorize and not self._same(authorize, identity):
            raise AuthFailed
        return identity

    def _same(self, authorize: str, identity: Identity) -> bool:
        try:
            return self._authenticator.canonical(authorize) == identity.user
        except BadName:
            return False


class Login:
    """LOGIN: never standardised, asked for by Outlook. Name, then password, each behind its challenge."""

    cleartext = True

    def __init__(self, authenticator: Authenticator, origin: Origin) -> None:
        self._authenticator = authenticator
        self._origin = origin
        self._user: str | None = None

    def step(self, response: bytes | None) -> bytes | Identity:
        """See `Mechanism.step`."""
        if response is None:
            return b"Username:"
        if self._user is None:
            self._user = _name(response)
            return b"Password:"
        return self._authenticator.login(self._user, Secret(response), self._origin, "LOGIN")


MECHANISMS: Mapping[str, type[Plain] | type[Login]] = {"PLAIN": Plain, "LOGIN": Login}


def offered(authenticator: Authenticator, *, tls: bool, loopback: bool) -> list[str]:
    """Return the mechanisms to announce on such a connection."""
    clear = authenticator.allows_cleartext(tls, loopback)
    return [name for name, mechanism in MECHANISMS.items() if clear or not mechanism.cleartext]
