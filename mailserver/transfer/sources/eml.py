"""Files with a message each as a source of mail: one, or a directory of ``*.eml``, whose subdirectories are folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from mailserver.store import names
from mailserver.transfer import naming
from mailserver.transfer.model import Folder, Item, SourceError

_CHUNK = 1 << 18
_SUFFIX = ".eml"


class EmlOrigin:
    """See `mailserver.transfer.model.Origin`."""

    parallel = True

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self.identity = f"eml:{self._path}"
        if not os.path.exists(self._path):
            raise SourceError(f"{path}: there is no such file")

    def folders(self) -> Sequence[Folder]:
        """The top is INBOX."""
        if os.path.isfile(self._path):
            return [Folder(names.INBOX, "")]
        found = []
        for where, directories, files in os.walk(self._path):
            directories.sort()
            if any(file.lower().endswith(_SUFFIX) for file in files):
                source = os.path.relpath(where, self._path)
                top = source == os.curdir
                found.append(Folder(names.INBOX if top else naming.from_levels(source.split("/")), source))
        if not found:
            raise SourceError(f"{self._path}: no *{_SUFFIX} is there")
        return found

    def count(self, folder: Folder) -> int:
        """See `mailserver.transfer.model.Origin`."""
        return len(self.items(folder)[1])

    def subscriptions(self) -> Sequence[str]:
        """None."""
        return []

    def items(self, folder: Folder) -> tuple[Folder, Sequence[Item]]:
        """By name; the date is that of the message."""
        if not folder.source:
            return folder, [Item(os.path.basename(self._path), size=os.stat(self._path).st_size)]
        where = f"{self._path}/{folder.source}"
        files = sorted(name for name in os.listdir(where) if name.lower().endswith(_SUFFIX))
        return folder, [Item(name, size=os.stat(f"{where}/{name}").st_size) for name in files]

    def session(self) -> EmlOrigin:
        """Files are read by any thread."""
        return self

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """As they are."""
        where = f"{self._path}/{folder.source}" if folder.source else os.path.dirname(self._path)
        for item in items:
            with open(f"{where}/{item.key}", "rb") as file:
                yield item, iter(lambda: file.read(_CHUNK), b"")  # used before the next

    def close(self) -> None:
        """Nothing is open."""
