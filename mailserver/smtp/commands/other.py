"""NOOP, HELP, VRFY, EXPN and QUIT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.delivery.target import Status
from mailserver.smtp import replies
from mailserver.smtp.errors import BadCommand

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
    from mailserver.smtp.extensions import switched_off
    from mailserver.smtp.table import table_of  # the table names this function

    session.junk()
    disabled = session.context.options.disabled
    verbs = [verb for verb in table_of(session.context.flavour) if not switched_off(verb, disabled)]
    return Status(214, "2.0.0", "Commands: " + " ".join(verbs))


# RFC 5321 section 7.3: "252 [...] that the server could not verify the user but would accept the message". To say more
# would help those who collect addresses.
def verify(session: Session, _: str) -> Status:
    """Tell nothing about users and lists."""
    session.junk()
    return replies.CANNOT_VERIFY


# RFC 5321 section 4.2.4: "502 [...] SHOULD be used when the command is actually recognized by the SMTP server, but not
# implemented"
def not_implemented(session: Session, _: bytes) -> Status:
    """Refuse a command that the settings switch off."""
    raise BadCommand(replies.NOT_IMPLEMENTED)


# RFC 5321 section 4.1.1.10: "the receiver MUST send a '221 OK' reply, and then close the transmission channel"
def leave(session: Session, _: None) -> Status:
    """End the session."""
    session.done = True
    return replies.BYE
