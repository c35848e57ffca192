"""A directory of Maildirs (and mboxes) as a source of mail: Dovecot's, Courier's, ours, or without any books.

Both layouts are looked for, ``.A.B`` and ``A/B``. Nothing is changed there.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from mailserver.mail import mutf7
from mailserver.store.errors import StoreError
from mailserver.store.formats.maildir import courier, filename, keywords, sizelist, uidlist
from mailserver.store.formats.maildir.uidlist import Entry, UidList
from mailserver.store.tree import names, subscriptions, takeover
from mailserver.store.tree.layout import INBOX_FILE, LAYOUTS, is_mbox
from mailserver.transfer import naming
from mailserver.transfer.model import Contents, Folder, Item, SourceError, from_nothing
from mailserver.transfer.sources.files import FileOrigin
from mailserver.transfer.sources.mbox import Boxes

_CHUNK = 1 << 18
_MOST = 8  # folders whose files are remembered


class MaildirOrigin(FileOrigin):
    """See `mailserver.transfer.model.Origin`."""

    kind = "maildir"

    def __init__(self, path: str) -> None:
        """See `FileOrigin`."""
        super().__init__(path)
        self._boxes = Boxes()
        self._seen: dict[str, dict[str, str]] = {}  # files by key, of the folders that were looked at last

    def folders(self) -> Sequence[Folder]:
        """INBOX, and whatever either layout finds."""
        found = {names.INBOX: Folder(names.INBOX, "")} if os.path.isdir(f"{self._path}/cur") else {}
        if not found and is_mbox(f"{self._path}/{INBOX_FILE}"):
            found[names.INBOX] = Folder(names.INBOX, INBOX_FILE)
        if os.path.isdir(f"{self._path}/{INBOX_FILE}/cur"):
            name = naming.from_levels([names.INBOX])
            found[name] = Folder(name, INBOX_FILE)
        for layout in LAYOUTS.values():
            for directory in sorted(layout.walk(self._path).directories):
                path = f"{self._path}/{directory}"
                if layout.nested and is_mbox(path) and not os.path.getsize(path):
                    continue  # whether it is a mailbox, and not one of many other files, nobody knows
                levels = directory.split("/") if layout.nested else directory[1:].split(".")
                name = naming.from_levels([_level(text) for text in levels if text])
                while name in found:  # ``.A`` and ``.A.`` mean the same
                    name += "_"
                found[name] = Folder(name, directory)
        if not found:
            raise SourceError(f"{self._path}: there is no Maildir")
        return list(found.values())

    def count(self, folder: Folder) -> int:
        """See `mailserver.transfer.model.Origin`."""
        path = self._of(folder)
        return super().count(folder) if is_mbox(path) else len(_files(path))

    def keys(self, folder: Folder) -> Collection[str]:
        """See `mailserver.transfer.model.Origin`."""
        path = self._of(folder)
        return super().keys(folder) if is_mbox(path) else _by_key(path)

    def subscriptions(self) -> Sequence[str]:
        """Dovecot's file, or else Courier's."""
        path = f"{self._path}/{subscriptions.NAME}"
        if not os.path.exists(path):
            return takeover.read_subscribed(self._path)
        nested = not any(folder.source.startswith(".") for folder in self.folders())
        return subscriptions.read(path, "/" if nested else ".")

    def _of(self, folder: Folder) -> str:
        return f"{self._path}/{folder.source}" if folder.source else self._path

    def contents(self, folder: Folder, since: Callable[[Folder], int] = from_nothing) -> Contents:
        """Those with UIDs first, then the others in the order of arrival, with the UIDs that they would get there."""
        path = self._of(folder)
        if is_mbox(path):
            return self._boxes.contents(path, folder)
        listed = _listed(path)
        words = _Words(path)
        ids = sizelist.read(f"{path}/{sizelist.NAME}")
        files = _by_key(path)
        self._remember(path, files)
        places = {base: place for place, base in enumerate(sizelist.order(ids), 1)}
        found, uidnext = [], listed.next_uid
        for key in sorted(files, key=lambda key: _order(listed, key)):
            file, entry = files[key], listed.entries.get(key) or Entry(uidnext if listed.uidvalidity else 0)
            uidnext = max(uidnext, entry.uid + 1)
            base = filename.base_of(file)
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile, or renamed: the next import will find it
                st = os.stat(f"{path}/{file}")
                parsed = filename.parse(file)
                flags = parsed.flags if file.startswith("cur/") else 0
                order = entry.value("O") or ""
                found.append(
                    Item(
                        key,
                        entry.uid,
                        flags,
                        words.of(base, parsed.letters),
                        int(st.st_mtime),
                        st.st_size,
                        entry.value("P") or ids.get(key, ""),
                        int(order) if order.isdigit() else places.get(key, 0),
                    )
                )
        return Contents(Folder(folder.name, folder.source, listed.uidvalidity, uidnext), found)

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """Looks a second time for a file that was renamed."""
        path = self._of(folder)
        if is_mbox(path):
            yield from self._boxes.fetch(path, items)
            return
        files = self._seen.get(path, {})
        if not all(item.key in files and os.path.exists(f"{path}/{files[item.key]}") for item in items):
            files = _by_key(path)
            self._remember(path, files)
        for item in items:
            if item.key in files:
                with contextlib.suppress(FileNotFoundError):
                    file = self._open(f"{path}/{files[item.key]}")
                    with file:
                        yield item, iter(lambda: file.read(_CHUNK), b"")  # noqa: B023  # used before the next

    def _remember(self, path: str, files: dict[str, str]) -> None:
        seen = {**self._seen, path: files}
        self._seen = {known: seen[known] for known in list(seen)[-_MOST:]}  # any thread may do this


class _Words:
    """The keywords of messages: by letters, or as Courier keeps them."""

    def __init__(self, path: str) -> None:
        by_courier = _is_couriers(path)
        self._table = () if by_courier else keywords.read(f"{path}/{keywords.NAME}")
        self._couriers = {} if self._table else courier.read_keywords(path)

    def of(self, base: str, letters: str) -> frozenset[str]:
        named = {self._table[p] for letter in letters if (p := ord(letter) - 97) < len(self._table) and self._table[p]}
        return frozenset(named.union(self._couriers.get(base, ())))


def _level(stored: str) -> str:
    """A level as Dovecot, we, or Courier from version 5 on write it; octets that are no text as well as can be."""
    try:
        return mutf7.decode(names.unescaped(stored))
    except ValueError:
        return os.fsencode(stored).decode("utf-8", "replace")


def _is_couriers(path: str) -> bool:
    """Whether Courier served the folder last: after an export, say. It writes its list at every change of a UID."""
    theirs, ours = (uidlist.sign(f"{path}/{name}") for name in (courier.UIDDB, uidlist.NAME))
    return theirs is not None and (ours is None or theirs[2] > ours[2])


def _listed(path: str) -> UidList:
    ours = f"{path}/{uidlist.NAME}"
    try:
        if _is_couriers(path):
            return courier.read_uids(path) or uidlist.read(ours) or UidList(0)
        return uidlist.read(ours) or courier.read_uids(path) or UidList(0)
    except StoreError:  # it cannot be understood: then the messages have no UIDs
        return UidList(0)


def _order(listed: UidList, base: str) -> tuple[int, tuple[int, int, str]]:
    entry = listed.entries.get(base)
    return (entry.uid if entry is not None else 1 << 62, filename.order(base))


def _files(path: str) -> list[str]:
    """Sorted, ``cur`` before ``new``; what is no file, and links that lead nowhere, are no messages."""
    found = []
    for part in ("cur", "new"):
        with contextlib.ExitStack() as stack:
            try:
                entries = stack.enter_context(os.scandir(f"{path}/{part}"))
            except FileNotFoundError:  # a Maildir that somebody took for tidy
                continue
            found += sorted(f"{part}/{entry.name}" for entry in entries if entry.name[0] != "." and entry.is_file())
    return found


def _by_key(path: str) -> dict[str, str]:
    """Files by their base names. Two of one base name, which nobody should make, are two messages, unless they are the
    same octets: the second has a key of its own."""
    found: dict[str, str] = {}
    for file in _files(path):
        base, number = filename.base_of(file), 1
        key = base
        while key in found:
            with contextlib.suppress(FileNotFoundError):  # it was being renamed
                if filecmp.cmp(f"{path}/{found[key]}", f"{path}/{file}", shallow=False):
                    break
            number += 1
            key = f"{base}:{number}"
        else:
            found[key] = file
    return found
