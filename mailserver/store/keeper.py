"""Keeps what a process knows of one Maildir folder in step with the files, the index and the other processes.

All methods but ``current`` want the folder's lock. The order of belief: files first (names, dovecot-uidlist,
dovecot-keywords), then the index, then memory. ``load`` brings memory up to date, ``commit`` writes a change of our own
to the index and publishes it. The files themselves are changed by ``Mailbox`` in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mailserver.ops import log as logging
from mailserver.store import state as states
from mailserver.store.changes import Subscribers
from mailserver.store.context import Context
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir import filename, keywords, uidlist
from mailserver.store.formats.maildir.folder import UNKNOWN, Fingerprint, MaildirFolder
from mailserver.store.formats.maildir.uidlist import UidList
from mailserver.store.index.db import Changes, keyword_set
from mailserver.store.lane import LANE
from mailserver.store.locks import FileLock
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.numbers import MAX_UID, ModSeq, Uid, UidValidity
from mailserver.store.reconcile import compare
from mailserver.store.state import State

_log = logging.get("store")
_LETTERS = len(filename.KEYWORD_LETTERS)
_REST_NS = 1_000_000_000  # between two looks for changes that ours may hide


class Keeper:
    """One per folder and process."""

    def __init__(self, context: Context, directory: str, folder: MaildirFolder) -> None:
        """``directory`` is the folder's name in the index."""
        self.context = context
        self.directory = directory
        self.folder = folder
        self.lock = FileLock(folder.lock_path)
        self.subscribers = Subscribers()
        self._slot = context.shared.counters.slot(folder.path)
        self._seen = -1
        self._looked = 0.0
        self._state: State | None = None
        self._epoch = ""
        self._uidlist: UidList | None = None
        self._keywords_time = -1
        self._inode = 0
        self.replaced = False  # another folder stands there under the old name
        self._suspect = False  # look at the directories at the next load
        self._scan_seconds = 0.0  # how long the last look took
        self.generation = 0  # another number: a UID may mean another message than before

    def is_another(self, inode: int) -> bool:
        """Whether the folder with this inode of ``cur`` is not the one that is kept here, though its name is."""
        return self._inode not in (0, inode)

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
        fingerprint = self.folder.fingerprint()
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
        fingerprint = self.folder.fingerprint()
        return fingerprint != state.fingerprint or self._unsure(fingerprint, state)

    def look(self) -> None:
        """Somebody may have changed the directories: if so, tell every process and wake the sessions here."""
        state = self._state
        if state is None or self.context.shared.counters.read(self._slot) != self._seen:
            self.subscribers.wake()
            return
        fingerprint = self.folder.fingerprint()
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

    @property
    def state(self) -> State:
        """What ``load`` left."""
        assert self._state is not None
        return self._state

    @property
    def uidlist(self) -> UidList:
        """The list of UIDs as far as this process needs it: header, and lines read since the last reconciliation."""
        assert self._uidlist is not None
        return self._uidlist

    def load(self, *, look: bool = False) -> State:
        """Bring memory up to date; ``look`` also where times alone would not show a change. Under the lock.

        StoreError NOT_FOUND when another folder stands there under the old name.
        """
        tick = self.context.shared.counters.read(self._slot)
        fingerprint = self.folder.fingerprint()
        if self.is_another(fingerprint.inode):
            self.replaced = True
            raise StoreError(Kind.NOT_FOUND, "the mailbox was replaced by another one")
        self._inode = fingerprint.inode
        if self._state is None:
            self._first()
            fingerprint = self.folder.fingerprint()
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
        listed = self._read_uidlist()
        stored = self.context.index.load(self.directory)
        self._epoch = self.context.index.epoch
        if stored is not None and (listed is None or listed.uidvalidity == stored.row.uidvalidity):
            self._state = states.from_row(stored.row, stored.messages)
            self._uidlist = listed
            if listed is None:
                self._restore_uidlist()
            elif self._contradicts(listed):
                self._begin(listed)
            if self.uidlist.next_uid < self.state.snapshot.uidnext:
                self.uidlist.next_uid = self.state.snapshot.uidnext
        else:
            self._begin(listed)

    def _begin(self, listed: UidList | None) -> None:
        """Start from the files alone."""
        self.generation += 1
        if listed is None:
            listed = UidList(self.context.new_uidvalidity())
            uidlist.write(self.folder.uidlist_path, listed, {}, sync=self.context.sync)
        self._uidlist = listed
        previous = self._state.snapshot.highestmodseq if self._state else 0
        rev = self._state.rev if self._state else time.time_ns() // 1000
        snapshot = Snapshot(
            UidValidity(listed.uidvalidity),
            1,
            ModSeq(max(previous, 1)),
            0,
            [],
            keywords.read(self.folder.keywords_path),
        )
        self._state = State(snapshot, rev, None, 0)

    def _restore_uidlist(self) -> None:
        """The list was removed, but the index still knows: nobody needs to download anything again."""
        snapshot = self.state.snapshot
        self._uidlist = UidList(snapshot.uidvalidity, snapshot.uidnext)
        live = {filename.base_of(m.file): uidlist.Entry(m.uid) for m in snapshot.messages}
        uidlist.write(self.folder.uidlist_path, self._uidlist, live, sync=self.context.sync)
        _log.warning("uidlist-restored", path=self.folder.uidlist_path, messages=len(live))

    def _contradicts(self, listed: UidList) -> bool:
        """Whether the list gives a message another UID than we know: then only the list counts."""
        entries = listed.entries
        for m in self.state.snapshot.messages:
            entry = entries.get(filename.base_of(m.file))
            if entry is not None and entry.uid != m.uid:
                return True
        return False

    def _read_uidlist(self) -> UidList | None:
        path = self.folder.uidlist_path
        try:
            return uidlist.read(path)
        except StoreError as error:
            aside = f"{path}.corrupt-{time.time_ns()}"
            os.rename(path, aside)
            _log.error("uidlist-corrupt", path=path, cause=error.text, kept_as=aside)
            return None

    def _follow_index(self) -> None:
        """Take over what other processes wrote to the index."""
        index = self.context.index
        changes = index.changes(self.directory, self.state.rev)
        if changes is None:
            return  # the index is gone: the fingerprint will tell what the files say
        if index.epoch != self._epoch or changes.row.uidvalidity != self.state.snapshot.uidvalidity:
            self._adopt_whole(index.load(self.directory))
        elif changes.row.rev > self.state.rev:
            self._adopt(changes)

    def _adopt(self, changes: Changes) -> None:
        old = self.state.snapshot.messages
        last = old[-1].uid if old else 0
        changed = {int(m.uid): m for m in changes.messages if m.uid <= last}
        added = [m for m in changes.messages if m.uid > last]
        self._settle(changes, states.replaced(old, changed, changes.expunged, added))

    def _settle(self, changes: Changes, messages: Sequence[Message]) -> None:
        """Take the index's word for the folder, and for the list of UIDs as far as the index has followed it."""
        state = self._state = states.from_row(changes.row, messages)
        listed = self.uidlist
        listed.next_uid = max(listed.next_uid, state.snapshot.uidnext)
        listed.lines += max(0, len(messages) - listed.lines)
        if state.fingerprint is not None:
            listed.signature = state.fingerprint.uidlist

    def _adopt_whole(self, changes: Changes | None) -> None:
        """The index was made anew by another process: keep our objects for what did not change."""
        if changes is None or changes.row.rev < self.state.rev:
            self._epoch = ""  # it lacks something that we know: the next commit writes everything
            return
        self._epoch = self.context.index.epoch
        self.generation += changes.row.uidvalidity != self.state.snapshot.uidvalidity
        ours = {m.uid: m for m in self.state.snapshot.messages}
        messages = []
        for m in changes.messages:
            mine = ours.get(m.uid)
            same = mine is not None and (mine.file, mine.modseq, mine.flags, mine.keywords) == (
                m.file,
                m.modseq,
                m.flags,
                m.keywords,
            )
            messages.append(mine if mine is not None and same else m)
        self._settle(changes, messages)

    # -- reconciling

    def reconcile(self, fingerprint: Fingerprint) -> None:
        """Look at the directories, take over what others did, give arrived messages their UIDs, and commit."""
        scanned = time.time_ns()
        cold = self.state.fingerprint is None
        listed = self._follow_uidlist()
        words, renamed_words = self._read_keywords(fingerprint)
        old = self.state.snapshot
        with LANE.aside():
            difference = compare(self.folder, old.messages)
        self._scan_seconds = (time.time_ns() - scanned) / 1e9
        modseq = states.next_modseq(old.highestmodseq)
        changed = {m.uid: self._renamed(m, file, words, modseq) for m, file in difference.renamed}
        if renamed_words:
            gone = {m.uid for m in difference.vanished}
            for m in old.messages:
                if m.uid not in changed and m.uid not in gone:
                    again = self._renamed(m, m.file, words, modseq)
                    if again is not m:
                        changed[m.uid] = again
        added = self._arrived(listed, difference.arrived, words, modseq)
        first_recent = old.first_recent
        if cold and not first_recent:
            fresh = [m.uid for m in added if m.file.startswith("new/")]
            first_recent = min(fresh, default=listed.next_uid)
        self._state = replace(self.state, scanned=scanned)
        listed.entries.clear()
        moved = bool(added or difference.vanished or any(m.modseq == modseq for m in changed.values()))
        self.commit(
            changed=list(changed.values()),
            gone=[m.uid for m in difference.vanished],
            added=added,
            keywords_known=words,
            first_recent=first_recent,
            modseq=modseq if moved or cold else old.highestmodseq,
            fingerprint=replace(self.folder.fingerprint(), cur=fingerprint.cur, new=fingerprint.new),
            whole=cold,
        )

    def _follow_uidlist(self) -> UidList:
        assert self._uidlist is not None
        try:
            listed = uidlist.follow(self.folder.uidlist_path, self._uidlist)
        except StoreError:
            listed = self._read_uidlist()
        if listed is None:
            self._restore_uidlist()
            return self.uidlist
        if listed is not self._uidlist:
            if listed.uidvalidity != self.state.snapshot.uidvalidity or self._contradicts(listed):
                _log.warning("uidlist-replaced", path=self.folder.uidlist_path)
                self._begin(listed)
            listed.next_uid = max(listed.next_uid, self.state.snapshot.uidnext)
            self._uidlist = listed
        return listed

    def _read_keywords(self, fingerprint: Fingerprint) -> tuple[tuple[str, ...], bool]:
        """The keyword table, and whether letters mean something else than before."""
        old = self.state.snapshot.keywords
        if fingerprint.keywords == self._keywords_time:
            return old, False
        self._keywords_time = fingerprint.keywords
        lettered = keywords.read(self.folder.keywords_path)[:_LETTERS]
        words = lettered + (("",) * (_LETTERS - len(lettered)) + old[_LETTERS:] if old[_LETTERS:] else ())
        return words, words != old

    def _renamed(self, m: Message, file: str, words: tuple[str, ...], modseq: ModSeq) -> Message:
        """The message under another file name or another keyword table; itself when nothing is different."""
        parsed = filename.parse(file)
        named = {words[p] for p in _positions(parsed.letters) if p < len(words) and words[p]}
        unlettered = set(words[_LETTERS:])
        kept = frozenset(named | (m.keywords & unlettered)) if m.keywords or named else m.keywords
        flags = parsed.flags if file.startswith("cur/") else 0
        if flags == m.flags and kept == m.keywords:
            if file == m.file:
                return m
            modseq, kept = m.modseq, m.keywords
        else:
            kept = keyword_set(" ".join(sorted(kept)))
        return Message(m.uid, file, flags, kept, modseq, m.internaldate, m.size, m.vsize, m.savedate)

    def _arrived(self, listed: UidList, files: list[str], words: tuple[str, ...], modseq: ModSeq) -> list[Message]:
        known_next = self.state.snapshot.uidnext
        placed: list[tuple[int, str, str]] = []
        unplaced: list[str] = []
        for file in files:
            entry = listed.entries.get(filename.base_of(file))
            if entry is not None and entry.uid >= known_next:
                placed.append((entry.uid, file, entry.value("W") or ""))
            else:
                unplaced.append(file)
        if unplaced:
            unplaced.sort(key=lambda f: filename.order(filename.base_of(f)))
            first = listed.next_uid
            if first + len(unplaced) > MAX_UID:
                raise StoreError(Kind.LIMIT, "the mailbox has used up its UIDs")
            pairs = [(filename.base_of(f), uidlist.Entry(first + i)) for i, f in enumerate(unplaced)]
            uidlist.append(self.folder.uidlist_path, listed, pairs)
            self.folder.sync_uidlist()
            placed += [(first + i, f, "") for i, f in enumerate(unplaced)]
        placed.sort()
        found = [self._fresh(Uid(uid), file, vsize, words, modseq) for uid, file, vsize in placed]
        return [m for m in found if m is not None]

    def _fresh(self, uid: Uid, file: str, vsize: str, words: tuple[str, ...], modseq: ModSeq) -> Message | None:
        facts = self.folder.facts(file)
        if facts is None:
            return None
        size, virtual = filename.sizes(file)
        if size not in (-1, facts.size):  # somebody edited the file: its name lies
            virtual = -1
        elif virtual < 0 and vsize.isdigit():
            virtual = int(vsize)
        blank = Message(uid, file, 0, frozenset(), modseq, facts.mtime, facts.size, virtual, int(time.time()))
        return self._renamed(blank, file, words, modseq)

    # -- writing

    def commit(
        self,
        *,
        changed: Sequence[Message] = (),
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
        words = old.keywords if keywords_known is None else keywords_known
        highest = old.highestmodseq if modseq is None else modseq
        messages = states.replaced(old.messages, {int(m.uid): m for m in changed}, gone, added)
        snapshot = Snapshot(
            old.uidvalidity,
            self.uidlist.next_uid,
            highest,
            old.first_recent if first_recent is None else first_recent,
            messages,
            words,
        )
        if fingerprint is None:
            try:
                fingerprint = self.folder.fingerprint()
            except OSError:  # what is done is done and must be known: the next look will find out
                fingerprint = UNKNOWN
            self._keywords_time = fingerprint.keywords
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

    def remember_sizes(self, sized: Sequence[Message]) -> None:
        """Replace messages whose size became known; no client sees a change."""
        with LANE:
            state = self.state
            current = {m.uid: m.file for m in state.snapshot.messages} if sized else {}
            still = {int(m.uid): m for m in sized if current.get(m.uid) == m.file}
            messages = states.replaced(state.snapshot.messages, still, (), ())
            self._state = replace(state, snapshot=replace(state.snapshot, messages=messages), rev=state.rev + 1)
        self._save(list(still.values()), [], False)
        self._seen = self.context.shared.counters.advance(self._slot)

    def trim_uidlist(self) -> None:
        """Rewrite the list when most of its lines belong to messages that are gone; the old one does as well."""
        listed, messages = self.uidlist, self.state.snapshot.messages
        if listed.lines - len(messages) < max(100, len(messages)):
            return
        try:
            self._trim(listed, messages)
        except (OSError, StoreError) as error:
            _log.warning("uidlist-not-trimmed", path=self.folder.uidlist_path, cause=str(error))

    def _trim(self, listed: UidList, messages: Sequence[Message]) -> None:
        whole = uidlist.read(self.folder.uidlist_path)
        if whole is None or whole.uidvalidity != listed.uidvalidity:
            return
        whole.next_uid = max(whole.next_uid, listed.next_uid)
        bases = {filename.base_of(m.file) for m in messages}
        live = {base: entry for base, entry in whole.entries.items() if base in bases}
        uidlist.write(self.folder.uidlist_path, whole, live, sync=self.context.sync)
        whole.entries.clear()
        self._uidlist = whole

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
        if table[:_LETTERS] != self.state.snapshot.keywords[:_LETTERS]:
            keywords.write(self.folder.keywords_path, table, sync=self.context.sync)
        return spelling, table


def _positions(letters: str) -> list[int]:
    return [ord(letter) - 97 for letter in letters]


def suffix_for(flags: int, words: frozenset[str], table: tuple[str, ...], file: str = "cur/") -> str:
    """The part of a file name from ``:`` on; letters of unknown meaning in ``file`` stay."""
    positions = tuple([i for i, word in enumerate(table) if word in words]) if words else ()
    return filename.suffix(flags, positions, filename.parse_info(file.partition(":")[2])[2])
