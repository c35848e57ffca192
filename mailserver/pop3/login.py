"""The AUTHORIZATION state: USER and PASS, APOP, AUTH, STLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.auth import sasl, saslprep
from mailserver.auth.secret import Secret
from mailserver.auth.service import Identity
from mailserver.pop3 import parse
from mailserver.pop3.errors import Refused
from mailserver.pop3.maildrop import Maildrop

if TYPE_CHECKING:
    from mailserver.pop3.session import Session

MAX_RESPONSE = 16384  # octets of a line with a SASL response: RFC 5034 section 4 sets no limit, sasl.MAX_RESPONSE does


def user_capability(session: Session) -> str:
    """RFC 2449 section 6.2."""
    return "USER" if session.cleartext_allowed else ""


def sasl_capability(session: Session) -> str:
    """RFC 2449 section 6.3."""
    names = session.mechanisms
    return " ".join(["SASL", *names]) if names else ""


def tls_capability(session: Session) -> str:
    """RFC 2595 section 4: "present and permitted in the current state"."""
    return "STLS" if session.context.tls is not None and not session.conn.tls and not session.logged_in else ""


def _require_privacy(session: Session) -> None:
    if not session.cleartext_allowed:
        raise Refused("Passwords are only accepted over TLS, use STLS first")


# RFC 1939 section 7: USER name.  The answer does not tell whether the name is known.
def user(session: Session, name: str) -> None:
    """Take a name; the password follows."""
    _require_privacy(session)
    session.user = _prepared(name)
    session.ok("User accepted")


# RFC 6856 section 2.2: the server "MUST reject UTF-8 usernames or passwords that contain a UTF-8 character listed in
# Section 2.3 of SASLprep". A name is prepared on both sides of its "@" for itself: names in Hebrew or Arabic have
# Latin domains, and SASLprep knows no text of two directions.
def _prepared(name: str) -> str:
    return "@".join(map(saslprep.prepare, name.split("@")))


# RFC 1939 section 7: PASS string; "may only be given in the AUTHORIZATION state immediately after a successful USER"
def password(session: Session, octets: bytes) -> None:
    """Check the password and open the maildrop."""
    _require_privacy(session)
    name, session.user = session.user, None
    if name is None:
        raise Refused("USER comes first")
    saslprep.prepare(octets.decode())  # to refuse it; whoever compares it prepares it
    with session.counting_failures():
        identity = session.context.auth.login(name, Secret(octets), session.origin, "USER")
    open_maildrop(session, identity)


# RFC 1939 section 7: APOP name digest
def apop(session: Session, wanted: parse.Apop) -> None:
    """Check a digest over the greeting's timestamp and the password, and open the maildrop."""
    if session.challenge is None:
        raise Refused("APOP is not available")
    with session.counting_failures():
        identity = session.context.auth.apop(_prepared(wanted.user), wanted.digest, session.challenge, session.origin)
    open_maildrop(session, identity)


# RFC 5034 section 4: AUTH mechanism [initial-response]
def authenticate(session: Session, wanted: parse.Auth | None) -> None:
    """Run a SASL exchange and open the maildrop; without argument, list the mechanisms."""
    if wanted is None:
        lines = "".join([f"{name}\r\n" for name in session.mechanisms])
        session.say(f"+OK Mechanisms follow\r\n{lines}.\r\n".encode())
        return
    if wanted.mechanism in sasl.MECHANISMS and wanted.mechanism not in session.mechanisms:
        _require_privacy(session)
    if wanted.mechanism not in session.mechanisms:
        raise Refused("Unknown authentication mechanism")
    with session.counting_failures():
        identity = _exchange(session, wanted)
    open_maildrop(session, identity)


# RFC 5034 section 4: "+" SP base64 CRLF; a line that is only "*" cancels; "=" is an empty initial response
def _exchange(session: Session, wanted: parse.Auth) -> Identity:
    mechanism = sasl.MECHANISMS[wanted.mechanism](session.context.auth, session.origin)
    response = None if wanted.initial is None else sasl.decode(wanted.initial)
    while True:
        answer = mechanism.step(response)
        if isinstance(answer, Identity):
            return answer
        session.say(b"+ " + sasl.encode(answer) + b"\r\n")
        line = session.read_response(MAX_RESPONSE)
        if line == b"*":
            raise Refused("Authentication cancelled")
        response = sasl.decode(line)


def open_maildrop(session: Session, identity: Identity) -> None:
    """Go to the TRANSACTION state, or stay with StoreError (IN_USE) or Refused."""
    context = session.context
    maildrop = Maildrop(context.store.account(identity.user), context.options, utf8=session.utf8)
    session.enter(identity.user, maildrop)
    session.ok("Mailbox locked and ready")


# RFC 2595 section 4: STLS
def start_tls(session: Session, _: None) -> None:
    """Begin TLS; everything said before it is forgotten."""
    conn, tls = session.conn, session.context.tls
    if conn.tls:
        raise Refused("Command not permitted when TLS active")
    if tls is None:
        raise Refused("TLS is not available")
    if session.utf8:  # RFC 6856 section 2.1: "servers MAY [...] enforce this by rejecting with an -ERR"
        raise Refused("STLS must come before UTF8")
    session.ok("Begin TLS negotiation")
    session.flush()
    conn.start_tls(tls.context)
    session.user = None
