"""STARTTLS. RFC 3207."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.delivery.target import Refused
from mailserver.smtp import replies
from mailserver.smtp.errors import BadCommand

if TYPE_CHECKING:
    from mailserver.smtp.session import Session


def keyword(session: Session) -> str:
    """Return the EHLO line. RFC 3207 section 4.2: not once TLS is active."""
    return "STARTTLS" if session.context.tls is not None and not session.conn.tls else ""


# RFC 3207 section 4.2: "Upon completion of the TLS handshake, the SMTP protocol is reset to the initial state [...].
# The server MUST discard any knowledge obtained from the client, such as the argument to the EHLO command"
def start_tls(session: Session, _: None) -> None:
    """Begin TLS."""
    conn, tls = session.conn, session.context.tls
    if conn.tls:
        raise BadCommand(replies.ALREADY_TLS)
    if tls is None:
        raise Refused(replies.TLS_UNAVAILABLE)
    session.reply(replies.READY_FOR_TLS)
    session.flush()
    conn.start_tls(tls.context)
    session.forget()
