"""SELECT, EXAMINE, CLOSE, UNSELECT, CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS, NAMESPACE."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mailserver.imap import news, places
from mailserver.imap.errors import Invalid, Refused
from mailserver.imap.grammar.anystate import NoArguments
from mailserver.imap.grammar.mailbox import Create, QResync, Rename, Select, Status
from mailserver.imap.grammar.mailbox import Mailbox as Name
from mailserver.imap.places import Place
from mailserver.imap.responses import flags as flag_responses
from mailserver.imap.responses.sets import number_set
from mailserver.imap.responses.status import Completion, ok, untagged_ok
from mailserver.imap.view import View
from mailserver.ops import metrics
from mailserver.store.mailbox import Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.rights import WRITING
from mailserver.store.model.search import NumberSet
from mailserver.store.state import position
from mailserver.store.tree import names, special

if TYPE_CHECKING:
    from mailserver.imap.session import Session


# RFC 9051 section 6.3.2, RFC 9051 section 6.3.3, RFC 3501 section 6.3.1
def select(session: Session, args: Select) -> Completion:
    """Open a mailbox, for reading and writing or (EXAMINE) for reading only."""
    if args.qresync is not None and "QRESYNC" not in session.enabled:
        # RFC 7162 section 3.2.5
        raise Invalid("QRESYNC has to be enabled first")
    was_selected = session.view is not None
    session.unselect()  # RFC 9051 section 6.3.2: also when the new one cannot be opened
    if was_selected:
        # RFC 9051 section 7.1: CLOSED separates what was said of the old mailbox from what is said of the new one
        session.write(untagged_ok(b"CLOSED", "The previous mailbox is closed"))
    if args.condstore or args.qresync is not None:
        session.enable_condstore()
    tick = session.services.store.rights_tick
    before = tick()
    place = places.find(session, args.name)
    place.require("r")
    mailbox = place.mailbox()
    if args.read_only or not place.rights & WRITING:
        snapshot = mailbox.rescan()
        first_recent = snapshot.first_recent
    else:
        first_recent, snapshot = mailbox.claim_recent()
    view = View(
        mailbox,
        snapshot,
        read_only=args.read_only,
        first_recent=first_recent,
        place=place,
        tick=tick,
        rights_tick=before,
    )
    view.tells_recent = "IMAP4REV2" not in session.enabled
    metrics.IMAP_MESSAGES.observe(len(view.messages))
    session.write_many(_opening(session, view, snapshot))
    session.select(view)
    if args.qresync is not None and args.qresync.uidvalidity == snapshot.uidvalidity:
        session.write_many(resync(session, view, args.qresync))
    return ok("EXAMINE completed" if args.read_only else "SELECT completed", _MODES[view.read_only])


_MODES = {True: b"READ-ONLY", False: b"READ-WRITE"}


def _opening(session: Session, view: View, snapshot: Snapshot) -> list[bytes]:
    messages = snapshot.messages
    lines = [b"* %d EXISTS\r\n" % len(messages)]
    if "IMAP4REV2" not in session.enabled:
        view.told_recent = view.recent_count()
        lines.append(b"* %d RECENT\r\n" % view.told_recent)
        unseen = next((i for i, m in enumerate(messages, 1) if not m.flags & Flag.SEEN), 0)
        if unseen:
            # RFC 3501 section 7.1: UNSEEN
            lines.append(untagged_ok(b"UNSEEN %d" % unseen, "First unseen"))
    lines += [
        untagged_ok(b"UIDVALIDITY %d" % snapshot.uidvalidity, "UIDs valid"),
        untagged_ok(b"UIDNEXT %d" % snapshot.uidnext, "Predicted next UID"),
        b"* FLAGS (" + flag_responses.known_flags(snapshot.keywords) + b")\r\n",
        news.permanent_flags(view, snapshot),
        untagged_ok(b"HIGHESTMODSEQ %d" % snapshot.highestmodseq, "Highest"),  # RFC 7162 section 3.1.2.1
        untagged_ok(b"MAILBOXID (%s)" % view.mailbox.object_id().encode(), "Ok"),  # RFC 8474 section 4.2
    ]
    if "IMAP4REV2" in session.enabled:
        # RFC 9051 section 6.3.2: LIST tells the canonical name
        lines.append(b'* LIST () "/" ' + session.encode_name(_shown(view)) + b"\r\n")
    return lines


def _shown(view: View) -> str:
    return view.place.shown if view.place is not None else view.mailbox.name


# RFC 7162 section 3.2.5: what the client missed: expunged UIDs, then changed flags
def resync(session: Session, view: View, known: QResync) -> list[bytes]:
    """VANISHED (EARLIER) and FETCH for everything after the client's MODSEQ."""
    uids = known.known_uids or NumberSet(((1, None),), uid=True)
    lines = []
    vanished = vanished_since(view, known.modseq, uids)
    if vanished:
        lines.append(b"* VANISHED (EARLIER) " + number_set(vanished) + b"\r\n")
    messages = view.messages
    changed = [(i + 1, messages[i]) for i in view.resolve(uids) if messages[i].modseq > known.modseq]
    return lines + news.changed(session, view, changed, None, uid=True)


