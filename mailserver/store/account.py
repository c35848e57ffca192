"""An account: the tree of mailboxes of one user, their subscriptions and special uses.

Everything that changes the tree runs under the account's lock, which comes before the locks of mailboxes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailserver.store import names, special, subscriptions, uidvalidity
from mailserver.store.context import Context, Shared
from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.formats.contract import Files
from mailserver.store.formats.maildir.filename import unique
from mailserver.store.formats.maildir.files import MaildirFiles
from mailserver.store.formats.maildir.folder import MaildirFolder
from mailserver.store.formats.maildir.listing import Listing
from mailserver.store.formats.maildir.syncing import sync_path
from mailserver.store.index.db import Index
from mailserver.store.index.text import TextIndex
from mailserver.store.lane import LANE
from mailserver.store.locks import FileLock, MaildropLock
from mailserver.store.mailbox import Mailbox
from mailserver.store.model.message import MailboxInfo
from mailserver.store.quota import Limits, Quota

INDEX_NAME = "mailserver.sqlite"
TEXT_NAME = "mailserver-text.sqlite"
_KEPT_OPEN = 64  # mailboxes whose state is kept though nobody uses them
_YOUNG_NS = 50_000_000
_ABANDONED_SECONDS = 36 * 3600


@dataclass(frozen=True, slots=True)
class _Tree:
    """The folders as last listed, and the times that say whether they still are."""

    mark: tuple[int, int, int]
    listed: int
    directories: frozenset[str]
    subscribed: tuple[str, ...]
    uses: dict[str, str]


class Account:
    """``root`` is the user's Maildir."""

    def __init__(
        self,
        user: str,
        root: str,
        index_path: str,
        shared: Shared,
        *,
        sync: bool,
        limits: Limits,
    ) -> None:
        self.user = user
        self.root = root
        self._sync = sync
        self._counters = shared.counters
        self._guard = threading.Lock()
        self._mailboxes: weakref.WeakValueDictionary[str, Mailbox] = weakref.WeakValueDictionary()
        self._recent: OrderedDict[str, Mailbox] = OrderedDict()
        self._tree: _Tree | None = None
        self._listed: tuple[_Tree, Sequence[MailboxInfo]] | None = None
        with os_errors():
            new = not os.path.isdir(f"{root}/cur")
            if new:
                os.makedirs(root, mode=0o700, exist_ok=True)
            os.makedirs(os.path.dirname(index_path), mode=0o700, exist_ok=True)
        self._lock = FileLock(f"{root}/mailserver-account.lock", rank=0)
        self._uidvalidity_lock = FileLock(f"{root}/mailserver-uidvalidity.lock", rank=2)
        self._index = Index(index_path)
        self._text = TextIndex(os.path.dirname(index_path) + "/" + TEXT_NAME)
        self.quota = Quota(root, limits, self._folders)
        self._context = Context(shared, self._index, self._text, self.quota, sync, self._new_uidvalidity)
        weakref.finalize(self, self._index.close)
        weakref.finalize(self, self._text.close)
        if new:
            self._found()
        else:
            sweep(root)

    def _found(self) -> None:
        """Make a new account: INBOX and the usual folders, subscribed."""
        with os_errors(), self._lock.hold():
            if os.path.isdir(f"{self.root}/cur"):
                return
            for name in special.DEFAULTS:
                self._folder(name).make(top=False)
            subscriptions.write(self._subscriptions_path, list(special.DEFAULTS), sync=self._sync)
            self._folder(names.INBOX).make(top=True)  # last: it says that the account is complete

    def _new_uidvalidity(self) -> int:
        with self._uidvalidity_lock.hold():
            return uidvalidity.fresh(self.root)

    @property
    def _subscriptions_path(self) -> str:
        return f"{self.root}/{subscriptions.NAME}"

    @property
    def _special_path(self) -> str:
        return f"{self.root}/{special.NAME}"

    def _folders(self) -> Iterator[str]:
        """The directories of all mailboxes."""
        yield self.root
        for directory in self._look().directories:
            yield f"{self.root}/{directory}"

    def _path(self, name: str) -> str:
        directory = names.to_directory(name)
        return f"{self.root}/{directory}" if directory else self.root

    def _files(self, path: str) -> Files:
        folder = MaildirFolder(path, sync=self._sync)
        return MaildirFiles(folder, Listing(folder.uidlist_path, self._new_uidvalidity, sync=self._sync))

    def _folder(self, name: str) -> MaildirFolder:
        return MaildirFolder(self._path(name), sync=self._sync)

    # -- the tree

    def _look(self) -> _Tree:
        """The tree, listed anew when the account's directory has changed since."""
        tree = self._tree
        with LANE:
            mark = (_mtime(self.root), _mtime(self._subscriptions_path), _mtime(self._special_path))
        if tree is not None and tree.mark == mark and tree.listed > max(mark) + _YOUNG_NS:
            return tree
        listed = time.time_ns()
        directories = frozenset(
            entry.name
            for entry in os.scandir(self.root)
            if entry.name.startswith(".") and os.path.isdir(f"{entry.path}/cur")
        )
        subscribed = tuple(subscriptions.read(self._subscriptions_path))
        tree = _Tree(mark, listed, directories, subscribed, special.read(self._special_path))
        self._tree = tree
        return tree

    def mailboxes(self) -> Sequence[MailboxInfo]:
        """Every mailbox, INBOX first, then by name; levels that exist only as parents are not selectable."""
        with os_errors():
            tree = self._look()
        listed = self._listed
        if listed is None or listed[0] is not tree:
            listed = self._listed = (tree, self._list(tree))
        return listed[1]

    def _list(self, tree: _Tree) -> Sequence[MailboxInfo]:
        real = {name for d in tree.directories if (name := names.from_directory(d)) is not None}
        real.add(names.INBOX)
        every = set(real)
        for name in real:
            every.update(names.parents(name))
        with_children = {parent for name in every for parent in names.parents(name)[-1:]}
        subscribed = set(tree.subscribed)
        ordered = sorted(every, key=lambda name: (name != names.INBOX, name))
        return [
            MailboxInfo(name, name in real, name in with_children, name in subscribed, tree.uses.get(name, ""))
            for name in ordered
        ]

    def exists(self, name: str) -> bool:
        """Whether the mailbox can be opened."""
        with os_errors():
            return self._folder(names.check(name)).exists()

    def mailbox(self, name: str) -> Mailbox:
        """Open a mailbox; StoreError NOT_FOUND, BAD_NAME."""
        name = names.check(name)
        directory = names.to_directory(name)
        path = self._path(name)
        with os_errors(), LANE:
            try:
                inode = os.stat(f"{path}/cur").st_ino
            except (FileNotFoundError, NotADirectoryError):
                raise StoreError(Kind.NOT_FOUND, "there is no such mailbox") from None
        with self._guard:
            found = self._mailboxes.get(directory)
            if found is None or found.gone or found.keeper.is_another(inode):
                found = self._mailboxes[directory] = Mailbox(self._context, name, directory, self._files(path))
            self._recent[directory] = found
            self._recent.move_to_end(directory)
            if len(self._recent) > _KEPT_OPEN:
                self._recent.popitem(last=False)
            return found

    @property
    def inbox(self) -> Mailbox:
        """INBOX."""
        return self.mailbox(names.INBOX)

    def _forget(self, directory: str) -> None:
        with self._guard:
            self._recent.pop(directory, None)
            gone = self._mailboxes.pop(directory, None)
        if gone is not None:
            self._advance(gone.files.path)  # so that nobody who wakes takes its snapshot for good
            gone.let_go()

    def create(self, name: str, use: str = "") -> None:
        """Make a mailbox and those of its parents that are missing. StoreError EXISTS, BAD_NAME."""
        name = names.check(name)
        with os_errors(), self._lock.hold():
            if self._folder(name).exists():
                raise StoreError(Kind.EXISTS, "the mailbox exists already")
            for level in [*names.parents(name), name]:
                folder = self._folder(level)
                if level != names.INBOX and not folder.exists():
                    folder.make(top=False)
            if use:
                uses = special.read(self._special_path)
                special.write(self._special_path, {**uses, name: use}, sync=self._sync)
            self._tree = None

    def delete(self, name: str) -> None:
        """Remove a mailbox with its messages; its children stay. StoreError NOT_FOUND, CANNOT, HAS_CHILDREN."""
        name = names.check(name)
        if name == names.INBOX:
            raise StoreError(Kind.CANNOT, "INBOX cannot be deleted")
        with os_errors(), self._lock.hold():
            path = self._path(name)
            if not os.path.isdir(f"{path}/cur"):
                children = any(i.name.startswith(name + names.SEPARATOR) for i in self.mailboxes())
                if children:
                    raise StoreError(Kind.HAS_CHILDREN, "the name has inferior names and is no mailbox itself")
                raise StoreError(Kind.NOT_FOUND, "there is no such mailbox")
            grave = f"{self.root}/tmp/{unique()}.deleted"  # noqa: S108 - a Maildir has a tmp of its own
            with self.mailbox(name).keeper.lock.hold():  # nobody is in the middle of something in there
                os.rename(path, grave)
                self._index.forget(names.to_directory(name))
                self._forget(names.to_directory(name))
            self._drop_use(name)
            self._tree = None
            if self._sync:
                sync_path(self.root)
        self._advance(path)
        try:
            self.quota.add(*_weight(grave))
        except OSError:
            self.quota.forget()
        shutil.rmtree(grave, ignore_errors=True)  # what stays is in tmp/, where old things are cleaned away

    def _drop_use(self, name: str) -> None:
        if os.path.exists(self._special_path):
            uses = special.read(self._special_path)
            if uses.pop(name, None):
                special.write(self._special_path, uses, sync=self._sync)

    def _advance(self, path: str) -> None:
        self._counters.advance(self._counters.slot(path))

    def rename(self, old: str, new: str) -> None:
        """Rename a mailbox and all below it; of INBOX only the messages go. StoreError NOT_FOUND, EXISTS, CANNOT."""
        old, new = names.check(old), names.check(new)
        if new == names.INBOX or new == old:
            raise StoreError(Kind.EXISTS, "the mailbox exists already")
        if old == names.INBOX:
            self._rename_inbox(new)
            return
        if new.startswith(old + names.SEPARATOR):
            raise StoreError(Kind.CANNOT, "a mailbox cannot be moved below itself")
        with os_errors(), self._lock.hold():
            self._tree = None
            present = [i.name for i in self.mailboxes() if i.selectable]
            moving = [n for n in present if n == old or n.startswith(old + names.SEPARATOR)]
            if not moving:
                raise StoreError(Kind.NOT_FOUND, "there is no such mailbox")
            targets = [new + n[len(old) :] for n in moving]
            for target in targets:
                names.check(target)
            if set(targets) & set(present) or new in present:
                raise StoreError(Kind.EXISTS, "the mailbox exists already")
            for level in names.parents(new):
                folder = self._folder(level)
                if level != names.INBOX and not folder.exists():
                    folder.make(top=False)
            for source, target in zip(moving, targets, strict=True):
                self._rename_one(source, target)
            self._tree = None
            if self._sync:
                sync_path(self.root)

    def _rename_one(self, old: str, new: str) -> None:
        old_path, new_path = self._path(old), self._path(new)
        with self.mailbox(old).keeper.lock.hold():
            os.rename(old_path, new_path)
            self._index.forget(names.to_directory(new))
            self._index.rename(names.to_directory(old), names.to_directory(new))
            self._forget(names.to_directory(old))
            self._forget(names.to_directory(new))
        uses = special.read(self._special_path)
        if old in uses and os.path.exists(self._special_path):
            uses[new] = uses.pop(old)
            special.write(self._special_path, uses, sync=self._sync)
        self._advance(old_path)
        self._advance(new_path)

    def _rename_inbox(self, new: str) -> None:
        # RFC 9051 section 6.3.6: its messages move, INBOX stays and is empty
        self.create(new)
        inbox = self.inbox
        inbox.move([m.uid for m in inbox.rescan().messages], self.mailbox(new))

    # -- subscriptions and special use

    def subscriptions(self) -> Sequence[str]:
        """Subscribed names, in the order in which they were subscribed; they need not exist."""
        with os_errors():
            return self._look().subscribed

    def subscribe(self, name: str) -> None:
        """Subscribe; twice is once. The mailbox need not exist (RFC 9051 section 6.3.7)."""
        name = names.check(name)
        with os_errors(), self._lock.hold():
            subscribed = subscriptions.read(self._subscriptions_path)
            if name not in subscribed:
                subscriptions.write(self._subscriptions_path, [*subscribed, name], sync=self._sync)

    def unsubscribe(self, name: str) -> None:
        """Unsubscribe; a name that is not subscribed does no harm."""
        name = names.check(name)
        with os_errors(), self._lock.hold():
            subscribed = subscriptions.read(self._subscriptions_path)
            if name in subscribed:
                subscribed.remove(name)
                subscriptions.write(self._subscriptions_path, subscribed, sync=self._sync)

    # -- POP3

    def maildrop_lock(self) -> MaildropLock:
        """The exclusive lock of a POP3 session; StoreError IN_USE when another one has it."""
        with os_errors():
            return MaildropLock(f"{self.root}/mailserver-pop3.lock")

    def close(self) -> None:
        """Give the indexes' handles back."""
        self._index.close()
        self._text.close()


