"""The mailboxes of an account by name: where each one lies, which are subscribed, which have a special use.

Looks at the disk only when times say that something changed. Changing methods want the account's lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mailserver.store import names, special, subscriptions
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.folder import MaildirFolder
from mailserver.store.formats.maildir.syncing import make_directories, sync_path
from mailserver.store.lane import LANE
from mailserver.store.layout import DOT_LOCK, INBOX_FILE, LAYOUTS, identity, is_mbox
from mailserver.store.model.message import MailboxInfo

_YOUNG_NS = 50_000_000  # a change this close behind a look may bear a time that does not show it


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found at the last look, and the times that say whether it still holds."""

    mark: tuple[int, ...]
    watched: tuple[str, ...]
    looked: int
    directories: frozenset[str]
    subscribed: tuple[str, ...]
    uses: dict[str, str]


class Tree:
    """``root`` is the account's directory; ``layout`` a key of `LAYOUTS`; ``mbox``: new mailboxes are mboxes."""

    def __init__(
        self, root: str, layout: str = "maildir++", *, mbox: bool = False, inbox: str = "", sync: bool
    ) -> None:
        """``inbox``: where INBOX is when it is an mbox; empty: in the account's directory."""
        self.root = root
        self._layout = LAYOUTS[layout]
        self._mbox = mbox
        self._inbox = inbox or f"{root}/{INBOX_FILE}"
        self._sync = sync
        self._subscriptions = f"{root}/{subscriptions.NAME}"
        self._special = f"{root}/{special.NAME}"
        self._inbox_path: str | None = None
        self._seen: _Seen | None = None
        self._listed: tuple[_Seen, Sequence[MailboxInfo]] | None = None

    # -- places

    def check(self, name: str) -> str:
        """The canonical name; StoreError BAD_NAME when it cannot be stored."""
        name = names.check(name)
        locked = self._mbox and self._layout.directory(name).endswith(DOT_LOCK)
        if locked or not self._layout.possible(name):
            raise StoreError(Kind.BAD_NAME, "the mailbox name has a part that is reserved")
        return name

    def directory(self, name: str) -> str:
        """The mailbox's name in the index."""
        return self._layout.directory(name)

    def path(self, name: str) -> str:
        """Where the mailbox lies, or would lie."""
        directory = self._layout.directory(name)
        if directory:
            return f"{self.root}/{directory}"
        if self._inbox_path is None:
            self._inbox_path = self._find_inbox()
        return self._inbox_path

    def _find_inbox(self) -> str:
        if identity(self.root) is not None:
            return self.root
        return self._inbox if self._mbox or is_mbox(self._inbox) else self.root

    def paths(self) -> list[tuple[str, str]]:
        """Directory and path of every mailbox."""
        inbox = self.path(names.INBOX)
        return [("", inbox), *((d, f"{self.root}/{d}") for d in self._look().directories)]

    def exists(self, name: str) -> bool:
        """Whether it can be opened."""
        return identity(self.path(name)) is not None

    # -- changing

    def make(self, name: str) -> None:
        """Make a mailbox."""
        path = self.path(name)
        if self._mbox:
            make_directories(os.path.dirname(path), sync=self._sync)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            if self._sync:
                sync_path(os.path.dirname(path))
        else:
            MaildirFolder(path, sync=self._sync).make(top=name == names.INBOX)
        self._seen = self._inbox_path = None

    def places(self, name: str) -> tuple[str, str]:
        """Where the mailbox is when it is a Maildir, and when it is an mbox."""
        directory = self._layout.directory(name)
        return (f"{self.root}/{directory}",) * 2 if directory else (self.root, self._inbox)

    def beside_mbox(self, name: str) -> str:
        """The directory for what lies beside an mbox, named as Dovecot names it; it need not exist."""
        above, _, last = self._layout.directory(name).rpartition("/")
        last = last or (names.INBOX if self._layout.nested else INBOX_FILE)
        return "/".join(filter(None, (self.root, above, ".imap", last)))

    def names(self) -> list[str]:
        """Every mailbox that can be opened, INBOX first."""
        return [info.name for info in self.mailboxes() if info.selectable]

    @property
    def nested(self) -> bool:
        """Whether the directory of a mailbox holds those of its children."""
        return self._layout.nested

    def hidden(self, name: str) -> str:
        """A name in the account's directory that is no mailbox's."""
        return f".{name}" if self._layout.nested else name

    def moved_inbox(self, name: str) -> bool:
        """INBOX is not where it was; whether it is elsewhere now, in the other format."""
        if name != names.INBOX:
            return False
        before, self._inbox_path = self._inbox_path, None
        return self.path(name) != before

    def restore(self, name: str) -> bool:
        """INBOX is always there, though many programs remove an mbox that they have emptied; whether it is back."""
        if name != names.INBOX or not self._mbox or not os.path.isdir(os.path.dirname(self.path(name))):
            return False
        with contextlib.suppress(FileExistsError):
            self.make(name)
        return True

    def remove(self, name: str, grave: str) -> None:
        """Move a mailbox to where nobody sees it; its children stay."""
        path = self.path(name)
        if self._layout.nested and not is_mbox(path):
            os.makedirs(grave, mode=0o700)
            with os.scandir(path) as entries:
                mine = [e.name for e in entries if not e.is_dir() or e.name in ("new", "tmp")]
            os.rename(f"{path}/cur", f"{grave}/cur")  # first: from here on it is no mailbox
            for entry in mine:
                os.rename(f"{path}/{entry}", f"{grave}/{entry}")
            self._settle(path)
            with contextlib.suppress(OSError):  # it has children
                os.rmdir(path)
        else:
            os.rename(path, grave)
            self._settle(os.path.dirname(path))
        self._drop_use(name)
        self.changed()

    def move(self, old: str, new: str) -> None:
        """Rename one mailbox, without its children."""
        old_path, new_path = self.path(old), self.path(new)
        if self._layout.nested and not is_mbox(old_path):
            make_directories(new_path, sync=self._sync)
            with os.scandir(old_path) as entries:
                mine = [e.name for e in entries if not e.is_dir() or e.name in ("new", "tmp")]
            for entry in [*mine, "cur"]:  # ``cur`` last: it says that the mailbox is complete
                os.rename(f"{old_path}/{entry}", f"{new_path}/{entry}")
            self._settle(new_path, old_path)
            with contextlib.suppress(OSError):  # its children have not moved yet
                os.rmdir(old_path)
        else:
            os.rename(old_path, new_path)
            self._settle(os.path.dirname(new_path), os.path.dirname(old_path))
        uses = special.read(self._special)
        if old in uses and os.path.exists(self._special):
            uses[new] = uses.pop(old)
            special.write(self._special, uses, sync=self._sync)
        self.changed()

    def prune(self, name: str) -> None:
        """Remove what is left of a name whose mailboxes have all moved away."""
        if self._layout.nested and not self.exists(name):
            with contextlib.suppress(OSError):  # somebody keeps something else there
                os.rmdir(self.path(name))

    def _settle(self, *directories: str) -> None:
        """Make the names in them durable."""
        if self._sync:
            for directory in dict.fromkeys(directories):
                sync_path(directory)

    def changed(self) -> None:
        """Have it looked at anew, and make the new names durable."""
        self._seen = self._inbox_path = None
        if self._sync:
            sync_path(self.root)

    def mark_use(self, name: str, use: str) -> None:
        """Give a mailbox a special use."""
        special.write(self._special, {**special.read(self._special), name: use}, sync=self._sync)
        self._seen = None

    def _drop_use(self, name: str) -> None:
        if os.path.exists(self._special):
            uses = special.read(self._special)
            if uses.pop(name, None):
                special.write(self._special, uses, sync=self._sync)

    def _read_subscriptions(self) -> list[str]:
        return subscriptions.read(self._subscriptions, "/" if self._layout.nested else ".")

    def subscribe(self, name: str) -> None:
        """Add a name to the subscriptions."""
        subscribed = self._read_subscriptions()
        if name not in subscribed:
            subscriptions.write(self._subscriptions, [*subscribed, name], sync=self._sync)

    def unsubscribe(self, name: str) -> None:
        """Take a name off the subscriptions."""
        subscribed = self._read_subscriptions()
        if name in subscribed:
            subscribed.remove(name)
            subscriptions.write(self._subscriptions, subscribed, sync=self._sync)

    def found(self) -> None:
        """Make the mailboxes of a new account, subscribed; INBOX last: it says that the account is complete."""
        os.makedirs(f"{self.root}/tmp", mode=0o700, exist_ok=True)  # noqa: S108 - a Maildir has a tmp of its own
        for name in special.DEFAULTS:
            if not self.exists(name):
                self.make(name)
        subscriptions.write(self._subscriptions, list(special.DEFAULTS), sync=self._sync)
        self.make(names.INBOX)

    # -- looking

    def _look(self) -> _Seen:
        seen = self._seen
        watched = seen.watched if seen is not None else (self.root,)
        with LANE:
            mark = self._mark(watched)
        if seen is not None and seen.mark == mark and seen.looked > max(mark) + _YOUNG_NS:
            return seen
        looked = time.time_ns()
        walk = self._layout.walk(self.root)
        if walk.watched != watched:
            mark = self._mark(walk.watched)
            if max(mark) > looked:  # changed meanwhile: the next look shall not believe this one
                looked = 0
        subscribed = tuple(self._read_subscriptions())
        self._seen = seen = _Seen(mark, walk.watched, looked, walk.directories, subscribed, special.read(self._special))
        return seen

    def _mark(self, watched: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(_mtime(path) for path in (self._subscriptions, self._special, *watched))

    def subscribed(self) -> Sequence[str]:
        """Subscribed names, in the order in which they were subscribed; they need not exist."""
        return self._look().subscribed

    def mailboxes(self) -> Sequence[MailboxInfo]:
        """Every mailbox, INBOX first, then by name; levels that exist only as parents are not selectable."""
        seen = self._look()
        listed = self._listed
        if listed is None or listed[0] is not seen:
            listed = self._listed = (seen, self._list(seen))
        return listed[1]

    def _list(self, seen: _Seen) -> Sequence[MailboxInfo]:
        real = {name for d in seen.directories if (name := self._layout.name(d)) is not None}
        real.add(names.INBOX)
        every = set(real)
        for name in real:
            every.update(names.parents(name))
        with_children = {parent for name in every for parent in names.parents(name)[-1:]}
        subscribed = set(seen.subscribed)
        ordered = sorted(every, key=lambda name: (name != names.INBOX, name))
        return [
            MailboxInfo(name, name in real, name in with_children, name in subscribed, seen.uses.get(name, ""))
            for name in ordered
        ]


def bury(grave: str) -> None:
    """Remove what `Tree.remove` put away; what stays is in ``tmp``, where old things are swept away."""
    if os.path.isdir(grave):
        shutil.rmtree(grave, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(grave)


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
