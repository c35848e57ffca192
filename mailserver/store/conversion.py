"""A mailbox changes its format while it is used: Maildir to mbox, or back.

What it will be is built beside it, under a name that is no mailbox's, while everybody goes on; then, under the locks,
what changed meanwhile is done there too, and the two change places in one system call. Before it the old one counts,
after it the new one; whoever dies leaves at worst something to clear away, and ``mailserver-convert.json`` says what.
Whoever opens the account next clears it away (`recover`).

The INBOX as a Maildir is the account's directory itself and cannot change places with a file. There the moment is the
renaming of ``cur``: with it the INBOX is a Maildir, without it the mbox is looked for.

A program that knows nothing of our locks may deliver into the old Maildir until the very end: what came there and was
never numbered is put into the new one afterwards. Sessions that have the mailbox selected are told that it is gone;
UIDs and UIDVALIDITY are the same when they select it again, so nothing is downloaded.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailserver.ops import log as logging
from mailserver.store.content import MessageFile
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir import filename, keywords, uidlist
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.formats.maildir.syncing import sync_path
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.formats.mbox.headers import can_be_unique_id
from mailserver.store.mailbox import Append, FlagOp, Mailbox
from mailserver.store.model.message import Message
from mailserver.store.model.words import keyword_set
from mailserver.store.portions import portions
from mailserver.store.tree.layout import is_mbox

NAME = "mailserver-convert"
LOCK_NAME = "mailserver-converting.lock"  # and not NAME.lock, which is the dot lock of an mbox of that NAME
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_BATCH, _BATCH_OCTETS = 50, 4 << 20
_BOOKS = (uidlist.NAME, keywords.NAME)
_log = logging.get("store")
Progress = Callable[[int, int], None]  # messages done, of how many


class Lost(NamedTuple):
    """What the other format cannot hold."""

    unique_ids: int  # messages with a POP3 unique-id of another server that no header field can hold
    order: bool  # POP3's order is not that of the UIDs


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies. ``mailbox`` is where the mailbox is found now, or was."""

    root: str
    maildir: str  # where it is when it is a Maildir
    mbox: str  # where it is when it is an mbox: the same place, but for the INBOX
    work: str  # what is built; afterwards, what was
    sync: bool

    @property
    def inbox(self) -> bool:
        """Whether the two have places of their own."""
        return self.maildir != self.mbox

    @property
    def journal(self) -> str:
        """The note."""
        return f"{self.root}/{NAME}.json"

    def is_now(self, format: str) -> bool:
        """Whether the mailbox has this format."""
        if self.inbox:
            return os.path.isdir(f"{self.maildir}/cur") is (format == "maildir")
        return is_mbox(self.mbox) is (format == "mbox")


def near(one: str, other: str) -> bool:
    """Whether a file can be renamed from one directory into the other; the second need not be there. OSError."""
    while not os.path.isdir(other):
        other = os.path.dirname(other)
    return os.stat(one).st_dev == os.stat(other).st_dev


def lost(mailbox: Mailbox, format: str) -> Lost:
    """What a conversion to ``format`` would lose. StoreError."""
    if format != "mbox":
        return Lost(0, False)
    _, messages = mailbox.maildrop()
    uids = [m.message.uid for m in messages]
    return Lost(sum(bool(m.saved) and not can_be_unique_id(m.saved) for m in messages), uids != sorted(uids))


# -- building


def fill(old: Mailbox, new: Mailbox, progress: Progress) -> None:
    """Make ``new``, which is empty, what ``old`` is at this moment. StoreError."""
    snapshot = old.rescan()
    new.renumber(int(snapshot.uidvalidity))
    _copy(old, new, snapshot.messages, progress)


