"""The Maildir format as the store asks for it: files by name, UIDs in ``dovecot-uidlist``, keywords by letter."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence

from mailserver.ops import log as logging
from mailserver.store.content import MessageFile
from mailserver.store.errors import StoreError
from mailserver.store.formats.contract import Fingerprint, Found, Placed, Rewritten, Wanted
from mailserver.store.formats.maildir import courier, filename, keywords
from mailserver.store.formats.maildir.compare import Difference, compare
from mailserver.store.formats.maildir.folder import MaildirFolder
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.formats.maildir.listing import Listing
from mailserver.store.formats.maildir.poplist import PopList
from mailserver.store.formats.maildir.uidlist import Entry
from mailserver.store.lane import LANE
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.numbers import ModSeq, Uid
from mailserver.store.model.words import keyword_set
from mailserver.store.source import Source, uids_for

_log = logging.get("store")
_LETTERS = len(filename.KEYWORD_LETTERS)
_PARTS = ("cur/", "new/")
_BATCH = 100  # file operations at a time: coarse enough to be quick, short enough for the others in the lane


class MaildirFiles:
    """``listing`` has the UIDs; see `mailserver.store.formats.contract.Files` for the methods."""

    format = "maildir"
    moves_away = True

    def __init__(self, folder: MaildirFolder, listing: Listing) -> None:
        self.folder = folder
        self.path = folder.path
        self.lock_path = folder.lock_path
        self.pop = PopList(folder.path, folder.uidlist_path, sync=folder.sync)
        self.watched: tuple[str, ...] = (folder.cur, folder.new)
        self._listing = listing
        self._keywords_time = -1
        self._unlettered: dict[
            str, frozenset[str]
        ] = {}  # base -> keywords for which a look at the files finds no letter

    def fingerprint(self) -> Fingerprint:
        """Times of the directories and of the keywords, identity of the list."""
        return self.folder.fingerprint()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Nothing: a Maildir needs no locks."""
        yield

    # -- knowledge

    @property
    def uidnext(self) -> int:
        """As the list has it."""
        return self._listing.known.next_uid

    @property
    def object_id(self) -> str:
        """The GUID in the header of the list."""
        return self._listing.known.guid

    def recall(self, snapshot: Snapshot, fingerprint: Fingerprint | None) -> bool:
        """Begin with what the index remembers; the list, if it is missing, is restored from it."""
        if snapshot.messages and snapshot.messages[0].file[:4] not in _PARTS:
            return False  # it was an mbox then
        return self._listing.recall(snapshot)

    def begin(self) -> Snapshot:
        """Begin with the list; when there is none it is made, and what Courier left is taken over."""
        self._keywords_time = -1
        if os.path.exists(self.folder.uidlist_path):
            return self._listing.begin(keywords.read(self.folder.keywords_path))
        words, self._unlettered = courier.adopt_keywords(self.folder)
        return self._listing.begin(words)

    def follow(self, snapshot: Snapshot) -> bool:
        """Read what was appended to the list, or all of it when it is another file."""
        return self._listing.follow(snapshot)

    def settle(self, snapshot: Snapshot, fingerprint: Fingerprint | None) -> None:
        """Another process has read the list as far as this."""
        self._listing.settle(snapshot, fingerprint.others[0] if fingerprint is not None else None)

    def committed(self, fingerprint: Fingerprint) -> None:
        """Our own change of the keywords is no news."""
        self._keywords_time = fingerprint.others[1] if fingerprint.others else -1

    def trim(self, messages: Sequence[Message]) -> None:
        """Rewrite the list when most of its lines belong to messages that are gone; the old one does as well."""
        try:
            self._listing.trim(messages)
        except (OSError, StoreError) as error:
            _log.warning("uidlist-not-trimmed", path=self.folder.uidlist_path, cause=str(error))

    # -- what others did

    def examine(self, old: Snapshot, fingerprint: Fingerprint, modseq: ModSeq, *, cold: bool) -> Found:
        """List the directories."""
        words, meant_else = self._read_keywords(old.keywords, fingerprint)
        with LANE.aside():
            difference = compare(self.folder, old.messages)
        changed = {int(m.uid): _renamed(m, file, words, modseq) for m, file in difference.renamed}
        if meant_else:
            gone = {m.uid for m in difference.vanished}
            for m in old.messages:
                if m.uid not in changed and m.uid not in gone:
                    again = _renamed(m, m.file, words, modseq)
                    if again is not m:
                        changed[m.uid] = again
        added = self._arrived(difference.arrived, old.uidnext, words, modseq)
        self._unlettered = {}
        recent = _unclaimed(old, difference, added, self.uidnext)
        return Found(words, list(changed.values()), difference.vanished, added, recent)

    def _read_keywords(self, known: tuple[str, ...], fingerprint: Fingerprint) -> tuple[tuple[str, ...], bool]:
        """The keyword table, and whether letters mean something else than before."""
        written = fingerprint.others[1]
        if written == self._keywords_time:
            return known, False
        self._keywords_time = written
        lettered = keywords.read(self.folder.keywords_path)[:_LETTERS]
        words = lettered + (("",) * (_LETTERS - len(lettered)) + known[_LETTERS:] if known[_LETTERS:] else ())
        return words, words != known

    def _arrived(self, files: list[str], known: int, words: tuple[str, ...], modseq: ModSeq) -> list[Message]:
        placed, unplaced = self._listing.find(files, known)
        if unplaced:
            unplaced.sort(key=lambda f: filename.order(filename.base_of(f)))
            first = self._listing.add([filename.base_of(f) for f in unplaced])
            self.folder.sync_uidlist()
            placed += [(first + i, f, "") for i, f in enumerate(unplaced)]
        placed.sort()
        self._listing.forget_entries()
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
        late = self._unlettered.get(filename.base_of(file), frozenset())
        blank = Message(uid, file, 0, late, modseq, facts.mtime, facts.size, virtual, int(time.time()))
        return _renamed(blank, file, words, modseq)

    # -- change

    def define_keywords(self, table: tuple[str, ...]) -> None:
        """Write ``dovecot-keywords``; the 27th keyword and later ones have no letter and live in the index only."""
        keywords.write(self.folder.keywords_path, table, sync=self.folder.sync)

    def place(self, sources: Sequence[Source], table: tuple[str, ...], modseq: ModSeq, *, keep: bool) -> Placed:
        """Name the files, ``keep``: link them, and write their UIDs."""
        now, uids = int(time.time()), uids_for([s.uid for s in sources], self._listing.known.next_uid)
        added: list[Message] = []
        try:
            for i, s in enumerate(sources):
                _let_others_in(i)
                file = self._name(s, table, keep)
                added.append(Message(Uid(uids[i]), file, s.flags, s.keywords, modseq, s.date, s.size, s.vsize, now))
            self._listing.enter(
                [(filename.base_of(m.file), Entry(m.uid, s.fields)) for m, s in zip(added, sources, strict=True)]
            )
        except BaseException:
            self._take_back(sources, added, keep)
            raise
        self._listing.forget_entries()
        return Placed(added)

    def _name(self, source: Source, table: tuple[str, ...], keep: bool) -> str:
        plain = not source.flags and not source.keywords
        file = f"new/{source.base}" if plain else f"cur/{source.base}{_suffix(source.flags, source.keywords, table)}"
        target = f"{self.path}/{file}"
        if keep:
            os.link(source.path, target)
        else:
            os.rename(source.path, target)
        return file

    def _take_back(self, sources: Sequence[Source], added: Sequence[Message], keep: bool) -> None:
        """Undo what was named before an error: all or none."""
        for source, m in zip(sources, added, strict=False):
            with contextlib.suppress(OSError):  # the first error is the one to report
                if keep:
                    os.unlink(f"{self.path}/{m.file}")
                else:
                    os.rename(f"{self.path}/{m.file}", source.path)

    def enlist(self, promised: Mapping[str, tuple[int, str]], uidnext: int) -> None:
        """Write the lines that the files of these bases should have got, unless they got others since."""
        present = {filename.base_of(file) for file in self.folder.list()}
        lines = [(base, Entry(*line)) for base, line in promised.items() if base in present]
        if lines and os.path.exists(self.folder.uidlist_path):
            self._listing.enlist(lines)
            self.folder.sync_uidlist()

    def renumber(self, uidvalidity: int, uidnext: int, messages: Sequence[Message]) -> None:
        """Write another list."""
        self._listing.renumber(uidvalidity, uidnext, messages)

    def reflag(self, wanted: Sequence[Wanted], table: tuple[str, ...], modseq: ModSeq) -> Rewritten:
        """Rename the files."""
        done = Rewritten()
        for i, w in enumerate(wanted):
            _let_others_in(i)
            m = w.message
            file = f"cur/{filename.base_of(m.file)}{_suffix(w.flags, w.keywords, table, m.file)}"
            if self.folder.rename(m.file, file):
                done.changed.append(
                    Message(m.uid, file, w.flags, w.keywords, modseq, m.internaldate, m.size, m.vsize, m.savedate)
                )
            else:
                done.missed.append(m.uid)
        return done

    def claim(self, messages: Sequence[Message]) -> Rewritten:
        """Move files from ``new`` to ``cur``."""
        done = Rewritten()
        for i, m in enumerate(messages):
            _let_others_in(i)
            name = m.file[4:]
            file = "cur/" + (name if ":2," in name else filename.base_of(m.file) + ":2,")
            if self.folder.rename(m.file, file):
                done.changed.append(
                    Message(m.uid, file, m.flags, m.keywords, m.modseq, m.internaldate, m.size, m.vsize, m.savedate)
                )
            else:
                done.missed.append(m.uid)
        return done

    def fresh(self, snapshot: Snapshot) -> list[Message]:
        """Those in ``new``."""
        return [m for m in snapshot.messages if m.file.startswith("new/")]

    def remove(self, messages: Sequence[Message]) -> Rewritten:
        """Unlink the files."""
        done = Rewritten()
        for i, m in enumerate(messages):
            _let_others_in(i)
            if not self.folder.unlink(m.file):
                done.missed.append(m.uid)
        return done

    def sync(self, messages: Sequence[Message], *, listed: bool) -> None:
        """fsync the directories they are in, and the list."""
        for part in sorted({m.file[:3] for m in messages}):
            self.folder.sync_directory(part)
        if listed:
            self.folder.sync_uidlist()

    # -- octets

    def receive(self) -> Incoming:
        """Into ``tmp``."""
        return Incoming(self.path, sync=self.folder.sync)

    def open(self, message: Message) -> MessageFile:
        """By name."""
        fd = os.open(f"{self.path}/{message.file}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return MessageFile(fd, message.vsize)
        except BaseException:
            os.close(fd)
            raise

    def read_many(self, messages: Sequence[Message]) -> list[bytes | None]:
        """Those that are stored as they are served; quicker than one by one."""
        result: list[bytes | None] = []
        with LANE:
            for m in messages:
                data = None
                with contextlib.suppress(OSError):
                    fd = os.open(f"{self.path}/{m.file}", os.O_RDONLY | os.O_CLOEXEC)
                    try:
                        if m.vsize == m.size:
                            data = os.read(fd, m.size + 1)
                    finally:
                        os.close(fd)
                result.append(data if data is not None and len(data) == m.size else None)
        return result

    def source(self, message: Message) -> Source:
        """A file that can be linked or renamed, under a new name."""
        m = message
        sized = f",S={m.size}" + (f",W={m.vsize}" if m.vsize >= 0 else "")
        base = filename.unique() + sized
        return Source(f"{self.path}/{m.file}", base, m.flags, m.keywords, m.internaldate, m.size, m.vsize)


def _renamed(m: Message, file: str, words: tuple[str, ...], modseq: ModSeq) -> Message:
    """The message under another file name or another keyword table; itself when nothing is different."""
    parsed = filename.parse(file)
    named = {words[p] for letter in parsed.letters if (p := ord(letter) - 97) < len(words) and words[p]}
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


def _unclaimed(old: Snapshot, difference: Difference, added: Sequence[Message], uidnext: int) -> int:
    """From which UID on messages are recent: whatever lies in ``cur`` has been shown to somebody."""
    first = old.first_recent
    for m, file in difference.renamed:
        if m.uid >= first and m.file.startswith("new/") and file.startswith("cur/"):
            first = m.uid + 1
    if first >= old.uidnext or not first:
        first = min([m.uid for m in added if m.file.startswith("new/")], default=uidnext)
    return first


def _suffix(flags: int, words: frozenset[str], table: tuple[str, ...], file: str = "cur/") -> str:
    """The part of a file name from ``:`` on; letters of unknown meaning in ``file`` stay."""
    positions = tuple([i for i, word in enumerate(table) if word in words]) if words else ()
    return filename.suffix(flags, positions, filename.parse_info(file.partition(":")[2])[2])


def _let_others_in(done: int) -> None:
    if done and not done % _BATCH:
        LANE.breathe()
