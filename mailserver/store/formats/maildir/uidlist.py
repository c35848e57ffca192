"""``dovecot-uidlist``: the UIDs of a folder, their one and only home.

Version 3: a header ``3 V<uidvalidity> N<next uid> G<guid>``, then lines ``<uid> [<key><value> ...] :<base>`` with
ascending UIDs. Lines are appended under the folder's lock; now and then the file is rewritten by rename. A base named
twice has the later UID. Version 1 (``1 <uidvalidity> <next uid>``, lines ``<uid> <file>``) is read, and rewritten
before anything is appended.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.syncing import sync_file, sync_path
from mailserver.store.model.numbers import MAX_UID

NAME = "dovecot-uidlist"
_HEADER3 = re.compile(rb"3((?: [A-Za-z][^ \n]*)*)\n")
_HEADER1 = re.compile(rb"1 (\d+) (\d+)\n")
_LINE3 = re.compile(rb"^(\d{1,10})((?: [A-Z][^ \n:][^ \n]*)*) :([^\n]+)\n", re.M)
_LINE1 = re.compile(rb"^(\d{1,10}) ([^\n]+)\n", re.M)

Signature = tuple[int, int, int]  # inode, size, mtime in ns: whether the file is the one we know


@dataclass(frozen=True, slots=True)
class Entry:
    """A line: the UID and, verbatim, its further fields (``P`` POP3 UIDL, ``O`` POP3 order, ``G`` GUID, sizes)."""

    uid: int
    fields: str = ""

    def value(self, key: str) -> str | None:
        """The value of one field, None where the line has none."""
        for word in self.fields.split(" "):
            if word.startswith(key):
                return word[1:]
        return None


@dataclass(slots=True)
class UidList:
    """The file in memory. ``entries`` maps a base to its line; ``lines`` counts lines, dead ones included."""

    uidvalidity: int
    next_uid: int = 1
    guid: str = field(default_factory=lambda: secrets.token_hex(16))
    header_fields: str = ""  # header words that we do not interpret: kept
    entries: dict[str, Entry] = field(default_factory=dict)
    lines: int = 0
    signature: Signature | None = None
    old: bool = False  # the file is of version 1, or its lines end with CRLF: nothing can be appended
    torn: int = -1  # size without the half line at the end that a crash left; -1: there is none


def sign(path: str) -> Signature | None:
    """Which file stands there now, None when there is none."""
    try:
        st = os.stat(path)
    except FileNotFoundError:
        return None
    return st.st_ino, st.st_size, st.st_mtime_ns


def read(path: str) -> UidList | None:
    """Read the whole file, None when there is none; StoreError CORRUPT when its header cannot be understood."""
    try:
        with open(path, "rb") as f:
            st = os.fstat(f.fileno())
            data = f.read()
    except FileNotFoundError:
        return None
    if not data:
        return None
    crlf = data[: data.find(b"\n")].endswith(b"\r")  # somebody copied it as a text
    found = _parse(data.replace(b"\r\n", b"\n") if crlf else data)
    found.old = found.old or crlf
    if not data.endswith(b"\n"):
        found.torn = data.rfind(b"\n") + 1
    found.signature = (st.st_ino, st.st_size, st.st_mtime_ns)
    return found


def _parse(data: bytes) -> UidList:
    if m := _HEADER3.match(data):
        words = {w[:1]: w[1:] for w in m[1].decode("ascii", "replace").split()}
        if not words.get("V", "").isdecimal():
            raise StoreError(Kind.CORRUPT, "the list of UIDs has no UIDVALIDITY")
        rest = " ".join(k + v for k, v in words.items() if k not in "VNG")
        guid = words.get("G") or secrets.token_hex(16)
        found = UidList(int(words["V"]), int(n) if (n := words.get("N", "")).isdecimal() else 1, guid, rest)
        add_lines(found, data[m.end() :])
        return found
    if m := _HEADER1.match(data):
        found = UidList(int(m[1]), int(m[2]), old=True)
        for line in _LINE1.finditer(data, m.end()):
            base = os.fsdecode(line[2]).partition(":")[0]
            found.entries[base] = Entry(int(line[1]))
            found.lines += 1
        found.next_uid = max([found.next_uid, *(e.uid + 1 for e in found.entries.values())])
        return found
    raise StoreError(Kind.CORRUPT, "the list of UIDs has an unknown header")


def add_lines(uidlist: UidList, data: bytes) -> list[str]:
    """Take in further lines of version 3; returns their bases."""
    added = []
    highest = uidlist.next_uid - 1
    for uid_text, fields, name in _LINE3.findall(data):
        uid = int(uid_text)
        if not 0 < uid <= MAX_UID:
            continue
        base = os.fsdecode(name).partition(":")[0]
        uidlist.entries[base] = Entry(uid, fields.decode("utf-8", "surrogateescape").strip())
        highest = max(highest, uid)
        added.append(base)
    uidlist.lines += len(added)
    uidlist.next_uid = highest + 1
    return added


def render(uidlist: UidList, bases: Iterable[tuple[str, Entry]]) -> bytes:
    """The whole file with these lines."""
    extra = f" {uidlist.header_fields}" if uidlist.header_fields else ""
    header = f"3 V{uidlist.uidvalidity} N{uidlist.next_uid} G{uidlist.guid}{extra}\n"
    return header.encode() + lines_of(bases)


def lines_of(bases: Iterable[tuple[str, Entry]]) -> bytes:
    """Lines as they are appended."""
    text = "".join(f"{e.uid} {e.fields} :{base}\n" if e.fields else f"{e.uid} :{base}\n" for base, e in bases)
    return os.fsencode(text)


def write(path: str, uidlist: UidList, live: Mapping[str, Entry], *, sync: bool) -> None:
    """Replace the file by one with only these lines; the new file is complete before it takes the name."""
    temporary = path + ".tmp"
    ordered = sorted(live.items(), key=lambda item: item[1].uid)
    with open(temporary, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(render(uidlist, ordered))
        f.flush()
        if sync:
            sync_file(f.fileno())
    os.rename(temporary, path)
    if sync:  # else the old list may come back after a power loss, without the lines that the new one got
        sync_path(os.path.dirname(path))
    uidlist.torn, uidlist.old = -1, False
    uidlist.entries = dict(ordered)
    uidlist.lines = len(ordered)
    uidlist.signature = sign(path)


def append(path: str, uidlist: UidList, added: Iterable[tuple[str, Entry]]) -> None:
    """Append lines in one write; the caller syncs. A half line that a crash left goes first: ours must not end it."""
    pairs = list(added)
    if uidlist.old:
        _renew(path, uidlist)
    data = lines_of(pairs)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        if uidlist.torn >= 0:
            os.ftruncate(fd, uidlist.torn)
            uidlist.torn = -1
        written = os.write(fd, data)
        if written != len(data):  # a full disk: take the half line away again
            os.ftruncate(fd, os.fstat(fd).st_size - written)
            raise OSError(28, os.strerror(28), path)
        st = os.fstat(fd)
    finally:
        os.close(fd)
    uidlist.entries.update(pairs)
    uidlist.lines += len(pairs)
    uidlist.next_uid = max([uidlist.next_uid, *(e.uid + 1 for _, e in pairs)])
    uidlist.signature = (st.st_ino, st.st_size, st.st_mtime_ns)


def _renew(path: str, uidlist: UidList) -> None:
    """Make version 3 of it, with all lines of the file: those in memory may have been used and forgotten."""
    whole = read(path) or uidlist
    whole.guid, whole.next_uid = uidlist.guid, max(whole.next_uid, uidlist.next_uid)
    write(path, whole, dict(whole.entries), sync=True)
    uidlist.old, uidlist.torn, uidlist.lines, uidlist.signature = False, -1, whole.lines, whole.signature


def follow(path: str, uidlist: UidList) -> UidList | None:
    """The list as it stands now: the same object when the file only grew, a new one when it was replaced."""
    now = sign(path)
    if now == uidlist.signature:
        return uidlist
    old = uidlist.signature
    if now is None or old is None or uidlist.old or now[0] != old[0] or now[1] < old[1]:
        return read(path)
    with open(path, "rb") as f:
        f.seek(old[1])
        tail = f.read()
        st = os.fstat(f.fileno())
    if not tail.endswith(b"\n"):  # a line torn by a full disk or a crash: read it all with the usual care
        return read(path)
    add_lines(uidlist, tail)
    uidlist.signature = (st.st_ino, st.st_size, st.st_mtime_ns)
    return uidlist
