"""The mbox format as the store asks for it: one file, whose messages the index remembers by where they stand."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mailserver.store.content import Content
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.contract import Fingerprint, Found, Placed, Rewritten, Wanted
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.formats.mbox import headers, place
from mailserver.store.formats.mbox.addition import Addition
from mailserver.store.formats.mbox.entry import Box, Entry, Marks
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.formats.mbox.pop import MboxPop
from mailserver.store.lane import LANE
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.numbers import ModSeq, Uid, UidValidity
from mailserver.store.model.words import keyword_set
from mailserver.store.source import Source

# when the file grew, flags of older messages may have been changed as well; of so many the headers are read again, of
# more when the file changes in another way
_VERIFIED = 20_000


class MboxFiles:
    """``spool`` is the directory in whose ``tmp`` messages wait for their place in the file.

    See `mailserver.store.formats.contract.Files` for the methods. Everything here may read or write much: the lane is
    left meanwhile.
    """

    format = "mbox"
    moves_away = False

    def __init__(self, folder: MboxFolder, lock_path: str, spool: str, new_uidvalidity: Callable[[], int]) -> None:
        self.path = folder.path
        self.lock_path = lock_path
        self.watched: tuple[str, ...] = (folder.path,)
        self.pop = MboxPop()
        self._folder = folder
        self._spool = spool
        self._new_uidvalidity = new_uidvalidity
        self._box: Box | None = None
        self._said: tuple[Snapshot, Fingerprint] | None = None  # what the index said: made a box of when it is needed

    def fingerprint(self) -> Fingerprint:
        """One call; with the notes of the file as we know it, if this is still how it is."""
        now = self._folder.fingerprint()
        box = self._box
        notes = (place.dump_box(box),) if box is not None and box.fingerprint == now else ()
        return Fingerprint((now.mtime,), tuple(now), notes=notes)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """The locks that procmail, mutt and Dovecot know."""
        with contextlib.ExitStack() as stack:
            with LANE.aside():
                stack.enter_context(self._folder.hold())
            try:
                yield
            finally:
                with LANE.aside():
                    stack.close()

    # -- knowledge

    @property
    def uidnext(self) -> int:
        """As the file has it."""
        return self._box.uidnext if self._box is not None else 1

    @property
    def object_id(self) -> str:
        """No mbox has a name of its own: made from its UIDVALIDITY and the file's identity."""
        box = self._known()
        validity = box.base.uidvalidity if box is not None and box.base is not None else 0
        return hashlib.blake2b(f"{validity}.{os.stat(self.path).st_ino}".encode(), digest_size=16).hexdigest()

    def recall(self, snapshot: Snapshot, fingerprint: Fingerprint | None) -> bool:
        """Begin with what the index remembers: an unchanged file is not read."""
        if snapshot.messages and "/" in snapshot.messages[0].file:
            return False  # it was a Maildir then
        self._box, self._said = None, (snapshot, fingerprint) if fingerprint is not None else None
        return self.follow(snapshot)

    def begin(self) -> Snapshot:
        """Begin with the file alone; it gets a UIDVALIDITY when it has none."""
        self._box = self._said = None
        box = self._load()
        validity = box.base.uidvalidity if box.base is not None else self._new_uidvalidity()
        self._box = box = self._assigned(box, validity, 1, ())
        words = box.base.keywords if box.base is not None else ()
        return Snapshot(UidValidity(validity), 1, ModSeq(1), 0, [], words)

    def follow(self, snapshot: Snapshot) -> bool:
        """Whether the file is still of this UIDVALIDITY, and its UIDs mean what they meant."""
        before = self._known()
        box = self._load()
        if box.base is not None and box.base.uidvalidity != snapshot.uidvalidity:
            return False
        if before is None or before is box:
            return True
        meant = {entry.uid: entry.identity for entry in before.entries}
        return all(meant.get(entry.uid, entry.identity) == entry.identity for entry in box.entries if entry.uid)

    def settle(self, snapshot: Snapshot, fingerprint: Fingerprint | None) -> None:
        """Another process has read the file."""
        if fingerprint is not None:
            self._box, self._said = None, (snapshot, fingerprint)

    def committed(self, fingerprint: Fingerprint) -> None:
        """Nothing: the box is what we know."""

    def trim(self, messages: Sequence[Message]) -> None:
        """Nothing: there are no other books."""

    def _known(self) -> Box | None:
        if self._box is None and self._said is not None:
            snapshot, fingerprint = self._said
            self._box, self._said = _recalled(snapshot, fingerprint), None
        return self._box

    def _load(self, *, verify: bool = False) -> Box:
        with LANE.aside():
            self._box = box = self._folder.load(self._known(), verify=verify)
        return box

    def _assigned(self, box: Box, validity: int, uidnext: int, words: Sequence[str]) -> Box:
        if box.base is not None and not box.unwritten:
            return box
        with LANE.aside():
            return self._folder.assign(box, validity, uidnext, words)

    # -- what others did

    def examine(self, old: Snapshot, fingerprint: Fingerprint, modseq: ModSeq, *, cold: bool) -> Found:
        """Read what is new in the file."""
        box = self._load(verify=len(old.messages) <= _VERIFIED)
        self._box = box = self._assigned(box, old.uidvalidity, old.uidnext, old.keywords)
        words = box.base.keywords if box.base is not None else old.keywords
        found = Found(_with(old.keywords, words), first_recent=_unclaimed(old, box))
        known = {int(m.uid): m for m in old.messages}
        for entry in box.entries:
            assert entry.uid is not None
            m = known.pop(entry.uid, None)
            if m is None:
                found.added.append(_message(entry, modseq, int(time.time())))
            elif (entry.marks.flags, entry.marks.keywords) != (m.flags, m.keywords):
                found.changed.append(_message(entry, modseq, m.savedate))
            elif m.file != place.dump(entry):
                found.changed.append(_message(entry, m.modseq, m.savedate))
        found.gone = list(known.values())
        return found

    # -- change

    def define_keywords(self, table: tuple[str, ...]) -> None:
        """Nothing: they are written with the first message that has them."""

    def place(self, sources: Sequence[Source], table: tuple[str, ...], modseq: ModSeq, *, keep: bool) -> Placed:
        """Write them at the end, on the disk; then, unless ``keep``, the files that they were are removed."""
        box = self._load()
        assert box.base is not None, "examined first"
        now = int(time.time())
        with contextlib.ExitStack() as opened, LANE.aside():
            additions = [
                Addition(opened.enter_context(s.open()), Marks(s.flags, s.keywords), s.date, s.uid, _unique_id(s))
                for s in sources
            ]
            with self._believing():
                self._box = after = self._folder.append(box, additions)
            if not keep:
                for source in sources:
                    with contextlib.suppress(OSError):  # it is swept away one day
                        os.unlink(source.path)
        first = len(after.entries) - len(sources)
        added = [_message(entry, modseq, now) for entry in after.entries[first:]]
        return Placed(added, _moved(zip(box.entries, after.entries, strict=False)))  # when the base wanted more room

    def enlist(self, promised: Mapping[str, tuple[int, str]], uidnext: int) -> None:
        """A message has its UID when it is in the file; but the file promises the UIDs before."""
        uids = [uid for uid, _ in promised.values() if uid]
        if uids and uidnext <= min(uids):
            box = self._load()
            with LANE.aside():
                self._box = self._folder.give_back(box, uids)

    def renumber(self, uidvalidity: int, uidnext: int, messages: Sequence[Message]) -> None:
        """Write another base."""
        box = self._load()
        with LANE.aside():
            self._folder.rebase(box, uidvalidity, uidnext)

    def reflag(self, wanted: Sequence[Wanted], table: tuple[str, ...], modseq: ModSeq) -> Rewritten:
        """Change header fields."""
        marks = {int(w.message.uid): (w.flags, w.keywords) for w in wanted}
        done = self._rewrite(
            lambda box: self._folder.set_flags(
                box, {e.uid: Marks(*marks[e.uid], e.marks.recent) for e in box.entries if e.uid in marks if e.uid}
            )
        )
        now = {e.uid: e for e in self._loaded.entries}
        for w in wanted:
            entry = now.get(w.message.uid)
            if entry is None:
                done.missed.append(w.message.uid)
                continue
            done.moved.pop(int(w.message.uid), None)
            m, file = w.message, place.dump(entry)
            done.changed.append(
                Message(m.uid, file, w.flags, w.keywords, modseq, m.internaldate, m.size, m.vsize, m.savedate)
            )
        return done

    def claim(self, messages: Sequence[Message]) -> Rewritten:
        """Write that they are not recent any more."""
        uids = {int(m.uid) for m in messages}
        return self._rewrite(
            lambda box: self._folder.set_flags(
                box, {e.uid: e.marks._replace(recent=False) for e in box.entries if e.uid in uids if e.uid}
            )
        )

    def fresh(self, snapshot: Snapshot) -> list[Message]:
        """Those whose header does not say that they are old."""
        return [m for m in snapshot.messages if m.file.endswith("r")]

    def remove(self, messages: Sequence[Message]) -> Rewritten:
        """Take them out of the file."""
        uids = frozenset(int(m.uid) for m in messages)
        return self._rewrite(lambda box: self._folder.expunge(box, uids))

    def _rewrite(self, change: Callable[[Box], Box]) -> Rewritten:
        """Change the file; messages stand elsewhere afterwards."""
        before = self._load()
        with LANE.aside(), self._believing():
            self._box = after = change(self._loaded)
        known = {entry.uid: entry for entry in before.entries}
        return Rewritten(moved=_moved((known.get(entry.uid), entry) for entry in after.entries))

    @contextlib.contextmanager
    def _believing(self) -> Iterator[None]:
        """After an error the file is read again, whatever was believed of it."""
        try:
            yield
        except StoreError:
            self._box = self._said = None
            raise

    @property
    def _loaded(self) -> Box:
        assert self._box is not None, "loaded first"
        return self._box

    def sync(self, messages: Sequence[Message], *, listed: bool) -> None:
        """Nothing: it was done before the lock was given back."""

    # -- octets

    def receive(self) -> Incoming:
        """Into the spool, durable there: it may be linked into a Maildir too."""
        return Incoming(self._spool, sync=self._folder.sync)

    def open(self, message: Message) -> Content:
        """A copy; FileNotFoundError when something else stands there now."""
        with LANE.aside():
            try:
                return self._folder.open(place.of_message(message))
            except StoreError as error:
                if error.kind is Kind.TEMPORARY:
                    raise FileNotFoundError(2, "rewritten", self.path) from error
                raise

    def read_many(self, messages: Sequence[Message]) -> list[bytes | None]:
        """Not quicker than one by one."""
        return [None] * len(messages)

    def source(self, message: Message) -> Source:
        """A copy in the spool."""
        incoming = self.receive()
        try:
            with self.open(message) as content:
                for chunk in content.chunks():
                    incoming.write(chunk)
            incoming.finish(message.internaldate)
        except BaseException:
            incoming.discard()
            raise
        m = message
        return Source(incoming.path, incoming.base, m.flags, m.keywords, m.internaldate, m.vsize, m.vsize, loose=True)


