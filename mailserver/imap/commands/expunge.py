"""EXPUNGE and UID EXPUNGE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.imap.commands.numbers import chosen
from mailserver.imap.grammar.anystate import NoArguments
from mailserver.imap.grammar.expunge import UidExpunge
from mailserver.imap.responses.status import Completion, ok

if TYPE_CHECKING:
    from mailserver.imap.session import Session


# RFC 9051 section 6.4.3; what vanished is told by the loop, with what others expunged
def expunge(session: Session, args: NoArguments) -> Completion:
    """Remove every message that is \\Deleted."""
    view = session.selected()
    view.require("e")
    view.mailbox.expunge(None, deleted=True)
    return ok("EXPUNGE completed")


# RFC 9051 section 6.4.9, RFC 4315 section 2.1
def uid_expunge(session: Session, args: UidExpunge) -> Completion:
    """Remove those of the messages that are \\Deleted."""
    view = session.selected()
    view.require("e")
    view.mailbox.expunge({m.uid for m in chosen(view, args.messages)}, deleted=True)
    return ok("EXPUNGE completed")
