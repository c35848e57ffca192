"""Untagged responses that tell a client what happened to its selected mailbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mailserver.imap.responses import flags as flag_responses
from mailserver.imap.responses.sets import number_set
from mailserver.store.model.message import Message, Snapshot

if TYPE_CHECKING:
    from mailserver.imap.session import Session
    from mailserver.imap.view import View

Expected = dict[int, tuple[int, frozenset[str]]]  # UID -> flags and keywords that the client assumes anyway


def tell(
    session: Session,
    snapshot: Snapshot,
    *,
    expunge: bool,
    silent: Expected | None = None,
    also: Iterable[int] = (),
    uid: bool = False,
    answered: bool = False,
) -> None:
    """Bring the client's view up to ``snapshot`` and tell it what is new.

    Changes that it expects (``silent``) are not repeated; the flags of the messages at the indexes ``also`` are told in
    any case; ``uid``: with UIDs, for an answer to a UID command; ``answered``: what the client expects (``silent``)
    will be told with other data, MODSEQ included.
    """
    view = session.selected()
    news = view.advance(_claimed(view, snapshot), expunge=expunge)
    if not news and not also:
        return
    if news.expunged:
        session.write(expunged(session, news.expunged))
        session.told_expunged = True
    if news.keywords:
        session.write(b"* FLAGS (" + flag_responses.known_flags(view.snapshot.keywords) + b")\r\n")
        session.write(permanent_flags(view, view.snapshot))
    if news.added:
        session.write(b"* %d EXISTS\r\n" % len(view.messages))
    if (news.added or news.expunged) and "IMAP4REV2" not in session.enabled:
        recent = view.recent_count()
        if news.added or recent != view.told_recent:
            view.told_recent = recent
            session.write(b"* %d RECENT\r\n" % recent)
    if also:
        told = {i + 1: view.messages[i] for i in also} | dict(news.changed)
        session.write_many(changed(session, view, sorted(told.items()), None, uid=uid))
    elif news.changed:
        session.write_many(changed(session, view, news.changed, silent, uid=uid, answered=answered))


def _claimed(view: View, snapshot: Snapshot) -> Snapshot:
    """The snapshot to tell of: where messages came that nobody was told of, they are recent here and nowhere else.

    To claim them takes the mailbox's lock, and what others did until then belongs to the news as well.
    """
    told = view.snapshot.uidnext
    if snapshot.uidnext == told or snapshot.first_recent >= snapshot.uidnext:
        return snapshot
    if view.read_only:  # RFC 3501 section 2.3.2: recent here, and in the next session too
        view.claim(max(snapshot.first_recent, told), snapshot)
        return snapshot
    first, claimed = view.mailbox.claim_recent()
    view.claim(first, claimed)
    return claimed


def expunged(session: Session, gone: Sequence[tuple[int, int]]) -> bytes:
    """EXPUNGE for each, highest first; with QRESYNC one VANISHED. RFC 9051 section 7.5.1, RFC 7162 section 3.2.10."""
    if "QRESYNC" in session.enabled:
        return b"* VANISHED " + number_set(sorted(uid for _, uid in gone)) + b"\r\n"
    return b"".join(b"* %d EXPUNGE\r\n" % seq for seq, _ in gone)


def changed(
    session: Session,
    view: View,
    messages: Sequence[tuple[int, Message]],
    silent: Expected | None,
    *,
    uid: bool,
    answered: bool = False,
) -> list[bytes]:
    """FETCH with the new FLAGS. With CONDSTORE always with MODSEQ, and with QRESYNC with the UID.

    RFC 7162 section 3.1.4.2, RFC 7162 section 3.2.4.
    """
    condstore = "CONDSTORE" in session.enabled
    with_uid = uid or bool(session.enabled & {"QRESYNC", "IMAP4REV2"})
    lines = []
    for seq, m in messages:
        expected = silent.get(m.uid) if silent else None
        if expected == (m.flags, m.keywords):
            if condstore and not answered:
                number = b"UID %d " % m.uid if with_uid else b""
                lines.append(b"* %d FETCH (%bMODSEQ (%d))\r\n" % (seq, number, m.modseq))
            continue
        parts = [b"UID %d" % m.uid] if with_uid else []
        parts.append(b"FLAGS " + flag_responses.flag_list(m, view.is_recent(m.uid)))
        if condstore:
            parts.append(b"MODSEQ (%d)" % m.modseq)
        lines.append(b"* %d FETCH (%s)\r\n" % (seq, b" ".join(parts)))
    return lines


def permanent_flags(view: View, snapshot: Snapshot) -> bytes:
    """PERMANENTFLAGS: what may be changed for good; ``\\*``: new keywords may be made."""
    if view.read_only:
        return b"* OK [PERMANENTFLAGS ()] Read-only mailbox\r\n"
    words = flag_responses.settable_flags(view.settable, snapshot.keywords)
    return b"* OK [PERMANENTFLAGS (" + words + b")] Flags permitted\r\n"