# RFC 7162 section 3.2.6: a server that does not remember reports every UID of the set that is not there
def vanished_since(view: View, modseq: int, uids: NumberSet) -> list[int]:
    """UIDs of the set that were expunged after ``modseq``, ascending.

    Not those that still have a number in this view, nor those that it never saw: the news will tell.
    """
    last = view.snapshot.uidnext - 1
    ranges = [(min(a or last, b or last), max(a or last, b or last)) for a, b in uids.ranges]
    expunged = view.mailbox.expunged_since(modseq)
    if expunged is not None:
        named = [uid for uid in expunged if uid <= last and any(low <= uid <= high for low, high in ranges)]
        return [uid for uid in named if view.index_of(uid) is None]
    present = {m.uid for m in view.messages}
    missing: set[int] = set()
    for low, high in ranges:
        missing.update(uid for uid in range(low, min(high, last) + 1) if uid not in present)
    return sorted(missing)


# RFC 9051 section 6.4.1: removes \Deleted messages silently, unless the mailbox is read-only
def close(session: Session, args: NoArguments) -> Completion:
    """Expunge and unselect."""
    view = session.selected()
    # RFC 4314 section 4: without "e" the expunge is ignored
    if not view.read_only and "e" in view.rights:
        view.mailbox.expunge(None, deleted=True)
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
    place = places.require_creation(session, args.name)
    account = place.account
    use = ""
    if args.special_use:
        if not place.own:
            raise Refused("A special use is for mailboxes of one's own", b"USEATTR")
        known = {word.lower(): word for word in special.USES}
        # RFC 6154 section 3: USEATTR when the server cannot give this use
        if len(args.special_use) > 1 or args.special_use[0].lower() not in known:
            raise Refused("This special use cannot be given", b"USEATTR")
        use = known[args.special_use[0].lower()]
        if any(info.special_use == use and info.selectable for info in account.mailboxes()):
            raise Refused("Another mailbox has this special use", b"USEATTR")
    if use and account.tree.apart and place.name.endswith("/"):
        raise Refused("Only a mailbox has a special use", b"USEATTR")
    mailbox = account.create(place.name, use)
    name = place.shown
    if "IMAP4REV2" in session.enabled and name != session.decode_name(args.name):
        # RFC 9051 section 6.3.9.7: OLDNAME tells a client under which name its mailbox was made
        supplied = session.encode_name(session.decode_name(args.name))
        session.write(b'* LIST () "/" %b ("OLDNAME" (%b))\r\n' % (session.encode_name(name), supplied))
    if not mailbox:
        return ok("CREATE completed, for names below it")
    # RFC 8474 section 4.1
    return ok("CREATE completed", b"MAILBOXID (%s)" % place.mailbox().object_id().encode())


# RFC 9051 section 6.3.5
def delete(session: Session, args: Name) -> Completion:
    """Remove a mailbox."""
    place = places.find(session, args.name)
    place.require("x")
    place.account.delete(place.name)
    return ok("DELETE completed")


