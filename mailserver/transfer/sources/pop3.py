"""Another POP3 server as a source of mail: one folder, the INBOX. Unique-ids come along; nothing is deleted there."""

from __future__ import annotations

import contextlib
import hashlib
import poplib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from mailserver.store.tree import names
from mailserver.transfer.model import Contents, Folder, Item, LostError, SourceError, WithheldError, from_nothing
from mailserver.transfer.sources.url import Server

_TIMEOUT = 120.0
_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 24  # poplib's own limit, 2048, is less than lines of real mail have


class _LongLines(poplib.POP3):
    """poplib with a limit that mail fits into, and passwords of any octets."""

    def _putcmd(self, line: str) -> None:
        self._putline(line.encode("utf-8", "surrogateescape"))  # type: ignore[attr-defined]

    def _getline(self) -> tuple[bytes, int]:
        line = self.file.readline(_LONGEST_LINE + 1)
        if not line:
            raise EOFError("the server hung up")
        if len(line) > _LONGEST_LINE:
            raise poplib.error_proto("a line is too long")
        return line.removesuffix(b"\n").removesuffix(b"\r"), len(line)

    def stream(self, number: int) -> Iterator[bytes]:
        """A message by chunks, where ``retr`` has all lines of it at once. Errors as that."""
        self._shortcmd(f"RETR {number}")  # type: ignore[attr-defined]
        return self._chunks()

    def _chunks(self) -> Iterator[bytes]:
        chunk = bytearray()
        while (line := self._getline()[0]) != b".":
            chunk += line[1:] if line.startswith(b"..") else line
            chunk += b"\r\n"
            if len(chunk) >= _CHUNK:
                yield bytes(chunk)
                chunk.clear()
        yield bytes(chunk)


class _LongLinesTls(poplib.POP3_SSL, _LongLines):
    """The same, with TLS from the beginning."""

    _getline = _LongLines._getline


class Pop3Origin:
    """See `mailserver.transfer.model.Origin`. A maildrop is for one session at a time, so there is only this one."""

    parallel = False

    def __init__(self, server: Server) -> None:
        self.identity = str(server)
        self._server = server
        self._numbers: dict[str, int] = {}  # of the messages in this session, by key
        self._connect()

    def _connect(self) -> None:
        self._closed = False
        try:
            self._pop = _connected(self._server)
        except (poplib.error_proto, OSError, EOFError) as error:
            raise SourceError(f"{self.identity}: {_text(error)}") from error

    def folders(self) -> Sequence[Folder]:
        """INBOX."""
        return [Folder(names.INBOX, names.INBOX)]

    def count(self, folder: Folder) -> int:
        """As STAT says."""
        try:
            return self._pop.stat()[0]
        except (poplib.error_proto, OSError, EOFError) as error:
            raise SourceError(f"{self.identity}: {_text(error)}") from error

    def subscriptions(self) -> Sequence[str]:
        """POP3 has none."""
        return []

    def contents(self, folder: Folder, since: Callable[[Folder], int] = from_nothing) -> Contents:
        """By unique-id; where the server has none, by what stands at the top of the message."""
        try:
            sizes = {int(number): int(size) for number, size in (line.split()[:2] for line in self._pop.list()[1])}
            ids = self._unique_ids(list(sizes))
        except (poplib.error_proto, OSError, EOFError, ValueError) as error:
            raise SourceError(f"{self.identity}: {_text(error)}") from error
        self._numbers = {key: number for number, (key, _) in ids.items()}
        return Contents(
            folder,
            [Item(f"{uidl}", number, size=sizes.get(number, 0), uidl=own) for number, (uidl, own) in ids.items()],
        )

    def keys(self, folder: Folder) -> Collection[str]:
        """See `mailserver.transfer.model.Origin`; a session sees the same all the time."""
        return [item.key for item in self.contents(folder).items]

    def _unique_ids(self, numbers: Sequence[int]) -> dict[int, tuple[str, str]]:
        try:
            lines = self._pop.uidl()[1]
        except poplib.error_proto:  # RFC 1939 section 7: UIDL is optional
            tops = {number: hashlib.sha256(b"\n".join(self._pop.top(number, 0)[1])).hexdigest() for number in numbers}
            return {number: (top, "") for number, top in tops.items()}
        pairs = [line.decode("latin-1").split()[:2] for line in lines]
        return {int(number): (uidl, uidl if _can_be_kept(uidl) else "") for number, uidl in pairs}

    def session(self) -> Pop3Origin:
        """The same: see the class. When it broke, another one, in which messages may have other numbers."""
        if self._closed:
            self._connect()
            self.contents(Folder(names.INBOX, names.INBOX))
        return self

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """One after the other. ``Item.uid`` was the number in the first session, and is no UID: the folder has none."""
        for item in items:
            number = self._numbers.get(item.key, 0)
            if number:
                try:
                    chunks = self._pop.stream(number)
                except (OSError, EOFError) as error:
                    raise LostError(f"{self.identity}: {_text(error)}") from error
                except poplib.error_proto as error:
                    raise WithheldError(f"message {number}: {_text(error)}") from error
                yield item, self._read(chunks)

    def _read(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from chunks
        except (OSError, EOFError, poplib.error_proto) as error:
            raise LostError(f"{self.identity}: {_text(error)}") from error

    def close(self) -> None:
        """QUIT, by which nothing is deleted; a second call does nothing."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(poplib.error_proto, OSError, EOFError):  # it is gone already
                self._pop.quit()
            self._pop.close()


def _can_be_kept(uidl: str) -> bool:
    return 0 < len(uidl) <= 70 and not uidl.startswith(":") and all("!" <= c <= "~" for c in uidl)


def _connected(server: Server) -> _LongLines:
    if server.tls:
        client: _LongLines = _LongLinesTls(server.host, server.port, context=server.context(), timeout=_TIMEOUT)
    else:
        client = _LongLines(server.host, server.port, timeout=_TIMEOUT)
    try:
        if not server.tls:
            _secure(client, server)
        client.user(server.user)
        client.pass_(server.password)
    except BaseException:
        client.close()
        raise
    return client


def _secure(client: poplib.POP3, server: Server) -> None:
    try:
        offered = "STLS" in client.capa()
    except poplib.error_proto:  # RFC 2449 section 5: an old server has no CAPA
        offered = False
    if offered:
        client.stls(context=server.context())
    else:
        server.refuse_clear()


def _text(error: BaseException) -> str:
    found = error.args[0] if isinstance(error, poplib.error_proto) and error.args else error
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
