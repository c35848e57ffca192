"""mbox files as a source of mail: one, or a directory of them, also as Thunderbird has it (``Name.sbd/Child``).

UIDs and UIDVALIDITY come along where c-client, Dovecot or we have written them. The file is read under a shared lock.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from mailserver.mail import mutf7
from mailserver.store.errors import StoreError
from mailserver.store.formats.mbox import scan
from mailserver.store.formats.mbox.entry import Box, Fingerprint
from mailserver.store.formats.mbox.message import MboxMessage
from mailserver.store.tree import names, subscriptions
from mailserver.transfer import naming
from mailserver.transfer.model import Contents, Folder, Item, SourceError, from_nothing
from mailserver.transfer.sources.files import FileOrigin

_INBOXES = ("inbox", "mbox", ".inbox")
_SUBFOLDERS = ".sbd"


class MboxOrigin(FileOrigin):
    """See `mailserver.transfer.model.Origin`."""

    kind = "mbox"

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
        return contents(self._of(folder), folder)

    def _of(self, folder: Folder) -> str:
        return f"{self._path}/{folder.source}" if folder.source else self._path

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """Looks at the file anew: it may have changed."""
        return fetch(self._of(folder), folder, items)


def _is_mail(path: str) -> bool:
    try:
        with open(path, "rb") as f:
            return f.read(5) == b"From "
    except OSError:  # a socket, or nothing that we may read
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


def contents(path: str, folder: Folder) -> Contents:
    """What an mbox has. SourceError, OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        box = _read(path, fd)
    finally:
        os.close(fd)
    numbered = box.base is not None and not box.unwritten
    found = [
        Item(
            key,
            (entry.uid or 0) if numbered else 0,
            entry.marks.flags,
            entry.marks.keywords,
            entry.date,
            entry.size,
            entry.unique_id,
        )
        for key, entry in zip(_keys(box), box.entries, strict=True)
    ]
    validity = box.base.uidvalidity if box.base is not None and numbered else 0
    return Contents(Folder(folder.name, folder.source, validity, box.uidnext), found)


def fetch(path: str, folder: Folder, wanted: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
    """Their octets. SourceError, OSError."""
    keys = {item.key: item for item in wanted}
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        box = _read(path, fd)
        for key, entry in zip(_keys(box), box.entries, strict=True):
            if key in keys:
                with MboxMessage(fd, entry) as message:
                    yield keys[key], message.chunks()
    except StoreError as error:
        raise SourceError(f"{path}: {error.text}") from error
    finally:
        os.close(fd)


def _read(path: str, fd: int) -> Box:
    try:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        raise SourceError(f"{path}: another program is writing to it") from error
    st = os.fstat(fd)
    now = Fingerprint(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    return scan.load(fd, now, None, verify=False)


def _keys(box: Box) -> list[str]:
    """What tells the messages of a file apart, wherever they stand: the sum over From_ line and header, and a count."""
    seen: Counter[str] = Counter()
    keys = []
    for entry in box.entries:
        key = f"{entry.identity:08x}.{entry.size}"
        seen[key] += 1
        keys.append(f"{key}.{seen[key]}")
    return keys
