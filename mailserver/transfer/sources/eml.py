"""Files with a message each as a source of mail: one, or a directory of ``*.eml``, whose subdirectories are folders."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence

from mailserver.store.tree import names
from mailserver.transfer import naming
from mailserver.transfer.model import Contents, Folder, Item, SourceError, from_nothing
from mailserver.transfer.sources.files import FileOrigin

_CHUNK = 1 << 18
_SUFFIX = ".eml"


class EmlOrigin(FileOrigin):
    """See `mailserver.transfer.model.Origin`."""

    kind = "eml"

    def folders(self) -> Sequence[Folder]:
        """The top is INBOX."""
        if os.path.isfile(self._path):
            return [Folder(names.INBOX, "")]
        found = []
        for source, files in self._walk():
            if any(file.lower().endswith(_SUFFIX) for file in files):
                top = source == os.curdir
                found.append(Folder(names.INBOX if top else naming.from_levels(source.split("/")), source))
        if not found:
            raise SourceError(f"{self._path}: no *{_SUFFIX} is there")
        return found

    def contents(self, folder: Folder, since: Callable[[Folder], int] = from_nothing) -> Contents:
        """By name; the date is that of the message."""
        where = self._of(folder)
        files = [os.path.basename(self._path)] if not folder.source else sorted(os.listdir(where))
        found = []
        for name in files:
            if not folder.source or name.lower().endswith(_SUFFIX):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    st = os.stat(f"{where}/{name}")
                    if stat.S_ISREG(st.st_mode):  # a pipe would be waited for, without end
                        found.append(Item(name, size=st.st_size))
        return Contents(folder, found)

    def _of(self, folder: Folder) -> str:
        return f"{self._path}/{folder.source}" if folder.source else os.path.dirname(self._path)

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """As they are."""
        for item in items:
            with contextlib.suppress(FileNotFoundError):
                file = self._open(f"{self._of(folder)}/{item.key}")
                with file:
                    yield item, iter(lambda: file.read(_CHUNK), b"")  # noqa: B023  # used before the next
