"""STORE and UID STORE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.imap import news
from mailserver.imap.commands.numbers import indexes
from mailserver.imap.errors import Refused
from mailserver.imap.grammar.flags import StoreFlags, StoreOp
from mailserver.imap.responses.sets import number_set
from mailserver.imap.responses.status import Completion, ok
from mailserver.store.mailbox import FlagOp
from mailserver.store.model.message import Message
from mailserver.store.model.numbers import Uid
from mailserver.store.model.rights import EVERYTHING, Settable

if TYPE_CHECKING:
    from mailserver.imap.session import Session
    from mailserver.imap.view import View

_OPS = {StoreOp.ADD: FlagOp.ADD, StoreOp.REMOVE: FlagOp.REMOVE, StoreOp.REPLACE: FlagOp.REPLACE}


# RFC 9051 section 6.4.6, RFC 7162 section 3.1.3
def store(session: Session, args: StoreFlags) -> Completion:
    """Change flags, and tell the client the new ones unless it said .SILENT."""
    view = session.selected()
    view.require()
    whole = _require_some(view, args)
    if args.unchanged_since is not None:
        session.enable_condstore()
    chosen = indexes(view, args.messages)
    before = [view.messages[i] for i in chosen]
    uids = [m.uid for m in before]
    change = view.mailbox.store_flags
    result = change(uids, _OPS[args.op], args.flags, args.keywords, args.unchanged_since, view.settable)
    modified = set(result.modified)
    uid = args.messages.uid
    if args.silent and whole:
        expected = {int(m.uid): _expected(m, args) for m in before if m.uid not in modified}
        news.tell(session, result.snapshot, expunge=False, silent=expected, uid=uid)
        if args.unchanged_since is not None:
            session.write_many(_untouched(view, chosen, before, modified, uid or "QRESYNC" in session.enabled))
    else:
        also = [i for i, m in zip(chosen, before, strict=True) if m.uid not in modified]
        news.tell(session, result.snapshot, expunge=False, also=also, uid=uid)
    if modified:
        # RFC 7162 section 3.1.3: MODIFIED lists UIDs after UID STORE, sequence numbers after STORE
        failed = sorted(modified) if uid else _numbers(view, sorted(modified))
        return ok("Conditional STORE failed for some messages", b"MODIFIED " + number_set(failed))
    return ok("STORE completed")


# RFC 4314 section 4: "STORE operation SHOULD NOT fail if the user has rights to modify at least one flag"
def _require_some(view: View, args: StoreFlags) -> bool:
    """Whether all may be done that is asked; else the client is told the flags even after .SILENT.

    Refused when nothing of it may be done.
    """
    may = view.settable
    if may is EVERYTHING:
        return True
    every = args.op is StoreOp.REPLACE
    asked = EVERYTHING if every else Settable(args.flags, bool(args.keywords))
    if asked and not (asked.flags & may.flags or (asked.keywords and may.keywords)):
        raise Refused("You may not change these flags", b"NOPERM")
    return not asked.flags & ~may.flags and (may.keywords or not asked.keywords)


# RFC 7162 section 3.1.3: "An untagged FETCH response MUST be sent, even if the .SILENT suffix is specified"
def _untouched(view: View, chosen: list[int], before: list[Message], modified: set[Uid], uid: bool) -> list[bytes]:
    """FETCH with MODSEQ of those that had the flags already: the news are silent about them."""
    pairs = zip(chosen, before, strict=True)
    same = [(i + 1, m) for i, m in pairs if m.uid not in modified and view.messages[i].modseq == m.modseq]
    number = [b"UID %d " % m.uid if uid else b"" for _, m in same]
    return [b"* %d FETCH (%bMODSEQ (%d))\r\n" % (seq, n, m.modseq) for n, (seq, m) in zip(number, same, strict=True)]


def _numbers(view: View, uids: list[int]) -> list[int]:
    return [i + 1 for u in uids if (i := view.index_of(u)) is not None]


def _expected(m: Message, args: StoreFlags) -> tuple[int, frozenset[str]]:
    """What a client that knew the flags of ``m`` assumes after its own silent STORE."""
    known = {w.lower(): w for w in m.keywords}
    words = frozenset(known.get(w.lower(), w) for w in args.keywords)
    if args.op is StoreOp.ADD:
        return m.flags | args.flags, m.keywords | words
    if args.op is StoreOp.REMOVE:
        return m.flags & ~args.flags, m.keywords - words
    return args.flags, words
