"""APPEND and REPLACE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailserver.imap.appending import Appending, target
from mailserver.imap.commands.numbers import indexes
from mailserver.imap.errors import Refused
from mailserver.imap.grammar.append import Append, AppendMessage, Replace
from mailserver.imap.responses import status
from mailserver.imap.responses.sets import number_set
from mailserver.imap.responses.status import Completion, ok
from mailserver.store import mailbox as store
from mailserver.store.formats.maildir.incoming import Incoming

if TYPE_CHECKING:
    from mailserver.imap.session import Session


# RFC 9051 section 6.3.12, RFC 3502 section 6.3.11: all messages or none
def append(session: Session, args: Append) -> Completion:
    """Append messages to a mailbox."""
    appending = session.appending
    if appending is None:  # every literal came while the name of the mailbox was not known yet
        appending = session.appending = Appending(session, args.name)
    mailbox, appending.settable = target(session, args.name)
    if mailbox is not appending.mailbox:
        raise Refused("The mailbox was replaced meanwhile", b"TRYCREATE")
    received = iter(list(appending.received))
    items = [_item(appending, m, received) for m in args.messages]
    snapshot, uids = mailbox.append(items)
    # RFC 4315 section 3: APPENDUID
    return ok("APPEND completed", b"APPENDUID %d %s" % (snapshot.uidvalidity, number_set(uids)))


# RFC 8508 section 3: the new message is there before the old one goes; RFC 8508 section 3.4: APPENDUID untagged
def replace(session: Session, args: Replace) -> Completion:
    """Append a message in place of another."""
    view = session.selected()
    view.require("t", "e")  # RFC 8508 section 4.1: as UID STORE, UID EXPUNGE and APPEND together
    old = [view.messages[i].uid for i in indexes(view, args.target)]
    if not old:
        raise Refused("There is no such message", b"NONEXISTENT")
    appended = append(session, Append(args.name, (args.message,)))
    session.write(status.untagged_ok(appended.code, "Replacement message ready"))
    view.mailbox.expunge(old)
    return ok("REPLACE completed")


def _item(appending: Appending, message: AppendMessage, received: Iterator[Incoming]) -> store.Append:
    data = message.literal.data
    if data is None:
        incoming = next(received)
    else:
        appending.begin(len(data), binary=message.literal.binary)(data)
        incoming = appending.received[-1]
    # RFC 4314 section 4: "Only when the user has a particular right are the corresponding flags stored"
    may = appending.settable
    words = message.keywords if may.keywords else frozenset()
    return store.Append(incoming, message.flags & may.flags, words, message.internaldate)
