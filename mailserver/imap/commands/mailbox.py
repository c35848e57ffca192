"""SELECT, EXAMINE, CLOSE, UNSELECT, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS, NAMESPACE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.imap import news
from mailserver.imap.errors import Refused
from mailserver.imap.grammar.anystate import NoArguments
from mailserver.imap.grammar.mailbox import Create, Rename, Select, Status
from mailserver.imap.grammar.mailbox import Mailbox as Name
from mailserver.imap.responses import flags as flag_responses
from mailserver.imap.responses.status import Completion, ok, untagged_ok
from mailserver.imap.view import View
from mailserver.ops import metrics
from mailserver.store.errors import Kind, StoreError
from mailserver.store.mailbox import Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.model.message import Snapshot

if TYPE_CHECKING:
    from mailserver.imap.session import Session


# RFC 9051 section 6.3.2, RFC 9051 section 6.3.3, RFC 3501 section 6.3.1
def select(session: Session, args: Select) -> Completion:
    """Open a mailbox, for reading and writing or (EXAMINE) for reading only."""
    was_selected = session.view is not None
    session.unselect()  # RFC 9051 section 6.3.2: also when the new one cannot be opened
    if was_selected:
        # RFC 9051 section 7.1: CLOSED separates what was said of the old mailbox from what is said of the new one
        session.write(untagged_ok(b"CLOSED", "The previous mailbox is closed"))
    mailbox = session.mailbox(args.name)
    if args.read_only:
        snapshot = mailbox.rescan()
        first_recent = snapshot.first_recent
    else:
        first_recent, snapshot = mailbox.claim_recent()
    view = View(mailbox, snapshot, read_only=args.read_only, first_recent=first_recent)
    metrics.IMAP_MESSAGES.observe(len(view.messages))
    session.write_many(_opening(session, view, snapshot))
    session.select(view)
    if args.read_only:
        return ok("EXAMINE completed", b"READ-ONLY")
    return ok("SELECT completed", b"READ-WRITE")


def _opening(session: Session, view: View, snapshot: Snapshot) -> list[bytes]:
    messages = snapshot.messages
    lines = [b"* %d EXISTS\r\n" % len(messages)]
    if "IMAP4REV2" not in session.enabled:
        lines.append(b"* %d RECENT\r\n" % view.recent_count())
        unseen = next((i for i, m in enumerate(messages, 1) if not m.flags & Flag.SEEN), 0)
        if unseen:
            # RFC 3501 section 7.1: UNSEEN
            lines.append(untagged_ok(b"UNSEEN %d" % unseen, "First unseen"))
    lines += [
        untagged_ok(b"UIDVALIDITY %d" % snapshot.uidvalidity, "UIDs valid"),
        untagged_ok(b"UIDNEXT %d" % snapshot.uidnext, "Predicted next UID"),
        b"* FLAGS (" + flag_responses.known_flags(snapshot.keywords) + b")\r\n",
        news.permanent_flags(view, snapshot),
    ]
    return lines


# RFC 9051 section 6.4.1: removes \Deleted messages silently, unless the mailbox is read-only
def close(session: Session, args: NoArguments) -> Completion:
    """Expunge and unselect."""
    view = session.selected()
    if not view.read_only:
        snapshot = view.mailbox.snapshot()
        view.mailbox.expunge([m.uid for m in snapshot.messages if m.flags & Flag.DELETED])
    session.unselect()
    return ok("CLOSE completed")


# RFC 9051 section 6.4.2
def unselect(session: Session, args: NoArguments) -> Completion:
    """Let go of the mailbox without expunging."""
    session.unselect()
    return ok("UNSELECT completed")


# RFC 9051 section 6.3.4
def create(session: Session, args: Create) -> Completion:
    """Make a mailbox."""
    name = session.decode_name(args.name)
    if args.special_use:
        # RFC 6154 section 3: USEATTR
        raise Refused("Special uses cannot be given to a new mailbox", b"USEATTR")
    session.user_account().create(name)
    return ok("CREATE completed")


# RFC 9051 section 6.3.5
def delete(session: Session, args: Name) -> Completion:
    """Remove a mailbox."""
    session.user_account().delete(session.decode_name(args.name))
    return ok("DELETE completed")


# RFC 9051 section 6.3.6
def rename(session: Session, args: Rename) -> Completion:
    """Rename a mailbox and all below it."""
    session.user_account().rename(session.decode_name(args.old), session.decode_name(args.new))
    return ok("RENAME completed")


# RFC 9051 section 6.3.7
def subscribe(session: Session, args: Name) -> Completion:
    """Subscribe to a mailbox; it has to exist, or a typing error would stay for ever."""
    name = session.decode_name(args.name)
    account = session.user_account()
    if not any(info.name == name.removesuffix("/") or info.name == name.upper() for info in account.mailboxes()):
        raise StoreError(Kind.NOT_FOUND, "there is no such mailbox")
    account.subscribe(name)
    return ok("SUBSCRIBE completed")


# RFC 9051 section 6.3.8
def unsubscribe(session: Session, args: Name) -> Completion:
    """Unsubscribe from a mailbox, whether it exists or not."""
    session.user_account().unsubscribe(session.decode_name(args.name))
    return ok("UNSUBSCRIBE completed")


# RFC 9051 section 6.3.10, RFC 2342 section 5: personal, other users', shared
def namespace(session: Session, args: NoArguments) -> Completion:
    """Say where mailboxes may be."""
    session.write(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
    return ok("NAMESPACE completed")


# RFC 9051 section 6.3.11
def status(session: Session, args: Status) -> Completion:
    """Say how a mailbox stands without selecting it."""
    mailbox = session.mailbox(args.name)
    session.write(status_line(session, mailbox, args.items))
    return ok("STATUS completed")


# RFC 9051 section 7.3.4
def status_line(session: Session, mailbox: Mailbox, items: tuple[str, ...]) -> bytes:
    """The STATUS response."""
    view = session.view
    if view is not None and view.mailbox is mailbox:
        snapshot = mailbox.poll()
    else:
        snapshot = mailbox.rescan()
    values = b" ".join(b"%s %d" % (item.encode(), _value(mailbox, snapshot, item)) for item in items)
    return b"* STATUS " + session.encode_name(mailbox.name) + b" (" + values + b")\r\n"


def _value(mailbox: Mailbox, snapshot: Snapshot, item: str) -> int:
    messages = snapshot.messages
    if item == "MESSAGES":
        return len(messages)
    if item == "RECENT":
        return sum(m.uid >= snapshot.first_recent for m in messages)
    if item == "UIDNEXT":
        return snapshot.uidnext
    if item == "UIDVALIDITY":
        return snapshot.uidvalidity
    if item == "UNSEEN":
        return sum(not m.flags & Flag.SEEN for m in messages)
    raise Refused(f"The status item {item} is not supported", b"CANNOT")
