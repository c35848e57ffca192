"""COPY, MOVE, and their UID forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailserver.imap.appending import target
from mailserver.imap.commands.numbers import chosen
from mailserver.imap.grammar.copy import Copy
from mailserver.imap.responses import status
from mailserver.imap.responses.sets import paired_sets
from mailserver.imap.responses.status import Completion, ok
from mailserver.store.model.message import Snapshot

if TYPE_CHECKING:
    from mailserver.imap.session import Session


# RFC 9051 section 6.4.7: all messages or none
def copy(session: Session, args: Copy) -> Completion:
    """Copy messages to another mailbox."""
    view = session.selected()
    messages = chosen(view, args.messages)
    mailbox, may = target(session, args.name)
    snapshot, pairs = view.mailbox.copy([m.uid for m in messages], mailbox, every=True, only=may)
    return ok("COPY completed", _copyuid(snapshot, pairs))


# RFC 9051 section 6.4.8, RFC 6851 section 4.3: COPYUID in an untagged OK, before the EXPUNGE responses
def move(session: Session, args: Copy) -> Completion:
    """Move messages to another mailbox."""
    view = session.selected()
    view.require("t", "e")  # RFC 6851 section 4.2: as UID STORE, UID COPY and UID EXPUNGE together
    messages = chosen(view, args.messages)
    mailbox, may = target(session, args.name)
    snapshot, pairs = view.mailbox.move([m.uid for m in messages], mailbox, only=may)
    if pairs:
        session.write(status.untagged_ok(_copyuid(snapshot, pairs), "Moved"))
    return ok("MOVE completed")


# RFC 4315 section 3: COPYUID; nothing is said when nothing was copied
def _copyuid(snapshot: Snapshot, pairs: Sequence[tuple[int, int]]) -> bytes:
    if not pairs:
        return b""
    old, new = paired_sets(pairs)
    return b"COPYUID %d %s %s" % (snapshot.uidvalidity, old, new)
