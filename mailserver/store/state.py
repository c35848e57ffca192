"""What a process holds of one mailbox, and how a changed copy of it is made."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from mailserver.store.formats.contract import Fingerprint
from mailserver.store.index.db import FolderRow
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.numbers import ModSeq, UidValidity

by_uid = attrgetter("uid")
_GRANULARITY_NS = 50_000_000  # a change this close behind a scan may bear a time that does not show it
_COARSE_NS = 2_100_000_000  # file systems that keep whole seconds


@dataclass(slots=True)
class State:
    """The latest snapshot and the marks that say whether it still holds."""

    snapshot: Snapshot
    rev: int
    fingerprint: Fingerprint | None
    scanned: int  # ns since 1970, when the files were last looked at

    def row(self) -> FolderRow:
        """As the index keeps it."""
        s = self.snapshot
        return FolderRow(
            s.uidvalidity,
            s.uidnext,
            s.highestmodseq,
            s.first_recent,
            self.rev,
            s.keywords,
            self.fingerprint.dump() if self.fingerprint is not None else "",
            self.scanned,
        )


def from_row(row: FolderRow, messages: Sequence[Message]) -> State:
    """The state that the index remembers."""
    snapshot = Snapshot(
        UidValidity(row.uidvalidity), row.uidnext, ModSeq(row.highestmodseq), row.first_recent, messages, row.keywords
    )
    return State(snapshot, row.rev, Fingerprint.undump(row.fingerprint), row.scanned)


def may_hide_changes(fingerprint: Fingerprint, scanned: int) -> bool:
    """Whether the files changed so shortly before the scan, or after it by our own hand, that a change of
    somebody else may have gone unseen."""
    for mtime in fingerprint.times:
        slack = _GRANULARITY_NS if mtime % 1_000_000_000 else _COARSE_NS
        if scanned < mtime + slack:
            return True
    return False


def next_modseq(previous: int) -> ModSeq:
    """A MODSEQ above all others of the mailbox, also of those that a lost index knew: it grows with the clock."""
    return ModSeq(max(previous + 1, time.time_ns() // 1000))


def position(messages: Sequence[Message], uid: int) -> int:
    """Index of the first message with this UID or a higher one."""
    return bisect_left(messages, uid, key=by_uid)


def select(messages: Sequence[Message], uids: Iterable[int]) -> list[Message]:
    """The messages with these UIDs, ascending; those that do not exist are passed over."""
    wanted = uids if isinstance(uids, set | frozenset | range) else list(uids)
    if len(wanted) > 8:
        chosen = frozenset(wanted)
        return [m for m in messages if m.uid in chosen]
    found = []
    for uid in sorted(wanted):
        i = position(messages, uid)
        if i < len(messages) and messages[i].uid == uid:
            found.append(messages[i])
    return found


def replaced(
    messages: Sequence[Message], changed: Mapping[int, Message], gone: Iterable[int], added: Sequence[Message]
) -> list[Message]:
    """A new list: some messages replaced, some gone, some added at the end."""
    gone = set(gone)
    if len(gone) > 16:
        result = [m for m in messages if m.uid not in gone]
    else:
        result = list(messages)
        for uid in gone:
            i = position(result, uid)
            if i < len(result) and result[i].uid == uid:
                del result[i]
    if len(changed) * 8 > len(result):
        result = [changed.get(m.uid, m) for m in result]
    else:
        for uid, message in changed.items():
            i = position(result, uid)
            if i < len(result) and result[i].uid == uid:
                result[i] = message
    result.extend(added)
    return result


def moved(messages: Sequence[Message], places: Mapping[int, str]) -> list[Message]:
    """Messages that stand elsewhere now, and are otherwise what they were."""
    return [
        Message(m.uid, places[m.uid], m.flags, m.keywords, m.modseq, m.internaldate, m.size, m.vsize, m.savedate)
        for m in select(messages, places)
    ]


def merged(ours: Sequence[Message], theirs: Sequence[Message]) -> list[Message]:
    """All messages of both; of one that both have the word with the higher MODSEQ, ours when they say the same."""
    known = {m.uid: m for m in ours}
    for m in theirs:
        mine = known.get(m.uid)
        if mine is None or m.modseq > mine.modseq or (m.modseq == mine.modseq and not _alike(m, mine)):
            known[m.uid] = m
    return sorted(known.values(), key=by_uid)


def same(some: Sequence[Message], others: Sequence[Message]) -> bool:
    """Whether two lists say the same of the same messages."""
    return len(some) == len(others) and all(map(_alike, some, others))


def _alike(m: Message, other: Message) -> bool:
    return m is other or (m.uid, m.file, m.modseq, m.flags, m.keywords) == (
        other.uid,
        other.file,
        other.modseq,
        other.flags,
        other.keywords,
    )
