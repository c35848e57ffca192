"""What a process knows of a folder's ``dovecot-uidlist``: header, and lines read since the last look."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from mailserver.ops import log as logging
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir import courier, filename, uidlist
from mailserver.store.formats.maildir.uidlist import Entry, Signature, UidList
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.numbers import MAX_UID, ModSeq, UidValidity
from mailserver.store.source import uids_for

_log = logging.get("store")


class Listing:
    """``new_uidvalidity`` gives one that the account never had."""

    def __init__(self, path: str, new_uidvalidity: Callable[[], int], *, sync: bool) -> None:
        self._path = path
        self._new_uidvalidity = new_uidvalidity
        self._sync = sync
        self._known: UidList | None = None
        self._just_read: UidList | None = None
        self._given = 0  # by ``renumber``: that the list has it is no news

    @property
    def known(self) -> UidList:
        """Header, and lines not looked at yet."""
        assert self._known is not None
        return self._known

    # -- beginning

    def recall(self, snapshot: Snapshot) -> bool:
        """Begin with the index; False when the list says that this is another mailbox, or gives other UIDs."""
        listed = self._read()
        self._just_read = listed
        if listed is None:
            self._restore(snapshot)
            return True
        if listed.uidvalidity != snapshot.uidvalidity or _contradicts(listed, snapshot):
            return False
        self._known = listed
        listed.next_uid = max(listed.next_uid, snapshot.uidnext)
        return True

    def begin(self, words: tuple[str, ...]) -> Snapshot:
        """Begin with the list alone; when there is none it is made, of Courier's if there is that."""
        listed, self._just_read = self._just_read or self._read(), None
        if listed is None:
            listed = courier.read_uids(os.path.dirname(self._path)) or UidList(self._new_uidvalidity())
            if listed.entries:
                _log.info("courier-uids-adopted", path=self._path, messages=len(listed.entries))
            uidlist.write(self._path, listed, dict(listed.entries), sync=self._sync)
        self._known = listed
        return Snapshot(UidValidity(listed.uidvalidity), 1, ModSeq(1), 0, [], words)

    def _restore(self, snapshot: Snapshot) -> None:
        """The list was removed, but the index still knows: nobody needs to download anything again."""
        self._known = UidList(snapshot.uidvalidity, snapshot.uidnext)
        live = {filename.base_of(m.file): Entry(m.uid) for m in snapshot.messages}
        uidlist.write(self._path, self._known, live, sync=self._sync)
        _log.warning("uidlist-restored", path=self._path, messages=len(live))

    def _read(self) -> UidList | None:
        try:
            found = uidlist.read(self._path)
            if found is not None and found.old:
                with contextlib.suppress(OSError):  # a full disk: it can be read as it is
                    uidlist.write(self._path, found, dict(found.entries), sync=self._sync)
            return found
        except StoreError as error:
            aside = f"{self._path}.corrupt-{time.time_ns()}"
            os.rename(self._path, aside)
            _log.error("uidlist-corrupt", path=self._path, cause=error.text, kept_as=aside)
            return None

    # -- following

    def follow(self, snapshot: Snapshot) -> bool:
        """See what others wrote; False when it is another list, which gives other UIDs."""
        known = self.known
        try:
            listed = uidlist.follow(self._path, known)
        except StoreError:
            listed = self._read()
        if listed is None:
            self._restore(snapshot)
            return True
        if listed is known:
            return True
        if listed.uidvalidity != snapshot.uidvalidity or _contradicts(listed, snapshot):
            if listed.uidvalidity != self._given:
                _log.warning("uidlist-replaced", path=self._path)
            self._just_read = listed
            return False
        listed.next_uid = max(listed.next_uid, snapshot.uidnext)
        self._known = listed
        return True

    def settle(self, snapshot: Snapshot, signature: Signature | None) -> None:
        """Another process has followed the list up to this state."""
        known = self.known
        known.next_uid = max(known.next_uid, snapshot.uidnext)
        known.lines += max(0, len(snapshot.messages) - known.lines)
        if signature is not None:
            known.signature = signature

    def forget_entries(self) -> None:
        """What was read has been used."""
        self.known.entries.clear()

    # -- looking up and adding

    def find(self, files: Sequence[str], first: int) -> tuple[list[tuple[int, str, str]], list[str]]:
        """Arrived files with UIDs (from ``first`` on) and virtual sizes as the list has them; those that it lacks."""
        entries = self.known.entries
        placed, unplaced = [], []
        for file in files:
            entry = entries.get(filename.base_of(file))
            if entry is not None and entry.uid >= first:
                placed.append((entry.uid, file, entry.value("W") or ""))
            else:
                unplaced.append(file)
        return placed, unplaced

    def room(self, count: int) -> int:
        """The next UID, if there are so many left; StoreError LIMIT."""
        first = self.known.next_uid
        if first + count > MAX_UID:
            raise StoreError(Kind.LIMIT, "the mailbox has used up its UIDs")
        return first

    def add(self, bases: Sequence[str]) -> int:
        """Give UIDs to messages, on disk; the caller syncs. Returns the first."""
        first = self.room(len(bases))
        self.enter([(base, Entry(first + i)) for i, base in enumerate(bases)])
        return first

    def enter(self, entries: Sequence[tuple[str, Entry]]) -> None:
        """Write lines with ascending UIDs, none below the next one; the caller syncs."""
        uidlist.append(self._path, self.known, entries)

    def enlist(self, promised: Sequence[tuple[str, Entry]]) -> None:
        """Write those of these lines (UID 0: the next one) that are missing and whose UIDs nobody has; ``follow`` will
        find them. Nothing where there is no list yet; the caller syncs."""
        whole = uidlist.read(self._path)
        if whole is None:
            return
        missing = [(base, entry) for base, entry in promised if base not in whole.entries]
        try:
            uids = uids_for([entry.uid for _, entry in missing], whole.next_uid)
        except StoreError:  # somebody else got one of them meanwhile: they will be given others
            return
        uidlist.append(
            self._path,
            whole,
            [(base, Entry(uid, entry.fields)) for uid, (base, entry) in zip(uids, missing, strict=True)],
        )

    def renumber(self, uidvalidity: int, uidnext: int, messages: Sequence[Message]) -> None:
        """Write a list with these numbers, in which the messages keep their UIDs; ``follow`` will find it."""
        whole = uidlist.read(self._path) or UidList(uidvalidity)
        bases = {filename.base_of(m.file): m.uid for m in messages}
        live = {base: whole.entries.get(base, Entry(uid)) for base, uid in bases.items()}
        lowest = max([uidnext, *(uid + 1 for uid in bases.values())])
        whole.next_uid = lowest if whole.uidvalidity != uidvalidity else max(lowest, self.known.next_uid)
        whole.uidvalidity = self._given = uidvalidity
        uidlist.write(self._path, whole, live, sync=self._sync)

    def trim(self, messages: Sequence[Message]) -> None:
        """Rewrite the file when most of its lines belong to messages that are gone."""
        known = self.known
        if known.lines - len(messages) < max(100, len(messages)):
            return
        whole = uidlist.read(self._path)
        if whole is None or whole.uidvalidity != known.uidvalidity:
            return
        whole.next_uid = max(whole.next_uid, known.next_uid)
        bases = {filename.base_of(m.file) for m in messages}
        live = {base: entry for base, entry in whole.entries.items() if base in bases}
        uidlist.write(self._path, whole, live, sync=self._sync)
        whole.entries.clear()
        self._known = whole


def _contradicts(listed: UidList, snapshot: Snapshot) -> bool:
    """Whether the list gives a message another UID than we know: then only the list counts."""
    entries = listed.entries
    for m in snapshot.messages:
        entry = entries.get(filename.base_of(m.file))
        if entry is not None and entry.uid != m.uid:
            return True
    return False
