"""The octets of one stored message, as clients see them: every line ended by CRLF."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Protocol, Self

from mailserver.mail.lines import CrlfWriter, to_crlf

_IN_MEMORY = 1 << 20
_CHUNK = 1 << 17


class Content(Protocol):
    """An open message, wherever it is stored."""

    size: int  # RFC822.SIZE

    @property
    def fd(self) -> int:
        """The descriptor of a file that holds exactly these octets, -1 when they are in memory."""

    def read(self) -> bytes:
        """All of it."""

    def read_range(self, offset: int, count: int) -> bytes:
        """``count`` octets from ``offset``, fewer at the end."""

    def chunks(self, count: int = ..., offset: int = ..., end: int | None = ...) -> Iterator[bytes]:
        """The octets from ``offset`` to ``end``, so many at a time."""

    def close(self) -> None:
        """Close it; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Held:
    """Octets in memory, or in a file that holds exactly these octets. Subclasses set all three at once."""

    size: int
    _fd: int
    _data: bytes | None

    @property
    def fd(self) -> int:
        """The descriptor of a file that holds exactly these octets, -1 when they are in memory."""
        return self._fd if self._data is None else -1

    def read(self) -> bytes:
        """All of it."""
        return self.read_range(0, self.size)

    def read_range(self, offset: int, count: int) -> bytes:
        """``count`` octets from ``offset``, fewer at the end."""
        if self._data is not None:
            return self._data[offset : offset + count]
        parts = []
        while count > 0 and (data := os.pread(self._fd, count, offset)):
            parts.append(data)
            offset += len(data)
            count -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self, count: int = _CHUNK, offset: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The octets from ``offset`` to ``end``, so many at a time."""
        end = self.size if end is None else min(end, self.size)
        while offset < end and (data := self.read_range(offset, min(count, end - offset))):
            yield data
            offset += len(data)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MessageFile(Held):
    """An open message. ``size`` is RFC822.SIZE. Renaming or unlinking the file meanwhile does no harm."""

    def __init__(self, fd: int, vsize: int) -> None:
        """``vsize`` is what the store believes, -1 when it does not know; ``size`` is what is true."""
        self._fd = fd
        self._data = None
        on_disk = os.fstat(fd).st_size
        if vsize == on_disk:
            self.size = on_disk
            self.raw = True
        else:
            self._normalise(on_disk)

    def _normalise(self, on_disk: int) -> None:
        if on_disk <= _IN_MEMORY:
            octets = os.pread(self._fd, on_disk, 0)
            self._data = to_crlf(octets)
            self.size = len(self._data)
            self.raw = self.size == on_disk
            return
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - its descriptor takes the place of ours and is closed with it
        with copy:
            writer = CrlfWriter()
            for offset in range(0, on_disk, _CHUNK):
                copy.write(writer.convert(os.pread(self._fd, _CHUNK, offset)))
            self.size = copy.tell()
            self.raw = self.size == on_disk
            copy.flush()
            os.dup2(copy.fileno(), self._fd, inheritable=False)