def _copy(old: Mailbox, new: Mailbox, messages: Sequence[Message], progress: Progress) -> None:
    done = 0
    saved = {m.message.uid: m.saved for m in old.files.pop.ordered(messages)}
    for some in portions(messages, lambda m: m.size, octets=_BATCH_OCTETS, most=_BATCH):
        items: list[Append] = []
        try:
            for m in some:
                incoming = new.receive()
                items.append(Append(incoming, m.flags, m.keywords, m.internaldate, int(m.uid), saved.get(m.uid, "")))
                if not _copied(old, m, incoming):
                    items.pop().incoming.discard()
            new.append(items)
        finally:
            for item in items:
                item.incoming.discard()
        done += len(some)
        progress(done, len(messages))


def _copied(old: Mailbox, message: Message, incoming: Incoming) -> bool:
    """False when the message is gone."""
    try:
        with old.open(message) as content:
            for chunk in content.chunks():
                incoming.write(chunk)
    except StoreError as error:
        if error.kind is Kind.EXPUNGED:
            return False
        raise
    return True


def catch_up(old: Mailbox, new: Mailbox) -> None:
    """Do in ``new`` what happened in ``old`` since. Under the locks of both. StoreError."""
    snapshot = old.keeper.load(look=True).snapshot
    there = new.keeper.load(look=True).snapshot
    if there.uidvalidity != snapshot.uidvalidity:
        raise StoreError(Kind.TEMPORARY, "the mailbox was replaced while it was converted")
    now = {m.uid: m for m in snapshot.messages}
    new.expunge([m.uid for m in there.messages if m.uid not in now])
    known = {m.uid for m in there.messages}
    last = max(known, default=0)
    if any(m.uid < last for m in snapshot.messages if m.uid not in known):
        raise StoreError(Kind.TEMPORARY, "the mailbox changed too much while it was converted")
    _copy(old, new, [m for m in snapshot.messages if m.uid not in known], lambda done, of: None)
    changed: dict[tuple[int, frozenset[str]], list[int]] = {}
    for m in new.keeper.load().snapshot.messages:
        wanted = now[m.uid]
        if (m.flags, m.keywords) != (wanted.flags, wanted.keywords):
            changed.setdefault((wanted.flags, wanted.keywords), []).append(int(m.uid))
    for (flags, words), uids in changed.items():
        new.store_flags(uids, FlagOp.REPLACE, flags, words)
    if snapshot.uidnext > new.keeper.load().snapshot.uidnext:
        new.renumber(int(snapshot.uidvalidity), snapshot.uidnext)
    if len(new.keeper.load(look=True).snapshot.messages) != len(now):
        raise StoreError(Kind.TEMPORARY, "the mailbox changed too much while it was converted")
    new.claim_recent()  # all in ``cur``


# -- changing places


