"""Another IMAP server as a source of mail.

By ``imaplib`` of the standard library, which is kept as long as Python is, speaks TLS and literals, and leaves the
parsing of answers to us: what is asked here (LIST, LSUB, EXAMINE, UID FETCH) is little, and nothing more needs to be
installed. Nothing is changed there: folders are opened with EXAMINE, messages are read with BODY.PEEK.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from mailserver.mail import dates
from mailserver.store.model.flags import FLAG_BY_NAME
from mailserver.store.model.numbers import MAX_UID
from mailserver.store.tree import names
from mailserver.transfer import naming
from mailserver.transfer.model import (
    Contents,
    Folder,
    Item,
    LostError,
    Session,
    SourceError,
    WithheldError,
    from_nothing,
)
from mailserver.transfer.sources.url import Server

_LISTED = re.compile(rb'\(([^)]*)\) (?:"((?:\\.|[^"\\])*)"|NIL) (.*)', re.S)
_UID = re.compile(rb"\bUID (\d+)")
_FLAGS = re.compile(rb"\bFLAGS \(([^)]*)\)")
_DATE = re.compile(rb'\bINTERNALDATE ("[^"]*")')
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d+)")
_NAMESPACE = re.compile(rb'\(\("((?:\\.|[^"\\])*)" (?:"((?:\\.|[^"\\])*)"|NIL)')
_KEYWORD = re.compile(r"[^\s(){%*\"\\\]\x00-\x1f\x7f-\U0010ffff]+")
_NOT_SELECTABLE = (b"\\noselect", b"\\nonexistent")
_BODY = re.compile(rb'\bBODY\[\](?:<\d+>)? "((?:\\.|[^"\\])*)"', re.S)
_TIMEOUT = 120.0
_PORTION = 16 << 20  # octets of a message that are asked for at a time
Answer = list[bytes | tuple[bytes, bytes] | None]


class _Client:
    """A connection, logged in. SourceError; LostError when it broke."""

    def __init__(self, server: Server) -> None:
        self._selected = ""
        try:
            self._imap = _connected(server)
            answer = self._imap.capability()[1]  # after the login it may offer more
            self._capabilities = b" ".join(word for word in answer if isinstance(word, bytes)).upper().split()
            self._count_states()
        except (imaplib.IMAP4.error, OSError) as error:
            raise SourceError(f"{server}: {_text(error)}") from error

    def _count_states(self) -> None:
        """Say that we use them, for Dovecot counts them from then on only. RFC 7162 section 3.1."""
        if {b"CONDSTORE", b"ENABLE"} <= set(self._capabilities):
            self._imap.capabilities = tuple(word.decode("ascii", "replace") for word in self._capabilities)
            self._imap.enable("CONDSTORE")

    def ask(self, command: str, *words: str | bytes | bool) -> Answer:
        """A command by the name that imaplib has for it; its untagged answers."""
        try:
            method = getattr(self._imap, command)
            status, answer = method(*words)
        except imaplib.IMAP4.abort as error:
            raise LostError(f"the connection broke: {error}") from error
        except imaplib.IMAP4.error as error:
            raise SourceError(_text(error)) from error
        except OSError as error:
            raise LostError(f"the connection broke: {error}") from error
        if status != "OK":
            raise SourceError(f"{command}: {_text(answer[0])}")
        return list(answer)

    @property
    def has_namespace(self) -> bool:
        """As it says."""
        return b"NAMESPACE" in self._capabilities

    def examine(self, folder: Folder, *, again: bool = False) -> Folder:
        """Open it; with the numbers that it has now."""
        if self._selected == folder.source and not again:
            return folder
        self._selected = ""
        self.ask("select", _quoted(folder.source), True)  # read-only
        self._selected = folder.source
        return Folder(folder.name, folder.source, self._number("UIDVALIDITY"), max(self._number("UIDNEXT"), 1))

    def count(self) -> int:
        """Messages of the open folder."""
        return self._number("EXISTS")

    def modseq(self) -> int:
        """The state of the open folder when it was opened; 0 when the server counts none."""
        return self._number("HIGHESTMODSEQ")

    def _number(self, kind: str) -> int:
        texts = self._imap.untagged_responses.get(kind, [])
        found = [text for text in texts if isinstance(text, bytes) and text.isdigit()]
        return int(found[-1]) if found else 0

    def close(self) -> None:
        """Say goodbye."""
        with contextlib.suppress(imaplib.IMAP4.error, OSError):  # it is gone already
            self._imap.logout()
        with contextlib.suppress(OSError):  # what logout did not come to, because it failed
            self._imap.shutdown()


def _connected(server: Server) -> imaplib.IMAP4:
    if server.tls:
        client: imaplib.IMAP4 = imaplib.IMAP4_SSL(
            server.host, server.port, ssl_context=server.context(), timeout=_TIMEOUT
        )
    else:
        client = imaplib.IMAP4(server.host, server.port, timeout=_TIMEOUT)
    try:
        if not server.tls and "STARTTLS" in client.capabilities:
            client.starttls(ssl_context=server.context())
        elif not server.tls:
            server.refuse_clear()
        if "AUTH=PLAIN" in client.capabilities:
            client.authenticate("PLAIN", lambda _: b"\0%s\0%s" % (_octets(server.user), _octets(server.password)))
        else:
            _log_in(client, server)
    except BaseException:
        with contextlib.suppress(imaplib.IMAP4.error, OSError):  # the first error is the one to report
            client.shutdown()
        raise
    return client


def _log_in(client: imaplib.IMAP4, server: Server) -> None:
    """As ``client.login`` does, which sends a user's name as it is, and has no word for what is not ASCII."""
    words = (_quoted(server.user), _quoted(server.password))
    status, answer = client.xatom("LOGIN", *words)  # type: ignore[arg-type]  # it takes octets, too
    if status != "OK":
        raise imaplib.IMAP4.error(answer[-1])
    client.state = "AUTH"


