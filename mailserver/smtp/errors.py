"""What went wrong, in SMTP's words: the one place that turns an exception into a reply.

What nobody foresaw is temporary (451 4.3.0): the client keeps the mail and comes again.
"""

from __future__ import annotations

from mailserver.auth.sasl import SaslSyntax
from mailserver.auth.service import AuthFailed, AuthUnavailable
from mailserver.delivery.local import status_of
from mailserver.delivery.target import Refused, Status
from mailserver.mail.addrspec import BadAddress
from mailserver.smtp import replies
from mailserver.smtp.grammar import BadParameter, BadSyntax
from mailserver.store.errors import StoreError


class BadCommand(Exception):
    """The client sent something that is no command, or not here; too many of them end the session."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.text)
        self.status = status


def status_for(error: Exception) -> Status | None:
    """Return the reply to ``error``; None for what nobody foresaw."""
    match error:
        case BadCommand() | Refused():
            return error.status
        case BadAddress():
            return Status(501, "5.1.3", f"Bad address: {error}")
        case BadParameter():
            return Status(555, "5.5.4", str(error))
        case BadSyntax():
            return Status(501, "5.5.4", str(error))
        case AuthFailed():
            return replies.AUTH_FAILED
        case AuthUnavailable():
            return replies.AUTH_UNAVAILABLE
        case SaslSyntax():
            return replies.AUTH_SYNTAX
        case StoreError():
            return status_of(error)
        case _:
            return None


def is_bad(error: Exception) -> bool:
    """Say whether ``error`` counts as a command that made no sense."""
    return isinstance(error, BadCommand | BadAddress | BadParameter | BadSyntax | SaslSyntax)