def note(places: Places, name: str, format: str) -> None:
    """Say what is being done, before anything is, and once more when all is built. OSError."""
    inode = os.stat(places.work).st_ino if os.path.exists(places.work) else 0
    temporary = f"{places.root}/tmp/{filename.unique()}"  # noqa: S108 - a Maildir has a tmp of its own
    with open(temporary, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        json.dump({"name": name, "format": format, "inode": inode}, f)
        f.flush()
        os.fsync(f.fileno())
    os.rename(temporary, places.journal)
    sync_path(places.root)


def noted(path: str) -> tuple[str, str, int] | None:
    """Name and format of what was being done, inode of what was built; None when that makes no sense. OSError."""
    try:
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
        return str(found["name"]), str(found["format"]), int(found["inode"])
    except (ValueError, KeyError, TypeError):  # somebody else wrote it
        return None


def swap(places: Places, format: str) -> None:
    """The moment. StoreError CANNOT where a file system cannot do it; OSError."""
    if not places.inbox:
        exchange(places.work, places.maildir)
    elif format == "mbox":
        os.rename(places.work, places.mbox)  # nobody looks at it yet
        _put_away(places)
    else:
        for part in ("new", "cur"):
            if os.path.isdir(f"{places.maildir}/{part}"):
                os.rmdir(f"{places.maildir}/{part}")
        for book in _BOOKS:
            if os.path.exists(f"{places.work}/{book}"):
                os.rename(f"{places.work}/{book}", f"{places.maildir}/{book}")
        os.makedirs(f"{places.maildir}/tmp", mode=0o700, exist_ok=True)  # noqa: S108 - a Maildir has a tmp of its own
        os.rename(f"{places.work}/new", f"{places.maildir}/new")
        os.rename(f"{places.work}/cur", f"{places.maildir}/cur")
    if places.sync:
        sync_path(places.root)
        sync_path(os.path.dirname(places.mbox))


def _put_away(places: Places) -> None:
    """The Maildir of the INBOX goes, ``cur`` first; idempotent."""
    os.makedirs(places.work, mode=0o700, exist_ok=True)
    for part in ("cur", "new", *_BOOKS):
        if os.path.exists(f"{places.maildir}/{part}"):
            os.rename(f"{places.maildir}/{part}", f"{places.work}/{part}")


def exchange(one: str, other: str) -> None:
    """Two names change places at once. StoreError CANNOT; OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if done != 0:
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise StoreError(Kind.CANNOT, "this file system cannot exchange two names at once")
        raise OSError(code, os.strerror(code), other)


# -- afterwards


def clear(places: Places, format: str, target: Callable[[], Mailbox]) -> None:
    """After the moment: save what came at the last, and remove what was. StoreError, OSError; may be done again."""
    if places.inbox and format == "mbox":
        _put_away(places)
    was = places.mbox if places.inbox and format == "maildir" else places.work
    if os.path.exists(was):
        if format == "mbox":
            _save_files(was, target)
        elif is_mbox(was):
            _save_entries(was, target)
    _remove(was)
    _remove(places.work)
    _remove(places.journal)


def undo(places: Places, inode: int) -> None:
    """Before the moment: remove what was built, of which this is the inode. OSError."""
    if places.inbox and is_mbox(places.mbox) and os.stat(places.mbox).st_ino == inode:
        os.unlink(places.mbox)
    _remove(places.work)
    _remove(places.journal)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _save_files(was: str, target: Callable[[], Mailbox]) -> None:
    """Messages of a Maildir that got no UID."""
    listed = uidlist.read(f"{was}/{uidlist.NAME}")
    table = keywords.read(f"{was}/{keywords.NAME}")
    for part in ("new", "cur"):
        for name in sorted(os.listdir(f"{was}/{part}")) if os.path.isdir(f"{was}/{part}") else ():
            file = f"{part}/{name}"
            if name.startswith(".") or (listed is not None and filename.base_of(file) in listed.entries):
                continue
            parsed = filename.parse(file)
            words = [table[p] for letter in parsed.letters if (p := ord(letter) - 97) < len(table) and table[p]]
            flags = parsed.flags if part == "cur" else 0
            date = int(os.stat(f"{was}/{file}").st_mtime)
            with MessageFile(os.open(f"{was}/{file}", os.O_RDONLY | os.O_CLOEXEC), -1) as content:
                _save(target(), content.chunks(), flags, keyword_set(" ".join(sorted(words))), date)
            os.unlink(f"{was}/{file}")


def _save_entries(was: str, target: Callable[[], Mailbox]) -> None:
    """Messages of an mbox that got no UID."""
    folder = MboxFolder(was, sync=False)
    with folder.hold():
        for entry in folder.load().entries:
            if entry.uid is None:
                with folder.open(entry) as content:
                    _save(target(), content.chunks(), entry.marks.flags, entry.marks.keywords, entry.date)


def _save(mailbox: Mailbox, chunks: Iterator[bytes], flags: int, words: frozenset[str], date: int) -> None:
    with mailbox.receive() as incoming:
        for chunk in chunks:
            incoming.write(chunk)
        mailbox.append([Append(incoming, flags, words, date)])
    _log.info("converted-late-arrival", path=mailbox.files.path)
