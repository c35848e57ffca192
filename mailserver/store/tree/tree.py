"""The mailboxes of an account by name: where each one lies, which are subscribed, which have a special use.

Looks at the disk only when times say that something changed. Changing methods want the account's lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.folder import MaildirFolder
from mailserver.store.formats.maildir.syncing import make_directories, sync_path
from mailserver.store.lane import LANE
from mailserver.store.model.message import MailboxInfo
from mailserver.store.tree import names, nested, special, subscriptions
from mailserver.store.tree.layout import (
    DOVECOTS,
    INBOX_FILE,
    LAYOUTS,
    MAILDIR_PARTS,
    NESTED_INBOX_FILE,
    OWN,
    Walk,
    identity,
    is_book,
    is_foreign,
    is_lock,
    is_mbox,
    is_needed,
)

LOCK_NAME = "mailserver-account.lock"  # of the tree of mailboxes
_YOUNG_NS = 50_000_000  # a change this close behind a look may bear a time that does not show it


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found at the last look, and the times that say whether it still holds."""

    mark: tuple[int, ...]
    looked: int
    walk: Walk
    subscribed: tuple[str, ...]
    uses: dict[str, str]


class Tree:
    """``root`` is the directory of the mailboxes; ``layout`` a key of `LAYOUTS`; ``mbox``: new mailboxes are mboxes."""

    def __init__(
        self, root: str, layout: str = "maildir++", *, mbox: bool = False, inbox: str = "", sync: bool
    ) -> None:
        """``inbox``: where INBOX is when it is an mbox; empty: in the account's directory."""
        self.root = root
        self._layout = LAYOUTS[layout]
        self._mbox = mbox
        self._sync = sync
        self._own = self._layout.nested and self._keeps_apart()
        self.home = f"{root}/{OWN}" if self._own else root
        self._inbox = inbox or f"{root}/{NESTED_INBOX_FILE if self._own else INBOX_FILE}"
        self._subscriptions = f"{root}/{'.' if self._own else ''}{subscriptions.NAME}"
        self._special = f"{self.home}/{special.NAME}"
        self._inbox_path: str | None = None
        self._seen: _Seen | None = None
        self._listed: tuple[_Seen, Sequence[MailboxInfo]] | None = None

    def _keeps_apart(self) -> bool:
        """Whether our own files are, or will be, in a directory of their own: not where a Maildir was the beginning."""
        if os.path.isdir(f"{self.root}/{OWN}"):
            return True
        return self._mbox and not os.path.lexists(f"{self.root}/{LOCK_NAME}") and identity(self.root) is None

    @property
    def control(self) -> str:
        """Where the last UIDVALIDITY is noted, beside or by Dovecot."""
        return f"{self.root}/{DOVECOTS}" if self._own else self.root

    # -- places

    def check(self, name: str) -> str:
        """The canonical name; StoreError BAD_NAME when it cannot be stored."""
        name = names.check(name)
        if not self._possible(name):
            raise StoreError(Kind.BAD_NAME, "the mailbox name has a part that is reserved")
        return name

    def _possible(self, name: str) -> bool:
        if not self._layout.nested:
            return not self._mbox or not (is_lock(self._layout.directory(name)) or self._would_hide_lists(name))
        if name == names.INBOX:
            return True
        if not self._own and not self._layout.possible(name):
            return False
        place = self.root
        for level in self._layout.directory(name).split("/"):
            if level == "cur" or level.startswith(".") or (self._own and is_lock(level)):
                return False
            if not self._may_stand(place, level):
                return False
            place = f"{place}/{level}"
        return True

    def _would_hide_lists(self, name: str) -> bool:
        """Whether a new mbox, this one or one above it, would stand where Dovecot's directory beside mboxes will be."""
        first = name.split(names.SEPARATOR, 1)[0]
        return self._layout.directory(first) == DOVECOTS and not (self.exists(first) or self.exists(name))

    def _may_stand(self, place: str, level: str) -> bool:
        """Not where the parts and the books of a Maildir are."""
        if self._own and not ((level in MAILDIR_PARTS or is_book(level)) and _is_maildir(place)):
            return True
        if level in MAILDIR_PARTS:
            return False
        there = f"{place}/{level}"
        if not is_book(level) or os.path.isdir(there):
            return True
        return not (self._mbox or is_needed(level, top=place == self.root) or os.path.lexists(there))

    def may_be_mbox(self, name: str) -> bool:
        """Whether a file of this name would be found as a mailbox."""
        place, _, level = self.path(name).rpartition("/")
        apart = not self._layout.nested or (self._own and not _is_maildir(place))
        return name == names.INBOX or (apart and level != DOVECOTS) or not is_book(level)

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
        return self._inbox if self._mbox or self._own or is_mbox(self._inbox) else self.root

    def paths(self) -> list[tuple[str, str]]:
        """Directory and path of every mailbox."""
        inbox = self.path(names.INBOX)
        return [("", inbox), *((d, f"{self.root}/{d}") for d in self._look().walk.directories)]

    def weighty(self) -> Iterator[str]:
        """The path of every mailbox that is mail, and not another program's file. OSError."""
        for directory, path in self.paths():
            if not (directory and self._layout.nested and is_mbox(path) and is_foreign(path)):
                yield path

    def levels(self) -> Sequence[str]:
        """The directories in which mailboxes may be. OSError."""
        return self._look().walk.watched

    def exists(self, name: str) -> bool:
        """Whether it can be opened."""
        return identity(self.path(name)) is not None

    def is_level(self, name: str) -> bool:
        """Whether it is a directory for mailboxes, and no mailbox itself."""
        return self._own and name != names.INBOX and os.path.isdir(self.path(name)) and not self.exists(name)

    def taken(self, name: str) -> bool:
        """Whether a mailbox, or a level that is shown, has this name."""
        return self.exists(name) or self.is_level(name)

    def barren(self, name: str) -> bool:
        """Whether there is a mailbox that can have no children."""
        if not self._layout.nested:
            return False
        return self._own if name == names.INBOX else is_mbox(self.path(name))

    def foreign(self, name: str) -> bool:
        """Whether something lies there that is no mail. OSError."""
        path = self.path(name)
        return self.strict(name) and is_mbox(path) and is_foreign(path)

    def strict(self, name: str) -> bool:
        """Whether a file in this place need not be an mbox: the directory belongs to others too."""
        return self._layout.nested and name != names.INBOX

    # -- changing

    def make(self, name: str) -> None:
        """Make a mailbox."""
        path = self.path(name)
        if self._mbox or (self._own and name == names.INBOX):
            make_directories(os.path.dirname(path), sync=self._sync)
            nested.make_mbox(path, self.root if self._own and name != names.INBOX else None)
            if self._sync:
                sync_path(os.path.dirname(path))
        else:
            MaildirFolder(path, sync=self._sync).make(top=name == names.INBOX)
        self._seen = self._inbox_path = None

    def make_level(self, name: str) -> None:
        """Make a directory for mailboxes, if it is missing."""
        nested.make_level(self.path(name), self.root, sync=self._sync)
        self._seen = None

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

    @property
    def apart(self) -> bool:
        """Whether a mailbox is a file, and what has children is none."""
        return self._own

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
        if name != names.INBOX or not (self._mbox or self._own):
            return False
        if not os.path.isdir(os.path.dirname(self.path(name))):
            return False
        with contextlib.suppress(FileExistsError):
            self.make(name)
        return True

    def remove(self, name: str, grave: str) -> None:
        """Move a mailbox to where nobody sees it; its children stay."""
        path = self.path(name)
        if self._holds_others(path):
            os.makedirs(grave, mode=0o700)
            mine = nested.parts(path)
            os.rename(f"{path}/cur", f"{grave}/cur")  # first: from here on it is no mailbox
            for entry in mine:
                os.rename(f"{path}/{entry}", f"{grave}/{entry}")
            self._settle(path)
            with contextlib.suppress(OSError):  # it has children
                os.rmdir(path)
        else:
            nested.put_away(path, grave)
            self._settle(os.path.dirname(path))
        self._drop_use(name)
        self.changed()

    def _holds_others(self, path: str) -> bool:
        """Whether there is a Maildir with more in its directory: its children, or what lies beside mboxes."""
        return (self._layout.nested or path == f"{self.root}/{DOVECOTS}") and not is_mbox(path)

    def remove_level(self, name: str) -> None:
        """Remove a directory without mailboxes. OSError when there is something else in it."""
        path = self.path(name)
        nested.remove_level(path)
        self._settle(os.path.dirname(path))
        self.changed()

    def move(self, old: str, new: str) -> None:
        """Rename one mailbox, without its children."""
        old_path, new_path = self.path(old), self.path(new)
        if self._holds_others(old_path) or (new_path == f"{self.root}/{DOVECOTS}" and os.path.isdir(new_path)):
            make_directories(new_path, sync=self._sync)
            for entry in [*nested.parts(old_path), "cur"]:  # ``cur`` last: it says that the mailbox is complete
                os.rename(f"{old_path}/{entry}", f"{new_path}/{entry}")
            self._settle(new_path, old_path)
            with contextlib.suppress(OSError):  # its children have not moved yet
                os.rmdir(old_path)
        else:
            make_directories(os.path.dirname(new_path), sync=self._sync)
            nested.move(old_path, new_path)
            self._settle(os.path.dirname(new_path), os.path.dirname(old_path))
        self._move_uses(old, new)
        self.changed()

    def can_move_whole(self, old: str, new: str) -> bool:
        """Whether a mailbox or level is a directory that can be renamed with everything below it."""
        return self._layout.nested and os.path.isdir(self.path(old)) and not os.path.lexists(self.path(new))

    def move_whole(self, old: str, new: str) -> None:
        """Rename a directory with everything below it."""
        old_path, new_path = self.path(old), self.path(new)
        os.rename(old_path, new_path)
        self._settle(os.path.dirname(new_path), os.path.dirname(old_path))
        self._move_uses(old, new)
        self.changed()

    def _move_uses(self, old: str, new: str) -> None:
        uses = special.read(self._special)
        moved = {name: use for name, use in uses.items() if name == old or name.startswith(old + names.SEPARATOR)}
        if moved and os.path.exists(self._special):
            left = {name: use for name, use in uses.items() if name not in moved}
            left |= {new + name[len(old) :]: use for name, use in moved.items()}
            special.write(self._special, left, sync=self._sync)

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

    def prepare(self) -> None:
        """Make the directory in which our own files lie, and ``tmp`` there."""
        for place in (self.root, self.home):
            make_directories(place, sync=self._sync)
        os.makedirs(f"{self.home}/tmp", mode=0o700, exist_ok=True)  # noqa: S108 - a Maildir has a tmp of its own

    def found(self) -> None:
        """Make what an account has from the beginning; INBOX last: it says that the account is complete.

        Where there is mail already, though INBOX is missing (other programs remove an empty one), that is INBOX alone.
        """
        self.prepare()
        first = {self._layout.directory(name) for name in special.DEFAULTS}
        if not os.path.lexists(self._subscriptions) and self._look().walk.directories <= first:
            for name in special.DEFAULTS:
                if not self.exists(name):
                    self.make(name)
            subscriptions.write(self._subscriptions, list(special.DEFAULTS), sync=self._sync)
        self.make(names.INBOX)

    # -- looking

    def _look(self) -> _Seen:
        seen = self._seen
        watched = seen.walk.watched if seen is not None else (self.root,)
        with LANE:
            mark = self._mark(watched)
        if seen is not None and seen.mark == mark and seen.looked > max(mark) + _YOUNG_NS:
            return seen
        looked = time.time_ns()
        walk = self._layout.walk(self.root, own=self._own)
        if walk.watched != watched:
            mark = self._mark(walk.watched)
            if max(mark) > looked:  # changed meanwhile: the next look shall not believe this one
                looked = 0
        subscribed = tuple(self._read_subscriptions())
        self._seen = seen = _Seen(mark, looked, walk, subscribed, special.read(self._special))
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
        real = self._names(seen.walk.directories)
        real.add(names.INBOX)
        levels = self._names(seen.walk.levels)
        every = real | levels
        for name in list(every):
            every.update(names.parents(name))
        with_children = {parent for name in every for parent in names.parents(name)[-1:]}
        barren = self._names(seen.walk.files)
        if self.barren(names.INBOX):
            barren.add(names.INBOX)
        subscribed = set(seen.subscribed)
        ordered = sorted(every, key=lambda name: (name != names.INBOX, name))
        return [
            MailboxInfo(
                name,
                name in real,
                name in with_children,
                name in subscribed,
                seen.uses.get(name, ""),
                name not in barren or name in with_children,
                name in levels and name not in real,
            )
            for name in ordered
        ]

    def _names(self, directories: Iterable[str]) -> set[str]:
        return {name for d in directories if (name := self._layout.name(d)) is not None}


def _is_maildir(path: str) -> bool:
    return os.path.isdir(f"{path}/cur")


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
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return 0