# RFC 9051 section 6.3.6, RFC 4314 section 4: "x" for the mailbox, "k" for its new parent
def rename(session: Session, args: Rename) -> Completion:
    """Rename a mailbox and all below it."""
    old = places.find(session, args.old)
    old.require("x")
    new = places.require_creation(session, args.new)
    if old.account is not new.account or (not old.own and old.name == names.INBOX):
        # as Dovecot; a client copies the messages, and they get new UIDs as they must
        raise Refused("A mailbox cannot be renamed to that of another user", b"CANNOT")
    old.account.rename(old.name, new.name)
    return ok("RENAME completed")


# RFC 9051 section 6.3.7
def subscribe(session: Session, args: Name) -> Completion:
    """Subscribe to a mailbox; it has to exist, or a typing error would stay for ever."""
    place = places.find(session, args.name)
    known = names.canonical(place.shown)
    if place.own:
        there = any(info.name == known for info in places.listed(session))
    else:
        there = "l" in place.rights and place.exists()
    if not there:
        raise places.nothing()
    session.user_account().subscribe(known)
    return ok("SUBSCRIBE completed")


# RFC 9051 section 6.3.8
def unsubscribe(session: Session, args: Name) -> Completion:
    """Unsubscribe from a mailbox, whether it exists or not."""
    account = session.user_account()
    sent = session.decode_name(args.name)
    account.unsubscribe(sent if sent in account.subscriptions() else places.shown(session, args.name))
    return ok("UNSUBSCRIBE completed")


# RFC 9051 section 6.3.10, RFC 2342 section 5: personal, other users', shared
def namespace(session: Session, args: NoArguments) -> Completion:
    """Say where mailboxes may be."""
    prefix = session.shared_prefix
    others = b'((%b "/"))' % session.encode_name(prefix) if prefix else b"NIL"
    session.write(b'* NAMESPACE (("" "/")) ' + others + b" NIL\r\n")
    return ok("NAMESPACE completed")


# RFC 9051 section 6.3.11
def status(session: Session, args: Status) -> Completion:
    """Say how a mailbox stands without selecting it."""
    session.write(status_line(session, places.find(session, args.name), args.items))
    return ok("STATUS completed")


# RFC 9051 section 7.3.4
def status_line(session: Session, place: Place, items: tuple[str, ...]) -> bytes:
    """The STATUS response; StoreError, Refused when the mailbox may not be read."""
    place.require("r")
    view = session.view
    if view is not None and view.place is not None and view.place.shown == place.shown:
        mailbox = place.mailbox()
        snapshot = mailbox.poll() if view.mailbox is mailbox else mailbox.rescan()
    else:
        mailbox, snapshot = place.account.glance(place.name)
    if "HIGHESTMODSEQ" in items:
        session.enable_condstore()
    values = b" ".join(b"%s %b" % (item.encode(), _value(session, mailbox, snapshot, item)) for item in items)
    return b"* STATUS " + session.encode_name(place.called(mailbox)) + b" (" + values + b")\r\n"


def _value(session: Session, mailbox: Mailbox, snapshot: Snapshot, item: str) -> bytes:
    if item == "MAILBOXID":
        return b"(%s)" % mailbox.object_id().encode()  # RFC 8474 section 4.3
    if item == "APPENDLIMIT":
        return b"%d" % session.config.max_message_size  # RFC 7889 section 3.2
    return b"%d" % _NUMBERS[item](mailbox, snapshot)


def _deleted(snapshot: Snapshot) -> list[Message]:
    return [m for m in snapshot.messages if m.flags & Flag.DELETED]


_NUMBERS: dict[str, Callable[[Mailbox, Snapshot], int]] = {
    "MESSAGES": lambda mailbox, s: len(s.messages),
    "RECENT": lambda mailbox, s: len(s.messages) - position(s.messages, s.first_recent),
    "UIDNEXT": lambda mailbox, s: s.uidnext,
    "UIDVALIDITY": lambda mailbox, s: s.uidvalidity,
    "UNSEEN": lambda mailbox, s: mailbox.unseen(s),
    "DELETED": lambda mailbox, s: len(_deleted(s)),
    "SIZE": lambda mailbox, s: sum(mailbox.sizes(s.messages)),  # RFC 8438 section 2
    "HIGHESTMODSEQ": lambda mailbox, s: s.highestmodseq,  # RFC 7162 section 3.1.7
    "DELETED-STORAGE": lambda mailbox, s: sum(mailbox.sizes(_deleted(s))),  # RFC 9208 section 4.1.4
}