def _text(error: object) -> str:
    found = error.args[0] if isinstance(error, imaplib.IMAP4.error) and error.args else error
    if isinstance(error, ssl.SSLCertVerificationError):
        found = f"its certificate is not trusted: {error.verify_message}"
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    return " ".join(text.split())


class ImapOrigin:
    """See `mailserver.transfer.model.Origin`."""

    parallel = True

    def __init__(self, server: Server) -> None:
        self._server = server
        self.identity = str(server)
        self._client = _Client(server)
        self._prefix: str | None = None
        self._others: tuple[str, ...] = ()

    def _ask(self, command: str, *words: bytes) -> Answer:
        """Once more by a new connection, if the server has hung up on one that was idle."""
        try:
            return self._client.ask(command, *words)
        except LostError:
            self._client.close()
            self._client = _Client(self._server)
            return self._client.ask(command, *words)

    def folders(self) -> Sequence[Folder]:
        """All that can be selected; those of other users are left out."""
        listed = [line for line in map(_parse_list, self._ask("list", b'""', b'"*"')) if line is not None]
        prefix = self._find_prefix([(raw, delimiter) for _, delimiter, raw in listed])
        return [
            Folder(naming.from_imap(raw, delimiter, prefix), raw)
            for flags, delimiter, raw in listed
            if not any(flag in flags for flag in _NOT_SELECTABLE) and self._is_personal(raw, delimiter)
        ]

    def _find_prefix(self, listed: Sequence[tuple[str, str]]) -> str:
        if self._prefix is None:
            delimiter = next((d for _, d in listed if d), "")
            self._prefix = naming.common_prefix([raw for raw, _ in listed], delimiter)
            if self._client.has_namespace:
                personal, *others = _namespaces(self._ask("namespace"))
                self._prefix = personal or self._prefix
                self._others = tuple(others)
        return self._prefix

    def _is_personal(self, raw: str, delimiter: str) -> bool:
        return not any(other and f"{raw}{delimiter}".startswith(other) for other in self._others)

    def count(self, folder: Folder) -> int:
        """As STATUS says."""
        answer = self._ask("status", _quoted(folder.source), b"(MESSAGES)")
        found = re.search(rb"MESSAGES (\d+)", b" ".join(line for line in answer if isinstance(line, bytes)))
        return int(found[1]) if found else 0

    def subscriptions(self) -> Sequence[str]:
        """As LSUB says. A name that cannot be selected is there for those below it, if there are any."""
        listed = [line for line in map(_parse_list, self._ask("lsub", b'""', b'"*"')) if line is not None]
        prefix = self._find_prefix([(raw, delimiter) for _, delimiter, raw in listed])
        return [
            naming.from_imap(raw, delimiter, prefix)
            for flags, delimiter, raw in listed
            if self._is_personal(raw, delimiter)
            and not (b"\\noselect" in flags and any(r.startswith(raw + delimiter) for _, _, r in listed if r != raw))
        ]

    def contents(self, folder: Folder, since: Callable[[Folder], int] = from_nothing) -> Contents:
        """One FETCH: over all, or over what changed since the state that is known. RFC 7162 section 3.1.4.1."""
        self._ask("noop")
        folder = self._client.examine(folder, again=True)
        count, modseq = self._client.count(), self._client.modseq()
        known = since(folder)
        changed = 0 < known <= modseq
        if not count or (changed and known == modseq):
            return Contents(folder, [], count, modseq)
        extra = [b"(CHANGEDSINCE %d)" % known] if changed else []
        answer = self._client.ask("uid", "FETCH", b"1:*", b"(UID FLAGS INTERNALDATE RFC822.SIZE)", *extra)
        found: dict[int, Item] = {}
        for line in answer:
            _take_item(found, line)
        return Contents(folder, [found[uid] for uid in sorted(found)], count if changed else -1, modseq)

    def keys(self, folder: Folder) -> Collection[str]:
        """One FETCH, not a SEARCH: its answer is a line, which may be too long for imaplib."""
        self._ask("noop")
        self._client.examine(folder, again=True)
        count = self._client.count()
        answer = self._client.ask("uid", "FETCH", b"1:*", b"(UID)") if count else []
        found = {uid[1].decode() for line in answer if isinstance(line, bytes) and (uid := _UID.search(line))}
        if len(found) < count:
            raise SourceError(f"{folder.source}: FETCH does not find all messages, so what is gone cannot be told")
        return found

    def session(self) -> Session:
        """A further connection."""
        return _ImapSession(self._server)

    def close(self) -> None:
        """Say goodbye."""
        self._client.close()


