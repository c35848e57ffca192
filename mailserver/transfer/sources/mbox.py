"""mbox files as a source of mail: one, or a directory of them, also as Thunderbird has it (``Name.sbd/Child``).

UIDs and UIDVALIDITY come along where c-client, Dovecot or we have written them. The file is read under a shared lock.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from mailserver.mail import mutf7
from mailserver.store.errors import StoreError
from mailserver.store.formats.mbox import fromline, scan
from mailserver.store.formats.mbox.entry import Box, Entry, Fingerprint
from mailserver.store.formats.mbox.locking import STALE_SECONDS, MboxLock, Method
from mailserver.store.formats.mbox.message import MboxMessage
from mailserver.store.tree import names, subscriptions
from mailserver.transfer import naming
from mailserver.transfer.model import Contents, Folder, Item, SourceError, from_nothing
from mailserver.transfer.sources.files import FileOrigin

_INBOXES = ("inbox", "mbox", ".inbox")
_SUBFOLDERS = ".sbd"
_MARGIN = 64  # octets at the beginning, within which empty lines may stand before the first message
_MOST = 8  # files that are remembered: threads read several at a time
_PATIENCE = 30.0  # seconds
_COARSE_NS = 2_000_000_000  # so old must the time of a change be that a further one cannot have the same


class MboxOrigin(FileOrigin):
    """See `mailserver.transfer.model.Origin`."""

    kind = "mbox"

    def __init__(self, path: str) -> None:
        """See `FileOrigin`."""
        super().__init__(path)
        self._boxes = Boxes()

    def folders(self) -> Sequence[Folder]:
        """The file as INBOX; of a directory every file that looks like an mbox, by its name."""
        if os.path.isfile(self._path):
            return [Folder(names.INBOX, "")]
        found = []
        for where, files in self._walk():
            for file in files:
                source = os.path.normpath(f"{where}/{file}")
                if _is_mail(f"{self._path}/{source}"):
                    found.append(Folder(_name(source), source))
        if not found:
            raise SourceError(f"{self._path}: no mbox is there")
        return found

    def subscriptions(self) -> Sequence[str]:
        """Dovecot's file, where it is."""
        return subscriptions.read(f"{self._path}/.{subscriptions.NAME}", "/") if os.path.isdir(self._path) else []

    def contents(self, folder: Folder, since: Callable[[Folder], int] = from_nothing) -> Contents:
        """As they stand in the file."""
        path = self._of(folder)
        found = self._boxes.contents(path, folder)
        if not found.items and os.path.getsize(path) and not _is_mail(path):
            raise SourceError(f"{path}: it is no mbox")
        return found

    def _of(self, folder: Folder) -> str:
        return f"{self._path}/{folder.source}" if folder.source else self._path

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """Looks at the file anew: it may have changed."""
        return self._boxes.fetch(self._of(folder), items)


def _is_mail(path: str) -> bool:
    try:
        if not os.path.isfile(path):  # a pipe, which nobody may ever write to
            return False
        with open(path, "rb") as f:
            return f.read(_MARGIN).lstrip(b"\r\n").startswith(fromline.START)
    except OSError:  # nothing that we may read
        return False


def _name(source: str) -> str:
    levels = [part.removesuffix(_SUBFOLDERS) for part in source.split("/")]
    if len(levels) == 1 and levels[0].lower() in _INBOXES:
        return names.INBOX
    return naming.from_levels([_decoded(text) for text in levels])


def _decoded(text: str) -> str:
    try:
        return mutf7.decode(text)
    except ValueError:
        return os.fsencode(text).decode("utf-8", "replace")


class Boxes:
    """mbox files that were read; any thread may ask. A file is read once, and again when it changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, _Read] = {}  # by path, the last one asked for at the end

    def contents(self, path: str, folder: Folder) -> Contents:
        """What an mbox has. SourceError, OSError."""
        with _opened(path) as fd:
            read = self._read(path, fd)
        box, found = read.box, []
        validity, uidnext = box.base.uidvalidity if box.base is not None else 0, box.uidnext
        for key, entry in read.entries.items():
            uid = (entry.uid or uidnext) if validity else 0  # new mail has none yet: those that it would get there
            uidnext = max(uidnext, uid + 1)
            marks = entry.marks
            found.append(Item(key, uid, marks.flags, marks.keywords, entry.date, entry.size, entry.unique_id))
        return Contents(Folder(folder.name, folder.source, validity, uidnext), found)

    def fetch(self, path: str, wanted: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """Their octets. SourceError, OSError."""
        with _opened(path) as fd:
            entries = self._read(path, fd).entries
            try:
                for item in wanted:
                    if item.key in entries:
                        with MboxMessage(fd, entries[item.key]) as message:
                            yield item, message.chunks()
            except StoreError as error:
                raise SourceError(f"{path}: {error.text}") from error

    def _read(self, path: str, fd: int) -> _Read:
        """Under a shared lock, which belongs to this descriptor and ends with it."""
        _share(path, fd)
        with self._lock:
            st, before = os.fstat(fd), self._known.pop(path, None)
            now = Fingerprint(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
            if before is not None and before.certain and before.box.fingerprint == now:
                read = before
            else:
                certain = time.time_ns() - st.st_ctime_ns > _COARSE_NS
                box = scan.load(fd, now, before.box if before else None, verify=True)
                read = _Read(box, dict(zip(_keys(box), box.entries, strict=True)), certain)
            self._known[path] = read
            for old in list(self._known)[:-_MOST]:
                del self._known[old]
            return read


def _share(path: str, fd: int) -> None:
    """Take the shared lock, and nothing that leaves a trace; a delivery that is going on is waited for."""
    lock = MboxLock(path, fd, (Method.FCNTL,), shared=True, stale=STALE_SECONDS)
    try:
        lock.take(time.monotonic() + _PATIENCE)
    except StoreError as error:
        raise SourceError(f"{path}: another program is writing to it") from error


class _Read(NamedTuple):
    """A file as it was. ``certain``: whoever changed it since has changed its times."""

    box: Box
    entries: dict[str, Entry]
    certain: bool


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _keys(box: Box) -> list[str]:
    """What tells the messages of a file apart, wherever they stand: the sum over From_ line and header, and a count."""
    seen: Counter[str] = Counter()
    keys = []
    for entry in box.entries:
        key = f"{entry.identity:08x}.{entry.size}"
        seen[key] += 1
        keys.append(f"{key}.{seen[key]}")
    return keys
