"""A mailbox: one method is one transaction. Thread-safe; every error is a StoreError.

Each changing method locks, brings its knowledge up to date, changes the files, commits to the index, publishes, and
unlocks; what must be durable is synced after the lock is given back and before the method returns.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from mailserver.store import state as states
from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.formats.contract import Wanted
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.lane import LANE
from mailserver.store.model.flags import Flag
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.numbers import MAX_UID, Uid
from mailserver.store.model.rights import EVERYTHING, Settable
from mailserver.store.model.words import keyword_set
from mailserver.store.reader import Reader
from mailserver.store.source import Append as Append
from mailserver.store.source import Source

_ILL = (Kind.TEMPORARY, Kind.NO_QUOTA, Kind.READ_ONLY)  # a full disk: an mbox cannot be rewritten on it
_TRIES = 20  # to change a message that another program renames all the time


class FlagOp(Enum):
    """What STORE does with the flags given."""

    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"

    def applied(
        self, m: Message, flags: int, words: frozenset[str], only: Settable = EVERYTHING
    ) -> tuple[int, frozenset[str]]:
        """What a message has after it, if ``only`` these may be changed."""
        flags, words = self._applied(m, flags, words)
        if only is not EVERYTHING:
            flags = m.flags & ~only.flags | flags & only.flags
            words = words if only.keywords else m.keywords
        return flags, words

    def _applied(self, m: Message, flags: int, words: frozenset[str]) -> tuple[int, frozenset[str]]:
        if self is FlagOp.ADD:
            return m.flags | flags, m.keywords | words
        if self is FlagOp.REMOVE:
            return m.flags & ~flags, m.keywords - words
        return flags, words


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What STORE did: the new snapshot, and the UIDs left alone because they had changed (RFC 7162 section 3.1.3)."""

    snapshot: Snapshot
    modified: list[Uid]


