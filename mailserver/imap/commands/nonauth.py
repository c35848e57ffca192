"""STARTTLS, AUTHENTICATE, LOGIN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.auth import sasl
from mailserver.auth.secret import Secret
from mailserver.auth.service import AuthFailed, AuthUnavailable, Identity, Origin
from mailserver.imap import capabilities
from mailserver.imap.errors import Invalid, Refused
from mailserver.imap.grammar.anystate import NoArguments
from mailserver.imap.grammar.nonauth import Authenticate, Login
from mailserver.imap.responses import status
from mailserver.imap.responses.status import Completion, ok
from mailserver.ops import log as logging

if TYPE_CHECKING:
    from mailserver.imap.session import Session

_log = logging.get("imap")


# RFC 9051 section 6.2.1
def starttls(session: Session, args: NoArguments) -> Completion | None:
    """Take up TLS; the tagged OK goes out before the handshake, so there is no completion."""
    if session.tls is None:
        raise Invalid("TLS is not available")
    if session.conn.tls:
        raise Invalid("TLS is active already")
    session.write(status.line(session.tag, b"OK", "Begin TLS negotiation now"))
    session.start_tls()
    return None


# RFC 9051 section 6.2.3
def login(session: Session, args: Login) -> Completion:
    """Log in with a name and a password."""
    _require_privacy(session)
    try:
        user = args.user.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("Authentication failed", b"AUTHENTICATIONFAILED") from None
    try:
        identity = session.services.authenticator.login(user, Secret(args.password), _origin(session))
    except (AuthFailed, AuthUnavailable) as error:
        raise _refusal(error) from None
    return _welcome(session, identity)


# RFC 9051 section 6.2.2
def authenticate(session: Session, args: Authenticate) -> Completion:
    """Log in by a SASL mechanism."""
    mechanism = sasl.MECHANISMS.get(args.mechanism)
    if mechanism is None:
        raise Refused(f"The mechanism {args.mechanism[:40]} is not known", b"CANNOT")
    _require_privacy(session)
    exchange = mechanism(session.services.authenticator, _origin(session))
    try:
        answer = exchange.step(sasl.decode(args.initial) if args.initial is not None else None)
        while not isinstance(answer, Identity):
            session.write(status.go_ahead(sasl.encode(answer)))
            session.flush()
            line = session.read_line()
            if line == b"*":
                # RFC 9051 section 6.2.2: the server must reject the command with a tagged BAD
                raise Invalid("Authentication cancelled")
            answer = exchange.step(sasl.decode(line))
    except sasl.SaslSyntax as error:
        raise Invalid(str(error)) from None
    except (AuthFailed, AuthUnavailable) as error:
        raise _refusal(error) from None
    return _welcome(session, answer)


def _origin(session: Session) -> Origin:
    conn = session.conn
    return Origin("imap", conn.peer[0], conn.id, conn.tls, conn.is_loopback)


def _require_privacy(session: Session) -> None:
    if not session.services.authenticator.allows_cleartext(session.conn.tls, session.conn.is_loopback):
        # RFC 5530 section 3: PRIVACYREQUIRED
        raise Refused("Passwords are not taken in clear: use TLS first", b"PRIVACYREQUIRED")


def _refusal(error: AuthFailed | AuthUnavailable) -> Refused:
    if isinstance(error, AuthUnavailable):
        return Refused("Authentication is not possible at present", b"UNAVAILABLE")
    return Refused("Authentication failed", b"AUTHENTICATIONFAILED")


def _welcome(session: Session, identity: Identity) -> Completion:
    session.logged_in(identity)
    return ok("LOGIN completed", b"CAPABILITY " + capabilities.line(session))
