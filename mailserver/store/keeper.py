"""Keeps what a process knows of one mailbox in step with the files, the index and the other processes.

All methods but ``current`` want the mailbox's lock. The order of belief: files first, then the index, then memory.
``load`` brings memory up to date, ``commit`` writes a change of our own to the index and publishes it. The files
themselves are changed by ``Mailbox`` in between, through the format's ``Files``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mailserver.store import state as states
from mailserver.store.changes import Subscribers
from mailserver.store.context import Context
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.contract import UNKNOWN, Files, Fingerprint
from mailserver.store.index.db import Changes
from mailserver.store.lane import LANE
from mailserver.store.locks import FileLock
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.numbers import ModSeq
from mailserver.store.state import State

_REST_NS = 1_000_000_000  # between two looks for changes that ours may hide


class Keeper:
    """One per folder and process."""

    def __init__(self, context: Context, directory: str, files: Files) -> None:
        """``directory`` is the folder's name in the index."""
        self.context = context
        self.directory = directory
        self.files = files
        self.lock = FileLock(files.lock_path)
        self.subscribers = Subscribers()
        self._slot = context.shared.counters.slot(files.path)
        self._seen = -1
        self._looked = 0.0
        self._state: State | None = None
        self._epoch = ""
        self._inode = 0
        self.replaced = False  # another folder stands there under the old name
        self._suspect = False  # look at the directories at the next load
        self._scan_seconds = 0.0  # how long the last look took
        self.generation = 0  # another number: a UID may mean another message than before

    def is_another(self, inode: int) -> bool:
        """Whether what is identified so is not the mailbox that is kept here, though its name is.

        ``inode`` is that of a Maildir's ``cur``; 0 for an mbox, which programs may replace.
        """
        if self.files.format == "mbox":
            return inode != 0
        return inode == 0 or self._inode not in (0, inode)

    # -- reading

    def current(self) -> Snapshot | None:
        """The snapshot if nobody changed the folder since, without a system call; None when it must be loaded."""
        state = self._state
        if state is not None and self.context.shared.counters.read(self._slot) == self._seen:
            return state.snapshot
        return None

    def certain(self) -> Snapshot | None:
        """The snapshot if files, index and memory agree beyond doubt; looks at four times, takes no lock."""
        state = self._state
        if state is None or self.context.shared.counters.read(self._slot) != self._seen:
            return None
        fingerprint = self.files.fingerprint()
        if fingerprint != state.fingerprint or states.may_hide_changes(fingerprint, state.scanned):
            return None
        return state.snapshot

    def changed_outside(self, every: float) -> bool:
        """Whether the directories look changed by another program; looks at most once in ``every`` seconds."""
        now = time.monotonic()
        state = self._state
        if state is None or now - self._looked < every:
            return False
        self._looked = now
        fingerprint = self.files.fingerprint()
        return fingerprint != state.fingerprint or self._unsure(fingerprint, state)

    def look(self) -> None:
        """Somebody may have changed the directories: if so, tell every process and wake the sessions here."""
        state = self._state
        if state is None or self.context.shared.counters.read(self._slot) != self._seen:
            self.subscribers.wake()
            return
        try:
            fingerprint = self.files.fingerprint()
        except FileNotFoundError:  # the mailbox is gone: who has it open finds out
            self.subscribers.wake()
            return
        if fingerprint != state.fingerprint or self._unsure(fingerprint, state):
            self.context.shared.counters.advance(self._slot)
            self.subscribers.wake()

    def _unsure(self, fingerprint: Fingerprint, state: State) -> bool:
        """Whether a change of another program may be hidden behind one of ours, and a look now would show it.

        Our own changes move the times of the directories too. After they have come to rest, one look makes sure. It
        takes at most a fiftieth of the time, however big the folder.
        """
        now = time.time_ns()
        if not states.may_hide_changes(fingerprint, state.scanned) or states.may_hide_changes(fingerprint, now):
            return False
        if now - state.scanned < max(_REST_NS, 50 * self._scan_seconds * 1e9):
            return False
        self._suspect = True
        return True

    def known_messages(self) -> Sequence[Message]:
        """Those of the last snapshot, if there is one; looks at nothing."""
        return self._state.snapshot.messages if self._state is not None else ()

    @property
    def state(self) -> State:
        """What ``load`` left."""
        assert self._state is not None
        return self._state

    def load(self, *, look: bool = False) -> State:
        """Bring memory up to date; ``look`` also where times alone would not show a change. Under the lock.

        StoreError NOT_FOUND when another folder stands there under the old name.
        """
        tick = self.context.shared.counters.read(self._slot)
        fingerprint = self.files.fingerprint()
        if self.is_another(fingerprint.inode):
            self.replaced = True
            raise StoreError(Kind.NOT_FOUND, "the mailbox was replaced by another one")
        self._inode = fingerprint.inode
        if self._state is None:
            self._first()
            fingerprint = self.files.fingerprint()
        elif tick != self._seen:
            self._follow_index()
        state = self.state
        look = look or self._suspect
        if fingerprint != state.fingerprint or (look and states.may_hide_changes(fingerprint, state.scanned)):
            self._suspect = False
            self.reconcile(fingerprint)
        else:
            self._seen = tick
        return self.state

    def _first(self) -> None:
        stored = self.context.index.load(self.directory)
        self._epoch = self.context.index.epoch
        if stored is not None:
            self._state = states.from_row(stored.row, stored.messages)
            if self.files.recall(self._state.snapshot, self._state.fingerprint):
                return
        self._begin()

    def _begin(self) -> None:
        """Start from the files alone."""
        self.generation += 1
        previous = self._state.snapshot.highestmodseq if self._state else 0
        rev = self._state.rev if self._state else time.time_ns() // 1000
        snapshot = replace(self.files.begin(), highestmodseq=ModSeq(max(previous, 1)))
        self._state = State(snapshot, rev, None, 0)

    def _follow_index(self) -> None:
        """Take over what other processes wrote to the index."""
        index = self.context.index
        changes = index.changes(self.directory, self.state.rev)
        if changes is None:
            return  # the index is gone: the fingerprint will tell what the files say
        if index.epoch != self._epoch or changes.row.uidvalidity != self.state.snapshot.uidvalidity:
            self._follow_another(index.load(self.directory))
        elif changes.row.rev > self.state.rev:
            self._adopt(changes)

    def _adopt(self, changes: Changes) -> None:
        old = self.state.snapshot.messages
        last = old[-1].uid if old else 0
        changed = {int(m.uid): m for m in changes.messages if m.uid <= last}
        added = [m for m in changes.messages if m.uid > last]
        left = changes.present
        expunged = changes.expunged if left is None else [m.uid for m in old if m.uid not in left]
        self._settle(changes, states.replaced(old, changed, expunged, added))

    def _settle(self, changes: Changes, messages: Sequence[Message]) -> None:
        """Take the index's word for the folder."""
        state = self._state = states.from_row(changes.row, messages)
        self.files.settle(state.snapshot, state.fingerprint)

    def _follow_another(self, changes: Changes | None) -> None:
        """The index was made anew, by a process that may not have known all that we know, nor we all that it knows."""
        self._epoch = ""  # until all is in it, the next commit writes everything
        if changes is None:
            return
        if changes.row.uidvalidity != self.state.snapshot.uidvalidity:
            self.generation += 1
            self._epoch = self.context.index.epoch
            self._settle(changes, changes.messages)
            return
        ours, rev = self.state.snapshot, self.state.rev
        merged = states.merged(ours.messages, changes.messages)
        row = changes.row
        if (
            row.rev >= rev
            and row.highestmodseq >= ours.highestmodseq
            and row.first_recent >= ours.first_recent
            and states.same(merged, changes.messages)
        ):
            self._epoch = self.context.index.epoch
            self._settle(changes, merged)
            return
        # each was told to some client: the higher numbers hold, and the directories say which messages there are
        snapshot = replace(
            ours,
            uidnext=max(ours.uidnext, row.uidnext),
            highestmodseq=ModSeq(max(ours.highestmodseq, row.highestmodseq)),
            first_recent=max(ours.first_recent, row.first_recent),
            messages=merged,
        )
        self._state = State(snapshot, max(rev, row.rev), None, 0)
        self.files.settle(snapshot, None)

    # -- reconciling

    def reconcile(self, fingerprint: Fingerprint) -> None:
        """Look at the files, take over what others did, give arrived messages their UIDs, and commit."""
        scanned = time.time_ns()
        if not self.files.follow(self.state.snapshot):
            self._begin()
        cold = self.state.fingerprint is None
        old = self.state.snapshot
        modseq = states.next_modseq(old.highestmodseq)
        found = self.files.examine(old, fingerprint, modseq, cold=cold)
        self._scan_seconds = (time.time_ns() - scanned) / 1e9
        self._state = replace(self.state, scanned=scanned)
        moved = bool(found.added or found.gone or any(m.modseq == modseq for m in found.changed))
        self.commit(
            changed=found.changed,
            gone=[m.uid for m in found.gone],
            added=found.added,
            keywords_known=found.keywords,
            first_recent=found.first_recent,
            modseq=modseq if moved or cold else old.highestmodseq,
            fingerprint=replace(self.files.fingerprint(), times=fingerprint.times),
            whole=cold,
        )

    # -- writing

    def commit(
        self,
        *,
        changed: Sequence[Message] = (),
        moved: Mapping[int, str] | None = None,
        gone: Iterable[int] = (),
        added: Sequence[Message] = (),
        keywords_known: tuple[str, ...] | None = None,
        first_recent: int | None = None,
        modseq: ModSeq | None = None,
        fingerprint: Fingerprint | None = None,
        whole: bool = False,
    ) -> Snapshot:
        """Make the new snapshot, write it to the index, publish it. Under the lock, after the files were changed."""
        state, old = self.state, self.state.snapshot
        gone = list(gone)
        if moved:
            changed = [*changed, *states.moved(old.messages, moved)]
        words = old.keywords if keywords_known is None else keywords_known
        highest = old.highestmodseq if modseq is None else modseq
        messages = states.replaced(old.messages, {int(m.uid): m for m in changed}, gone, added)
        snapshot = Snapshot(
            old.uidvalidity,
            self.files.uidnext,
            highest,
            old.first_recent if first_recent is None else first_recent,
            messages,
            words,
        )
        if fingerprint is None:
            try:
                fingerprint = self.files.fingerprint()
            except OSError:  # what is done is done and must be known: the next look will find out
                fingerprint = UNKNOWN
            self.files.committed(fingerprint)
        self._state = State(snapshot, state.rev + 1, fingerprint, state.scanned)
        self._save([*changed, *added], [(uid, highest) for uid in gone], whole)
        self._seen = self.context.shared.counters.advance(self._slot)
        self.subscribers.wake()
        return snapshot

    def _save(self, changed: Sequence[Message], gone: Sequence[tuple[int, int]], whole: bool) -> None:
        """To the index. After it failed once, the index lacks what it was not given: then everything is written."""
        index, state = self.context.index, self.state
        known = "" if whole else self._epoch
        saved = index.save(self.directory, state.row(), changed, gone, every=state.snapshot.messages, epoch=known)
        self._epoch = index.epoch if saved else ""

    def remember_sizes(self, found: Mapping[int, tuple[str, int]]) -> None:
        """UID -> file and size, of messages whose size became known; no client sees a change.

        Whatever else is known of them may have changed while they were read.
        """
        with LANE:
            state = self.state
            sized = {
                int(m.uid): Message(
                    m.uid, m.file, m.flags, m.keywords, m.modseq, m.internaldate, m.size, found[m.uid][1], m.savedate
                )
                for m in states.select(state.snapshot.messages, found)
                if m.file == found[m.uid][0]
            }
            messages = states.replaced(state.snapshot.messages, sized, (), ())
            self._state = replace(state, snapshot=replace(state.snapshot, messages=messages), rev=state.rev + 1)
        self._save(list(sized.values()), [], False)
        self._seen = self.context.shared.counters.advance(self._slot)

    def trim(self) -> None:
        """Tidy up the files' bookkeeping when it is time."""
        self.files.trim(self.state.snapshot.messages)

    def define_keywords(self, wanted: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
        """Give new keywords a letter while there are any. Returns wanted -> spelling kept here, and the whole table.

        StoreError LIMIT when the mailbox has too many. RFC 9051 section 2.3.2: keywords are case-insensitive.
        """
        words = list(self.state.snapshot.keywords)
        known = {w.lower(): w for w in words if w}
        spelling = {}
        for word in wanted:
            kept = known.get(word.lower())
            if kept is None:
                if len(known) >= self.context.max_keywords:
                    raise StoreError(Kind.LIMIT, "the mailbox has too many keywords")
                kept = known[word.lower()] = word
                if "" in words:
                    words[words.index("")] = word
                else:
                    words.append(word)
            spelling[word] = kept
        table = tuple(words)
        if table != self.state.snapshot.keywords:
            self.files.define_keywords(table)
        return spelling, table
