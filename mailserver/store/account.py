"""An account: the tree of mailboxes of one user, their subscriptions and special uses.

Everything that changes the tree runs under the account's lock, which comes before the locks of mailboxes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mailserver.store import conversion
from mailserver.store.context import Context, Shared
from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.formats.contract import Files
from mailserver.store.formats.maildir.filename import unique
from mailserver.store.formats.maildir.files import MaildirFiles
from mailserver.store.formats.maildir.folder import MaildirFolder
from mailserver.store.formats.maildir.listing import Listing
from mailserver.store.formats.maildir.syncing import make_directories
from mailserver.store.formats.mbox.files import MboxFiles
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.index.db import Index
from mailserver.store.index.text import TextIndex
from mailserver.store.lane import LANE
from mailserver.store.locks import FileLock, MaildropLock
from mailserver.store.mailbox import Mailbox, locked_together
from mailserver.store.model.message import MailboxInfo, Snapshot
from mailserver.store.quota import Limits, Quota
from mailserver.store.sharing.access import AccessLists, Change
from mailserver.store.tree import names, takeover, uidvalidity
from mailserver.store.tree.layout import identity, is_mbox, lock_name
from mailserver.store.tree.tidy import sweep, sweep_locks
from mailserver.store.tree.tree import LOCK_NAME, Tree, bury

INDEX_NAME = "mailserver.sqlite"
TEXT_NAME = "mailserver-text.sqlite"


class Account:
    """``root`` is where the account's own files lie: the user's Maildir, mostly."""

    def __init__(
        self,
        user: str,
        index_path: str,
        shared: Shared,
        *,
        tree: Tree,
        sync: bool,
        limits: Limits,
    ) -> None:
        self.user = user
        self.root = root = tree.home
        self._sync = sync
        self._counters = shared.counters
        self._guard = threading.Lock()
        self._mailboxes: weakref.WeakValueDictionary[str, Mailbox] = weakref.WeakValueDictionary()
        self._open = shared.open
        self.tree = tree
        with os_errors():
            new = not tree.exists(names.INBOX)
            if new or tree.apart:
                tree.prepare()
            os.makedirs(os.path.dirname(index_path), mode=0o700, exist_ok=True)
        self._lock = FileLock(f"{root}/{LOCK_NAME}", rank=0)
        self._uidvalidity_lock = FileLock(f"{root}/mailserver-uidvalidity.lock", rank=2)
        self.access = AccessLists(user, tree, shared.shares, sync=sync)
        self._index = Index(index_path)
        self._text = TextIndex(os.path.dirname(index_path) + "/" + TEXT_NAME)
        self.quota = Quota(root, limits, self._paths)
        self._context = Context(shared, self._index, self._text, self.quota, sync, self._new_uidvalidity)
        weakref.finalize(self, self._index.close)
        weakref.finalize(self, self._text.close)
        if new:
            self._found()
        else:
            sweep(root, nested=(path for _, path in tree.paths()) if tree.nested else ())
            if tree.apart:
                sweep_locks(tree.levels())
            if takeover.wanted(root):
                self._take_over()
            if os.path.lexists(f"{root}/{conversion.NAME}.json"):
                self._recover_conversion()

    def _take_over(self) -> None:
        with os_errors(), self._lock.hold():
            if takeover.wanted(self.root):
                takeover.take_over(self.root, sync=self._sync)
                self.tree.changed()

    def _found(self) -> None:
        """Make a new account: INBOX and the usual folders, subscribed."""
        with os_errors(), self._lock.hold():
            if not self.tree.exists(names.INBOX):
                self.tree.found()

    def _new_uidvalidity(self) -> int:
        with self._uidvalidity_lock.hold():
            make_directories(self.tree.control, sync=self._sync)
            return uidvalidity.fresh(self.tree.control, sync=self._sync)

    def _paths(self) -> Iterator[str]:
        """The places of all mailboxes; not those of files that are no mail."""
        yield from self.tree.weighty()

    def _files(self, name: str, directory: str, path: str) -> Files:
        if is_mbox(path):
            folder = MboxFolder(path, sync=self._sync, strict=self.tree.strict(name))
            return MboxFiles(folder, f"{self.root}/{lock_name(directory)}", self.root, self._new_uidvalidity)
        maildir = MaildirFolder(path, sync=self._sync)
        return MaildirFiles(maildir, Listing(maildir.uidlist_path, self._new_uidvalidity, sync=self._sync))

    # -- the tree

    def mailboxes(self) -> Sequence[MailboxInfo]:
        """Every mailbox, INBOX first, then by name; levels that exist only as parents are not selectable."""
        with os_errors():
            return self.tree.mailboxes()

    def exists(self, name: str) -> bool:
        """Whether the mailbox can be opened."""
        with os_errors():
            return self.tree.exists(self.tree.check(name))

    def mailbox(self, name: str) -> Mailbox:
        """Open a mailbox; StoreError NOT_FOUND, BAD_NAME."""
        name = self.tree.check(name)
        directory = self.tree.directory(name)
        with os_errors(), LANE:
            path = self.tree.path(name)
            inode = identity(path)
            if inode is None and self.tree.moved_inbox(name):
                path = self.tree.path(name)
                inode = identity(path)
            if inode is None and self.tree.restore(name):
                inode = 0
            if inode is None:
                raise StoreError(Kind.NOT_FOUND, "there is no such mailbox")
        with os_errors(), self._guard:
            known = found = self._mailboxes.get(directory)
            if found is None or found.gone or found.keeper.is_another(inode):
                found = self._mailboxes[directory] = Mailbox(
                    self._context, name, directory, self._files(name, directory, path)
                )
        if known is not None and known is not found:
            self._open.forget(known)
        self._open.touch(found)
        return found

    def glance(self, name: str) -> tuple[Mailbox, Snapshot]:
        """Open a mailbox and look at it, as STATUS does many times: the lane is entered once for both."""
        with LANE:
            mailbox = self.mailbox(name)
            return mailbox, mailbox.rescan()

    @property
    def inbox(self) -> Mailbox:
        """INBOX."""
        return self.mailbox(names.INBOX)

    def _forget(self, directory: str) -> None:
        with self._guard:
            gone = self._mailboxes.pop(directory, None)
        if gone is not None:
            self._open.forget(gone)
            self._advance(gone.files.path)  # so that nobody who wakes takes its snapshot for good
            gone.let_go()

    def create(self, name: str, use: str = "", *, alone: bool = False) -> bool:
        """Make a mailbox and, unless ``alone``, the levels above it that are missing. StoreError EXISTS, BAD_NAME,
        CANNOT.

        False when only a level was made: where what has children is no mailbox, a name that ends with the separator
        asks for that.
        """
        level = self.tree.apart and name.endswith(names.SEPARATOR)
        name = self.tree.check(name)
        with os_errors(), self._lock.hold():
            if self.tree.taken(name):
                raise StoreError(Kind.EXISTS, "the mailbox exists already")
            if not alone or self.tree.apart:  # there a level is no mailbox
                self._make_levels(names.parents(name))
            if level:
                self.tree.make_level(name)
                return False
            self._make(name)
            if use:
                self.tree.mark_use(name, use)
            return True

    def _make_levels(self, levels: Sequence[str]) -> None:
        for level in levels:
            if self.tree.barren(level):
                raise StoreError(Kind.CANNOT, "a mailbox on the way there is a file and can have no inferior names")
        for level in levels:
            if self.tree.apart and not self.tree.exists(level):
                self.tree.make_level(level)
            elif level != names.INBOX and not self.tree.exists(level):
                self._make(level)

    def _make(self, name: str) -> None:
        found = self.access.before_making(name)
        self.tree.make(name)
        self.access.made(name, found)

    def delete(self, name: str) -> None:
        """Remove a mailbox with its messages; its children stay. StoreError NOT_FOUND, CANNOT, HAS_CHILDREN."""
        name = self.tree.check(name)
        if name == names.INBOX:
            raise StoreError(Kind.CANNOT, "INBOX cannot be deleted")
        with os_errors(), self._lock.hold():
            if not self.tree.exists(name):
                self._delete_level(name)
                return
            self._refuse_foreign(name)
            path, directory = self.tree.path(name), self.tree.directory(name)
            grave = f"{self.root}/tmp/{unique()}.deleted"  # noqa: S108 - a Maildir has a tmp of its own
            mailbox = self.mailbox(name)
            os.makedirs(os.path.dirname(grave), mode=0o700, exist_ok=True)  # another server made mboxes without it
            with mailbox.keeper.lock.hold(), mailbox.files.hold():  # nobody is in the middle of something in there
                self.tree.remove(name, grave)
                self.access.removed(name)
                self._index.forget(directory)
                self._forget(directory)
        self._advance(path)
        self.quota.lost(grave)
        bury(grave)

    def _delete_level(self, name: str) -> None:
        if any(i.name.startswith(name + names.SEPARATOR) for i in self.mailboxes()):
            raise StoreError(Kind.HAS_CHILDREN, "the name has inferior names and is no mailbox itself")
        if not self.tree.is_level(name):
            raise StoreError(Kind.NOT_FOUND, "there is no such mailbox")
        try:
            self.tree.remove_level(name)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            raise StoreError(Kind.CANNOT, "there is something else in the directory") from error

    def _refuse_foreign(self, name: str) -> None:
        if self.tree.foreign(name):
            raise StoreError(Kind.CANNOT, "there is a file that is no mailbox")

    def _advance(self, path: str) -> None:
        self._counters.advance(self._counters.slot(path))

    def rename(self, old: str, new: str) -> None:
        """Rename a mailbox and all below it; of INBOX only the messages go. StoreError NOT_FOUND, EXISTS, CANNOT."""
        old, new = self.tree.check(old), self.tree.check(new)
        if new == names.INBOX or new == old:
            raise StoreError(Kind.EXISTS, "the mailbox exists already")
        if old == names.INBOX:
            self._rename_inbox(new)
            return
        if new.startswith(old + names.SEPARATOR):
            raise StoreError(Kind.CANNOT, "a mailbox cannot be moved below itself")
        with os_errors(), self._lock.hold():
            present = [i.name for i in self.mailboxes() if i.selectable]
            moving = [n for n in present if n == old or n.startswith(old + names.SEPARATOR)]
            if not moving and not self.tree.is_level(old):
                raise StoreError(Kind.NOT_FOUND, "there is no such mailbox")
            targets = [new + n[len(old) :] for n in moving]
            for target in targets:
                self.tree.check(target)
            if set(targets) & set(present) or self.tree.taken(new):
                raise StoreError(Kind.EXISTS, "the mailbox exists already")
            self._refuse_foreign(old)
            self._make_levels(names.parents(new))
            if self.tree.can_move_whole(old, new):
                self._rename_whole(old, new, list(zip(moving, targets, strict=True)))
                return
            for source, target in zip(moving, targets, strict=True):
                self._rename_one(source, target)
            for source in reversed(moving):
                self.tree.prune(source)
            self.tree.prune(old)

    def _rename_whole(self, old: str, new: str, moving: Sequence[tuple[str, str]]) -> None:
        """A directory gets another name, with whatever is in it."""
        mailboxes = [self.mailbox(source) for source, _ in moving]
        paths = [path for names_ in moving for path in map(self.tree.path, names_)]
        with contextlib.ExitStack() as held:
            for mailbox in sorted(mailboxes, key=lambda m: m.keeper.lock.path):
                held.enter_context(mailbox.keeper.lock.hold())
                with mailbox.files.hold():  # what was begun there is finished; a dot lock must not move along
                    pass
            self.access.before_moving_whole(moving)
            self.tree.move_whole(old, new)
            self.access.moved_whole(moving)
            for pair in moving:
                self._renamed(*map(self.tree.directory, pair))
        for path in paths:
            self._advance(path)

    def _renamed(self, old: str, new: str) -> None:
        self._index.forget(new)
        self._index.rename(old, new)
        self._forget(old)
        self._forget(new)

    def _rename_one(self, old: str, new: str) -> None:
        old_path, new_path = self.tree.path(old), self.tree.path(new)
        mailbox = self.mailbox(old)
        with mailbox.keeper.lock.hold(), mailbox.files.hold():
            self.access.before_moving(old, new)
            self.tree.move(old, new)
            self.access.removed(old)
            self._renamed(self.tree.directory(old), self.tree.directory(new))
        self._advance(old_path)
        self._advance(new_path)

    def _rename_inbox(self, new: str) -> None:
        # RFC 9051 section 6.3.6: its messages move, INBOX stays and is empty
        self.create(new)
        inbox = self.inbox
        inbox.move([m.uid for m in inbox.rescan().messages], self.mailbox(new))

    def change_access(self, name: str, change: Change) -> None:
        """Have another access list for a mailbox, durable when it returns. StoreError NOT_FOUND, CORRUPT."""
        name = self.tree.check(name)
        with os_errors(), self._lock.hold():
            self.access.change(name, change)
            path = self.tree.path(name)
        self._advance(path)
        with self._guard:
            known = self._mailboxes.get(self.tree.directory(name))
        if known is not None:
            known.keeper.subscribers.wake()

    # -- conversion

    def convert(self, name: str, format: str, progress: conversion.Progress = lambda done, of: None) -> bool:
        """Have a mailbox in the other format, while it is used; False when it has that already.

        StoreError NOT_FOUND, HAS_CHILDREN, CANNOT, IN_USE when another conversion runs; on any the mailbox stays.
        """
        name = self.tree.check(name)
        with os_errors(), self._converting():
            self._recover()
            old = self.mailbox(name)
            places = self._places(name)
            if old.files.format == format:
                return False
            if format == "mbox":
                self._check_for_mbox(name)
            if places.inbox and format == "mbox" and os.path.lexists(places.mbox):
                raise StoreError(Kind.CANNOT, "where the mbox would be, there is a file already")
            if places.inbox and not conversion.near(self.root, os.path.dirname(places.mbox)):
                raise StoreError(Kind.CANNOT, "where the mbox would be, there is another file system")
            conversion.note(places, name, format)
            try:
                self._convert(old, self._work(name, places, format), places, format, progress)
            except BaseException:
                self._recover()
                raise
            conversion.clear(places, format, lambda: self.mailbox(name))
            return True

    def _check_for_mbox(self, name: str) -> None:
        """Among nested directories, whether a file can stand there."""
        if not self.tree.may_be_mbox(name):
            raise StoreError(Kind.CANNOT, "a file of this name would not be found among those of Maildirs")
        if name == names.INBOX or not self.tree.nested:
            return
        if any(i.name.startswith(name + names.SEPARATOR) for i in self.mailboxes()):
            raise StoreError(Kind.HAS_CHILDREN, "the mailbox has inferior names, which an mbox cannot have")

    def _converting(self) -> MaildropLock:
        try:
            return MaildropLock(f"{self.root}/{conversion.LOCK_NAME}")
        except StoreError as error:
            raise StoreError(Kind.IN_USE, "another mailbox of this account is being converted") from error

    def _places(self, name: str) -> conversion.Places:
        maildir, mbox = self.tree.places(name)
        return conversion.Places(self.root, maildir, mbox, f"{self.root}/{self._work_directory}", self._sync)

    @property
    def _work_directory(self) -> str:
        """A name that this layout takes for no mailbox."""
        return self.tree.hidden(conversion.NAME)

    def _work(self, name: str, places: conversion.Places, format: str) -> Mailbox:
        """An empty mailbox where nobody looks."""
        self._index.forget(self._work_directory)
        if format == "mbox":
            os.close(os.open(places.work, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        else:
            MaildirFolder(places.work, sync=self._sync).make(top=False)
        tmp = f"{self.root}/tmp"  # noqa: S108 - a Maildir has a tmp of its own
        uncounted = Quota(tmp, Limits(), self._paths)  # for a while each message is there twice
        context = replace(self._context, quota=uncounted)
        return Mailbox(context, name, self._work_directory, self._files(name, self._work_directory, places.work))

    def _convert(
        self, old: Mailbox, new: Mailbox, places: conversion.Places, format: str, progress: conversion.Progress
    ) -> None:
        conversion.fill(old, new, progress)
        directory = self.tree.directory(old.name)
        with self._lock.hold(), locked_together(old, new):
            conversion.catch_up(old, new)
            conversion.note(places, old.name, format)
            self.access.before_converting(old.name, format, places.maildir if places.inbox else places.work)
            conversion.swap(places, format)
            self._index.forget(directory)
            self._index.rename(self._work_directory, directory)
            self.tree.changed()
            self._forget(directory)
            new.let_go()
        self._advance(places.maildir)
        self._advance(places.mbox)

    def _recover_conversion(self) -> None:
        """One was cut short. When one is running it is none of our business."""
        with contextlib.suppress(StoreError), os_errors(), self._converting():
            self._recover()

    def _recover(self) -> None:
        journal = f"{self.root}/{conversion.NAME}.json"
        if not os.path.lexists(journal):
            return
        found = conversion.noted(journal)
        if found is None:
            os.unlink(journal)
            return
        name, format, inode = found
        places = self._places(name)
        if places.is_now(format):
            conversion.clear(places, format, lambda: self.mailbox(name))
        else:
            conversion.undo(places, inode)
        self.quota.forget()

    # -- subscriptions and special use

    def subscriptions(self) -> Sequence[str]:
        """Subscribed names, in the order in which they were subscribed; they need not exist."""
        with os_errors():
            return self.tree.subscribed()

    def subscribe(self, name: str) -> None:
        """Subscribe; twice is once. The mailbox need not exist (RFC 9051 section 6.3.7)."""
        with os_errors(), self._lock.hold():
            self.tree.subscribe(self.tree.check(name))

    def unsubscribe(self, name: str) -> None:
        """Unsubscribe; a name that is not subscribed does no harm."""
        with os_errors(), self._lock.hold():
            self.tree.unsubscribe(self.tree.check(name))

    # -- POP3

    def maildrop_lock(self) -> MaildropLock:
        """The exclusive lock of a POP3 session; StoreError IN_USE when another one has it."""
        with os_errors():
            return MaildropLock(f"{self.root}/mailserver-pop3.lock")

    def rest(self) -> None:
        """Nobody has used it lately: keep no mailbox in memory, but for those who hold one."""
        with self._guard:
            mailboxes = list(self._mailboxes.values())
        for mailbox in mailboxes:
            self._open.forget(mailbox)

    def close(self) -> None:
        """Give the indexes' handles back."""
        self.rest()
        self._index.close()
        self._text.close()