class _ImapSession:
    def __init__(self, server: Server) -> None:
        self._client = _Client(server)

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """One FETCH for all of them: who calls sees to it that they are not too many. A large one by portions."""
        now = self._client.examine(folder)
        if now.uidvalidity != folder.uidvalidity:
            raise SourceError(f"{folder.source}: it was replaced while it was read")
        wanted = {item.uid: item for item in items if item.size <= _PORTION}
        for uid, octets in self._bodies(list(wanted), b"") if wanted else ():
            item = wanted.pop(uid, None)
            if item is not None:
                yield item, (octets,)
        for item in items:
            if item.size > _PORTION:
                first = self._portion(item, 0)
                if first is not None:
                    yield item, self._portions(item, first)

    def _portions(self, item: Item, octets: bytes) -> Iterator[bytes]:
        """From the first on. A portion that is short is the last, if so many octets were announced."""
        done = 0
        while octets:
            yield octets
            done += len(octets)
            if len(octets) < _PORTION and done >= item.size:
                return
            following = self._portion(item, done)
            if following is None:
                raise LostError(f"message {item.uid} went while it was read")
            octets = following

    def _portion(self, item: Item, start: int) -> bytes | None:
        return dict(self._bodies([item.uid], b"<%d.%d>" % (start, _PORTION))).get(item.uid)

    def _bodies(self, uids: Sequence[int], part: bytes) -> Iterator[tuple[int, bytes]]:
        """UIDs and octets. WithheldError when the server says NO."""
        try:
            answer = self._client.ask(
                "uid", "FETCH", b",".join(b"%d" % uid for uid in uids), b"(UID BODY.PEEK[]%s)" % part
            )
        except LostError:
            raise
        except SourceError as error:
            raise WithheldError(f"message {uids[0]}: {error}") from error
        for i, line in enumerate(answer):
            if isinstance(line, tuple):
                behind = answer[i + 1] if i + 1 < len(answer) and isinstance(answer[i + 1], bytes) else b""
                uid = _UID.search(line[0]) or _UID.search(behind if isinstance(behind, bytes) else b"")
                octets = line[1]
            elif line is not None and (short := _BODY.search(line)):  # RFC 9051 section 4.3: a string may be quoted
                uid, octets = _UID.search(line), _unescaped(short[1])
            else:
                continue
            if uid:
                yield int(uid[1]), octets

    def close(self) -> None:
        self._client.close()