class Mailbox(Reader):
    """A mailbox that can be changed; what can be asked of it is in `Reader`."""

    def receive(self) -> Incoming:
        """Begin to write a message into this mailbox's ``tmp/``."""
        if self.gone:
            raise StoreError(Kind.NOT_FOUND, "the mailbox is gone")
        return self.files.receive()

    def append(self, items: Sequence[Append], *, keep: bool = False) -> tuple[Snapshot, list[Uid]]:
        """Give received messages their names and UIDs, all or none; durable when it returns.

        ``keep`` leaves the received file where it is, for further mailboxes: the message is hard-linked.
        """
        with os_errors():
            for item in items:
                item.incoming.finish(item.internaldate)
        octets = sum(item.incoming.size for item in items)
        self._context.quota.check(octets, len(items))
        with self._locked():
            self.keeper.load()
            snapshot, added = self._add([Source.of(item) for item in items], keep=keep)
            self._context.quota.add(octets, len(items))
        self._sync_or_undo(added)
        self.index_soon()
        return snapshot, [m.uid for m in added]

    def enlist(self, promised: Mapping[str, tuple[int, str]]) -> None:
        """Finish an append that died between giving names and giving UIDs: file's base -> UID and further fields."""
        with self._locked():
            stored = self._context.index.load(self.keeper.directory)
            self.files.enlist(promised, stored.row.uidnext if stored is not None else 1)

    def renumber(self, uidvalidity: int | None, uidnext: int = 1) -> Snapshot:
        """Have this UIDVALIDITY (None: a new one), and give no UID below ``uidnext`` any more; messages keep theirs.

        For a mailbox that comes from another server. Sessions that have it open are told that it is another one, unless
        only UIDNEXT rises.
        """
        if not (uidvalidity is None or 0 < uidvalidity < 2**32) or uidnext > MAX_UID:
            raise StoreError(Kind.CANNOT, "a mailbox cannot have these numbers")
        with self._locked():
            if uidvalidity is None:
                uidvalidity = self._context.new_uidvalidity()
            messages = self.keeper.load(look=True).snapshot.messages
            self.files.renumber(uidvalidity, uidnext, messages)
            return self.keeper.load(look=True).snapshot

    def link(self, incoming: Incoming, flags: int = 0, keywords: frozenset[str] = frozenset()) -> Uid:
        """Deliver a received message here and leave it for others too: one write, N links."""
        _, uids = self.append([Append(incoming, flags, keywords)], keep=True)
        return uids[0]

    def _add(self, sources: Sequence[Source], *, keep: bool) -> tuple[Snapshot, list[Message]]:
        """Make messages of them. Under the lock, after ``load``."""
        keeper = self.keeper
        wanted = frozenset().union(*(s.keywords for s in sources)) if sources else frozenset()
        spelling, table = keeper.define_keywords(wanted)
        if wanted:
            sources = [
                replace(s, keywords=keyword_set(" ".join(sorted(spelling[w] for w in s.keywords)))) for s in sources
            ]
        modseq = states.next_modseq(keeper.state.snapshot.highestmodseq)
        placed = self.files.place(sources, table, modseq, keep=keep)
        snapshot = keeper.commit(added=placed.added, moved=placed.moved, keywords_known=table, modseq=modseq)
        return snapshot, placed.added

    def _sync_or_undo(self, added: Sequence[Message]) -> None:
        """Make them durable, or take them away again: the client is told NO and will send them once more."""
        try:
            self._sync_added(added)
        except StoreError:
            with contextlib.suppress(StoreError):  # the first error is the one to report
                self.expunge([m.uid for m in added])
            raise

    def _sync_added(self, added: Sequence[Message]) -> None:
        with os_errors():
            self.files.sync(added, listed=True)

    def store_flags(
        self,
        uids: Iterable[int],
        op: FlagOp,
        flags: int,
        keywords: Iterable[str] = (),
        unchanged_since: int | None = None,
        only: Settable = EVERYTHING,
    ) -> StoreResult:
        """Change flags, ``only`` these; messages that are gone are passed over."""
        modified: list[Uid] = []
        given = list(keywords) if only.keywords else []
        with self._locked():
            snapshot = self.keeper.load().snapshot
            for _ in range(_TRIES):
                snapshot, uids = self._store_flags(uids, op, flags, given, unchanged_since, modified, only)
                if not uids:
                    return StoreResult(snapshot, modified)
                snapshot = self.keeper.load(look=True).snapshot  # another program renamed or removed these meanwhile
        raise StoreError(Kind.TEMPORARY, "another program changes the same messages")

    def _store_flags(
        self,
        uids: Iterable[int],
        op: FlagOp,
        flags: int,
        keywords: Iterable[str],
        unchanged_since: int | None,
        modified: list[Uid],
        only: Settable,
    ) -> tuple[Snapshot, list[int]]:
        """Once; returns the UIDs whose files were not found under the names that we know."""
        snapshot = self.keeper.state.snapshot
        spelling, table = self._spell(op, keywords)
        given = frozenset(spelling.values())
        modseq = states.next_modseq(snapshot.highestmodseq)
        pending: list[Wanted] = []
        for m in states.select(snapshot.messages, uids):
            if unchanged_since is not None and m.modseq > unchanged_since:
                modified.append(m.uid)
                continue
            new_flags, words = op.applied(m, flags, given, only)
            if new_flags != m.flags or words != m.keywords:
                pending.append(Wanted(m, new_flags, keyword_set(" ".join(sorted(words))) if words else words))
        done = self.files.reflag(pending, table, modseq)
        if done.changed or table != snapshot.keywords:
            moved = modseq if done.changed else None
            snapshot = self.keeper.commit(changed=done.changed, moved=done.moved, keywords_known=table, modseq=moved)
        return snapshot, done.missed

    def _spell(self, op: FlagOp, keywords: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
        if op is not FlagOp.REMOVE:
            return self.keeper.define_keywords(keywords)
        table = self.keeper.state.snapshot.keywords
        known = {w.lower(): w for w in table if w}
        return {w: known[w.lower()] for w in keywords if w.lower() in known}, table

    def expunge(self, uids: Iterable[int] | None, *, deleted: bool = False) -> tuple[Snapshot, list[Uid]]:
        """Remove these messages (None: all), with ``deleted`` only those that are \\Deleted at this moment.

        Returns the UIDs that this call removed.
        """
        with self._locked():
            snapshot, gone = self._expunge(uids, deleted)
        self.forget_texts(gone)
        return snapshot, gone

    def _expunge(self, uids: Iterable[int] | None, deleted: bool) -> tuple[Snapshot, list[Uid]]:
        snapshot = self.keeper.load().snapshot
        removed: list[Uid] = []
        for _ in range(_TRIES):
            doomed = list(snapshot.messages) if uids is None else states.select(snapshot.messages, uids)
            if deleted:
                doomed = [m for m in doomed if m.flags & Flag.DELETED]
            if not doomed:
                return snapshot, removed
            done = self.files.remove(doomed)
            gone = [m for m in doomed if m.uid not in done.missed]
            if gone:
                removed += [m.uid for m in gone]
                snapshot = self._commit_expunge(gone, done.moved)
            if not done.missed:
                return snapshot, removed
            snapshot = self.keeper.load(look=True).snapshot  # another program renamed or removed these meanwhile
            uids = done.missed
        raise StoreError(Kind.TEMPORARY, "another program changes the same messages")

    def _commit_expunge(self, gone: Sequence[Message], moved: Mapping[int, str]) -> Snapshot:
        modseq = states.next_modseq(self.keeper.state.snapshot.highestmodseq)
        uids = [m.uid for m in gone]
        snapshot = self.keeper.commit(moved=moved, gone=uids, modseq=modseq)
        self._context.quota.add(-sum(m.size for m in gone), -len(gone))
        self.keeper.trim()
        return snapshot

    def claim_recent(self) -> tuple[int, Snapshot]:
        """A session selects the mailbox for writing: it alone is told which messages are recent.

        RFC 3501 section 2.3.2. Returns the first UID that is recent.
        """
        with os_errors():
            snapshot = None if self.gone else self.keeper.certain()
        if snapshot is not None and snapshot.first_recent >= snapshot.uidnext:
            return snapshot.first_recent, snapshot
        with self._locked():
            snapshot = self.keeper.load(look=True).snapshot
            first = snapshot.first_recent
            fresh = self.files.fresh(snapshot)
            if not fresh and first >= snapshot.uidnext:
                return first, snapshot
            try:
                return first, self._claim(snapshot, fresh)
            except StoreError as error:
                if error.kind not in _ILL:
                    raise
                snapshot = self.keeper.state.snapshot  # mail can be read all the same; the next session claims it
                return snapshot.uidnext, snapshot

    def _claim(self, snapshot: Snapshot, fresh: Sequence[Message]) -> Snapshot:
        for _ in range(_TRIES):
            with os_errors():
                done = self.files.claim(fresh)
            claimed = self.keeper.commit(changed=done.changed, moved=done.moved, first_recent=snapshot.uidnext)
            if not done.missed:
                break
            snapshot = self.keeper.load(look=True).snapshot  # another program was quicker, and more may have come
            fresh = self.files.fresh(snapshot)
        return claimed

    def copy(
        self, uids: Iterable[int], target: Mailbox, *, every: bool = False, only: Settable = EVERYTHING
    ) -> tuple[Snapshot, list[tuple[Uid, Uid]]]:
        """Copy messages with dates and, ``only`` these, flags; durable when it returns.

        Returns the target's snapshot and (old, new) UIDs.

        Messages that are gone are passed over; with ``every``, StoreError EXPUNGED, and nothing is copied.
        """
        with os_errors(), locked_together(self, target):
            messages, (snapshot, added) = self._transfer(list(uids), target, keep=True, every=every, only=only)
            target._context.quota.add(sum(m.size for m in added), len(added))
        target._sync_or_undo(added)
        return snapshot, [(m.uid, n.uid) for m, n in zip(messages, added, strict=True)]

    def move(
        self, uids: Iterable[int], target: Mailbox, *, only: Settable = EVERYTHING
    ) -> tuple[Snapshot, list[tuple[Uid, Uid]]]:
        """Move messages (RFC 6851 section 3.3) with, ``only`` these, flags.

        Between Maildirs of one file system each is at every moment in exactly one of the mailboxes; elsewhere it may,
        for a moment, be in both: never in none.
        """
        with os_errors(), locked_together(self, target):
            messages, (snapshot, added) = self._transfer(list(uids), target, keep=False, only=only)
            self._count_moved(messages, target)
            if messages:
                if not self._hands_over(target):
                    target.files.sync(added, listed=True)  # before they are removed here
                self._gone_elsewhere(messages, target)
            if target is self:
                snapshot = self.keeper.state.snapshot
        target._sync_added(added)
        self.forget_texts([m.uid for m in messages])
        target.index_soon()
        with os_errors():
            self.files.sync(messages, listed=False)
        return snapshot, [(m.uid, n.uid) for m, n in zip(messages, added, strict=True)]

    def _count_moved(self, messages: Sequence[Message], target: Mailbox) -> None:
        """What moves to another account counts there."""
        if target._context.quota is not self._context.quota:
            octets = sum(m.size for m in messages)
            self._context.quota.add(-octets, -len(messages))
            target._context.quota.add(octets, len(messages))

    def _gone_elsewhere(self, messages: Sequence[Message], target: Mailbox) -> None:
        moved = None
        if not self._hands_over(target):
            moved = self.files.remove(messages).moved
        modseq = states.next_modseq(self.keeper.state.snapshot.highestmodseq)
        self.keeper.commit(moved=moved, gone=[m.uid for m in messages], modseq=modseq)
        self.keeper.trim()

    def _hands_over(self, target: Mailbox) -> bool:
        """Whether what is placed there is no more here."""
        return self.files.moves_away and target.files.moves_away and not self._is_far(target)

    def _is_far(self, target: Mailbox) -> bool:
        """Whether its files cannot be linked or renamed there: another account may lie on another file system."""
        if target._context is self._context:
            return False
        return os.stat(self.files.path).st_dev != os.stat(target.files.path).st_dev

    def _source(self, message: Message, target: Mailbox, only: Settable, *, far: bool) -> Source:
        """The message as something that can be placed there, with the flags that may be set there."""
        source = self.files.source(message)
        if far:
            try:
                with LANE.aside():
                    copied = source.copied(target.files.receive())
            finally:
                source.let_go()
            source = copied
        if only is EVERYTHING:
            return source
        words = source.keywords if only.keywords else frozenset()
        return replace(source, flags=source.flags & only.flags, keywords=words)

    def _transfer(
        self,
        uids: list[int],
        target: Mailbox,
        *,
        keep: bool,
        every: bool = False,
        only: Settable = EVERYTHING,
    ) -> tuple[list[Message], tuple[Snapshot, list[Message]]]:
        """Place our messages in the target, under both locks; once more when another program renamed one meanwhile."""
        far = self._is_far(target)
        for look in (False, True):
            messages = states.select(self.keeper.load(look=look).snapshot.messages, uids)
            if every and len(messages) < len(uids):
                raise StoreError(Kind.EXPUNGED, "some of the messages no longer exist")
            target.keeper.load()
            if keep or target._context.quota is not self._context.quota:
                target._context.quota.check(sum(m.size for m in messages), len(messages))
            sources: list[Source] = []
            try:
                sources += (self._source(m, target, only, far=far) for m in messages)
                stay = keep or not self._hands_over(target)
                loose = any(s.loose for s in sources)
                return messages, target._add(sources, keep=stay and not loose)
            except FileNotFoundError:
                if look:
                    raise
            finally:
                for source in sources:
                    source.let_go()
        raise AssertionError


@contextlib.contextmanager
def locked_together(first: Mailbox, second: Mailbox) -> Iterator[None]:
    """Two mailboxes, in the order of their lock files."""
    low, high = sorted((first, second), key=lambda mailbox: mailbox.keeper.lock.path)
    with low._locked(), high._locked():
        yield
