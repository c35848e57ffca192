"""What the sources that are files have in common: a path, and that any thread may read them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import BinaryIO, Self

from mailserver.transfer.model import Contents, Folder, Item, SourceError, WithheldError, from_nothing


class FileOrigin:
    """See `mailserver.transfer.model.Origin`."""

    parallel = True
    kind = ""  # in ``identity``

    def __init__(self, path: str) -> None:
        """SourceError when nothing is there."""
        self._path = os.path.abspath(path)
        self.identity = f"{self.kind}:{self._path}"
        if not os.path.exists(self._path):
            raise SourceError(f"{path}: there is no such file or directory")

    def folders(self) -> Sequence[Folder]:
        """All that can hold messages."""
        raise NotImplementedError

    def contents(self, folder: Folder, since: Callable[[Folder], int] = from_nothing) -> Contents:
        """Everything: files do not count their states."""
        raise NotImplementedError

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """The octets of each."""
        raise NotImplementedError

    def count(self, folder: Folder) -> int:
        """See `mailserver.transfer.model.Origin`."""
        return self.contents(folder).count

    def keys(self, folder: Folder) -> Collection[str]:
        """See `mailserver.transfer.model.Origin`."""
        return [item.key for item in self.contents(folder).items]

    def subscriptions(self) -> Sequence[str]:
        """None."""
        return []

    def session(self) -> Self:
        """Files are read by any thread."""
        return self

    def close(self) -> None:
        """Nothing is open."""

    @staticmethod
    def _open(path: str) -> BinaryIO:
        """WithheldError for a message that we may not read, as are those that somebody else put there; OSError."""
        try:
            return open(path, "rb")
        except PermissionError as error:
            raise WithheldError(f"{os.path.normpath(path)}: {error.strerror}") from error

    def _walk(self) -> Iterator[tuple[str, list[str]]]:
        """Every directory, by its way from the path (``.`` for that itself), and the names of its files."""
        for where, directories, files in os.walk(self._path):
            directories.sort()
            yield os.path.relpath(where, self._path), sorted(files)