def _parse_list(line: bytes | tuple[bytes, bytes] | None) -> tuple[list[bytes], str, str] | None:
    """Flags in lower case, delimiter and name of an answer to LIST or LSUB."""
    head = line[0] if isinstance(line, tuple) else line
    found = _LISTED.match(head) if head else None
    if found is None:
        return None
    raw = line[1] if isinstance(line, tuple) else _unquoted(found[3])
    flags, delimiter = found[1].lower().split(), _unescaped(found[2] or b"")
    return flags, delimiter.decode("utf-8", "surrogateescape"), raw.decode("utf-8", "surrogateescape")


def _unquoted(text: bytes) -> bytes:
    text = text.strip()
    return _unescaped(text[1:-1]) if text[:1] == b'"' and text[-1:] == b'"' else text


def _unescaped(text: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", text)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _quoted(name: str) -> bytes:
    octets = _octets(name)
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", octets) + b'"'


def _namespaces(answer: Answer) -> list[str]:
    """The prefix of personal folders, and those of other people's and of shared ones."""
    text = answer[0] if answer and isinstance(answer[0], bytes) else b""
    personal, _, others = text.partition(b")) ")
    if text.startswith(b"NIL"):
        personal, others = b"", text[3:]
    own = _NAMESPACE.match(personal + b"))")
    prefix = _unescaped(own[1]).decode("utf-8", "surrogateescape") if own else ""
    found = [_unescaped(m[1]).decode("utf-8", "surrogateescape") for m in _NAMESPACE.finditer(others)]
    return ["" if prefix.upper() == names.INBOX else prefix, *(other for other in found if other != prefix)]


def _take_item(found: dict[int, Item], line: bytes | tuple[bytes, bytes] | None) -> None:
    """What a line tells of a message, beside what is known of it: a server may tell new flags at any moment."""
    if not isinstance(line, bytes):
        return
    uid, flags, date, size = (pattern.search(line) for pattern in (_UID, _FLAGS, _DATE, _SIZE))
    if uid is None or not 0 < int(uid[1]) < MAX_UID:
        return
    item = found.get(int(uid[1])) or Item(uid[1].decode(), int(uid[1]))
    if flags:
        words = flags[1].decode("ascii", "replace").split()
        bits = 0
        for word in words:
            bits |= FLAG_BY_NAME.get(word.lower(), 0)
        item = replace(item, flags=bits, keywords=frozenset(word for word in words if _KEYWORD.fullmatch(word)))
    if date:
        with contextlib.suppress(ValueError):  # a server that writes it in another way: the message has dates, too
            item = replace(item, date=int(dates.parse_internal(date[1]).timestamp()))
    if size:
        item = replace(item, size=int(size[1]))
    found[item.uid] = item
