"""EHLO, HELO and LHLO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.delivery.target import Status
from mailserver.smtp.extensions import keywords

if TYPE_CHECKING:
    from mailserver.smtp.session import Session


# RFC 5321 section 4.1.1.1: ehlo-ok-rsp = ( "250" SP Domain [ SP ehlo-greet ] CRLF ) / ( "250-" ... )
# RFC 2033 section 4.1: LHLO has identical semantics
def extended(session: Session, name: str) -> Status:
    """Greet, and list what this server can."""
    session.greet(name, extended=True)
    return Status(250, "", "\n".join([f"{session.context.hostname} greets {session.conn.peer[0]}", *keywords(session)]))


def plain(session: Session, name: str) -> Status:
    """Greet a client that knows no extensions."""
    session.greet(name, extended=False)
    return Status(250, "", session.context.hostname)