def _weight(folder: str) -> tuple[int, int]:
    """What goes with a folder: octets and messages, negative."""
    names = [f"{part}/{name}" for part in ("new", "cur") for name in os.listdir(f"{folder}/{part}")]
    return -sum(os.stat(f"{folder}/{name}").st_size for name in names), -len(names)


def sweep(root: str, now: float | None = None) -> None:
    """Remove what was abandoned in ``tmp/`` of every folder: deliveries that a crash cut short, deleted mailboxes.

    What is younger than 36 hours may still be written to, by whatever program (the Maildir rule).
    """
    oldest = (time.time() if now is None else now) - _ABANDONED_SECONDS
    with contextlib.suppress(OSError):  # tidying only
        folders = [root, *(entry.path for entry in os.scandir(root) if entry.name.startswith("."))]
        for folder in folders:
            path = f"{folder}/tmp"  # noqa: S108 - a Maildir has a tmp of its own
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
                for entry in entries:
                    _sweep_entry(entry, oldest)


def _sweep_entry(entry: os.DirEntry[str], oldest: float) -> None:
    st = entry.stat(follow_symlinks=False)
    if max(st.st_mtime, st.st_ctime) >= oldest:
        return
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # another process was quicker, or it is not ours
            os.unlink(entry.path)


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