def _moved(pairs: Iterable[tuple[Entry | None, Entry]]) -> dict[int, str]:
    """Of messages as they were and are: UID and place of those that stand elsewhere, or whose headers were written."""
    return {
        new.uid: place.dump(new)
        for old, new in pairs
        if new is not old and new.uid is not None and (old is None or old._replace(next=new.next) != new)
    }


def _with(known: tuple[str, ...], words: Sequence[str]) -> tuple[str, ...]:
    """The keywords known so far, and those that others brought."""
    lowered = {word.lower() for word in known}
    return (*known, *(word for word in words if word.lower() not in lowered))


def _unclaimed(old: Snapshot, box: Box) -> int:
    """From which UID on messages are recent: whatever is marked old has been shown to somebody."""
    shown = [e.uid for e in box.entries if e.uid is not None and not e.marks.recent]
    first = max(old.first_recent, shown[-1] + 1 if shown else 0)
    if first:
        return first
    return min([e.uid for e in box.entries if e.uid is not None], default=box.uidnext)


def _unique_id(source: Source) -> str:
    """One that no field can hold is lost; `mailserver.store.conversion.lost` tells before."""
    return source.uidl if headers.can_be_unique_id(source.uidl) else ""


def _message(entry: Entry, modseq: ModSeq, savedate: int) -> Message:
    assert entry.uid is not None
    words = keyword_set(" ".join(sorted(entry.marks.keywords)))
    size, file = entry.size, place.dump(entry)
    return Message(Uid(entry.uid), file, entry.marks.flags, words, modseq, entry.date, size, size, savedate)


def _recalled(snapshot: Snapshot, fingerprint: Fingerprint) -> Box | None:
    """The file as the index has it; None when the index does not know enough."""
    return place.undump_box(fingerprint.notes[0], snapshot.messages) if len(fingerprint.notes) == 1 else None
