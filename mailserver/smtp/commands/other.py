"""NOOP, HELP, VRFY, EXPN and QUIT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.delivery.target import Status
from mailserver.smtp import replies

if TYPE_CHECKING:
    from mailserver.smtp.session import Session


# RFC 5321 section 4.1.1.9: "It specifies no action other than that the receiver send a '250 OK' reply."
def noop(session: Session, _: str) -> Status:
    """Do nothing."""
    session.junk()
    return replies.OK


# RFC 5321 section 4.1.1.8: HELP
def assist(session: Session, _: str) -> Status:
    """List the commands."""
    from mailserver.smtp.table import table_of  # the table names this function

    session.junk()
    return Status(214, "2.0.0", "Commands: " + " ".join(table_of(session.context.flavour)))


# RFC 5321 section 7.3: "252 [...] that the server could not verify the user but would accept the message". To say more
# would help those who collect addresses.
def verify(session: Session, _: str) -> Status:
    """Tell nothing about users and lists."""
    session.junk()
    return replies.CANNOT_VERIFY


# RFC 5321 section 4.1.1.10: "the receiver MUST send a '221 OK' reply, and then close the transmission channel"
def leave(session: Session, _: None) -> Status:
    """End the session."""
    session.done = True
    return replies.BYE
