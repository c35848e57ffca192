"""AUTH. RFC 4954."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.auth import sasl
from mailserver.auth.sasl import SaslSyntax
from mailserver.auth.service import AuthFailed, Identity
from mailserver.delivery.target import Refused, Status
from mailserver.net.connection import LineTooLong
from mailserver.smtp import grammar, replies
from mailserver.smtp.errors import BadCommand

if TYPE_CHECKING:
    from mailserver.smtp.session import Session

MAX_RESPONSE = 12288  # octets of a line: RFC 4954 section 4


def keyword(session: Session) -> str:
    """Return the EHLO line; RFC 4954 section 3."""
    names = session.mechanisms
    return " ".join(["AUTH", *names]) if names and session.user is None else ""


# RFC 4954 section 4: "After an AUTH command has been successfully completed, no more AUTH commands may be issued in the
# same session. [...] An AUTH command issued during a mail transaction MUST be rejected with a 503 reply."
def authenticate(session: Session, wanted: grammar.Auth) -> Status:
    """Run a SASL exchange."""
    if session.user is not None:
        raise BadCommand(replies.ALREADY_AUTHENTICATED)
    if session.transaction is not None:
        raise BadCommand(replies.NOT_NOW)
    if not session.extended:
        raise BadCommand(replies.EHLO_FIRST)
    if wanted.mechanism not in session.mechanisms:
        known = wanted.mechanism in sasl.MECHANISMS
        raise Refused(replies.NEEDS_TLS if known else replies.MECHANISM_UNKNOWN)
    try:
        identity = _exchange(session, wanted)
    except (AuthFailed, SaslSyntax):
        session.login_failed()
        raise
    session.user = identity.user
    session.conn.mark_authenticated()
    return replies.AUTHENTICATED


# RFC 4954 section 4: "334" SP base64 CRLF; a line that is only "*" cancels; "=" is an empty initial response
def _exchange(session: Session, wanted: grammar.Auth) -> Identity:
    mechanism = sasl.MECHANISMS[wanted.mechanism](session.context.auth, session.origin)
    response = None if wanted.initial is None else sasl.decode(wanted.initial)
    while True:
        answer = mechanism.step(response)
        if isinstance(answer, Identity):
            return answer
        session.reply(Status(334, "", sasl.encode(answer).decode()))
        session.flush()
        try:
            line = session.conn.read_line(MAX_RESPONSE + 2).rstrip(b"\r\n")
        except LineTooLong:
            raise Refused(replies.AUTH_LINE_TOO_LONG) from None
        if line == b"*":
            raise Refused(replies.AUTH_CANCELLED)
        response = sasl.decode(line)
