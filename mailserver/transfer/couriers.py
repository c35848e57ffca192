"""A Maildir with our books is given Courier's: UIDs, keywords, subscriptions, names in UTF-8, POP3's unique-ids.

Courier makes a unique-id of numbers (``UID<uid>-<uidvalidity>``) or takes the file's name. So a file of the INBOX whose
unique-id has another form is renamed to it. Courier's POP3 order is that of the names. It believes that lines of a file
end with LF, whereas ours end with CRLF.

Files are renamed first, and their new names are written into our list of UIDs afterwards. Whoever dies in between
leaves files that the list does not know. It alone says what a file is to be called, so `to_ours` finds them by that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailserver.mail import mutf7
from mailserver.store.formats.maildir import courier, filename, keywords, sizelist, uidlist
from mailserver.store.formats.maildir.syncing import sync_path
from mailserver.store.formats.maildir.uidlist import Entry, UidList
from mailserver.store.tree import names, subscriptions, takeover
from mailserver.store.tree.layout import LAYOUTS

_NUMBERS = re.compile(r"UID(\d{1,10})(?:-(\d{1,10}))?")
_SAFE = re.compile(r"[A-Za-z0-9_=][A-Za-z0-9._=,-]*")
_SIZES = re.compile(r",[SW]=\d+")  # they would not be true any more
_LAYOUT = LAYOUTS["maildir++"]


@dataclass(slots=True)
class Lost:
    """What Courier's books cannot hold."""

    unique_ids: int = 0  # messages whose unique-id will be another one
    order: bool = False  # POP3 will show the messages in another order
    names: int = 0  # folders whose names have a dot within a level, or cannot be renamed


def write(root: str) -> Lost:
    """Write all of it; idempotent. The Maildir must be at rest. OSError, StoreError."""
    lost = Lost()
    for path, inbox in _folders(root):
        _folder(path, lost, drop=inbox)
    found = subscriptions.read(f"{root}/{subscriptions.NAME}")
    lines = ["INBOX" if name == names.INBOX else "INBOX." + name.replace("/", ".") for name in found]
    _write(f"{root}/{takeover.SUBSCRIBED}", "".join(f"{line}\n" for line in lines))
    for directory in _LAYOUT.walk(root).directories:
        lost.names += _to_utf8(root, directory)
    return lost


def to_ours(root: str) -> None:
    """Give the folders the names back that we know, and the list of UIDs those of files that `write`, having died, had
    renamed. OSError, StoreError."""
    for directory in sorted(os.listdir(root)):
        if directory.startswith(".") and os.path.isdir(f"{root}/{directory}/cur"):
            takeover.rename(root, directory)
    for path, inbox in _folders(root):
        _recover(path, drop=inbox)


def _folders(root: str) -> list[tuple[str, bool]]:
    """The places of all folders, and which one is the INBOX, the only one that POP3 shows."""
    return [(root, True), *((f"{root}/{directory}", False) for directory in sorted(_LAYOUT.walk(root).directories))]


def _to_utf8(root: str, directory: str) -> int:
    if "\\" in directory:
        return 1
    new = "".join("." + mutf7.decode(level) for level in directory[1:].split("."))
    if new == directory:
        return 0
    if "/" in new or os.path.lexists(f"{root}/{new}"):
        return 1
    os.rename(f"{root}/{directory}", f"{root}/{new}")
    return 0


def _recover(path: str, *, drop: bool) -> None:
    listed = uidlist.read(f"{path}/{uidlist.NAME}")
    if listed is None:
        return
    files = _files(path)
    moved = {base: new for base, _, new in _bases(listed, drop=drop) if base not in files and new in files}
    if moved:
        entries = {moved.get(base, base): entry for base, entry in listed.entries.items()}
        uidlist.write(f"{path}/{uidlist.NAME}", listed, entries, sync=True)


def _bases(listed: UidList, *, drop: bool) -> Iterator[tuple[str, Entry, str]]:
    """What each file is called, its line, and what it shall be called, in POP3's order. Depends on the list only."""
    taken: set[str] = set()
    ordered = sorted(listed.entries.items(), key=lambda item: (int(item[1].value("O") or 1 << 62), item[1].uid))
    for place, (base, entry) in enumerate(ordered):
        new = _base(place, entry) if drop else _SIZES.sub("", base)
        if new in taken or (new != base and new in listed.entries):  # a unique-id that two messages have
            new = _numbered(place, entry)
        taken.add(new)
        yield base, entry, new


def _folder(path: str, lost: Lost, *, drop: bool) -> None:
    """One folder; ``drop``: it is the INBOX."""
    listed = uidlist.read(f"{path}/{uidlist.NAME}")
    if listed is None:
        return
    files = _files(path)
    table = keywords.read(f"{path}/{keywords.NAME}")
    renamed: dict[str, Entry] = {}
    ids, words = [], [*table, ""]  # an empty line ends the keywords
    for base, entry, new in list(_bases(listed, drop=drop)):
        if base not in files:  # its message is gone
            continue
        renamed[new] = entry
        size = _settle(path, files[base], new)
        ids.append(_unique_id(new, entry, size, lost) if drop else "")
        letters = filename.parse(files[base]).letters
        if letters:
            words.append(f"{new}:" + " ".join(str(ord(letter) - 97) for letter in letters))
    _sync(path)
    uidlist.write(f"{path}/{uidlist.NAME}", listed, renamed, sync=True)
    by_uid = sorted(renamed.items(), key=lambda item: item[1].uid)
    lines = [f"1 {listed.uidvalidity} {listed.next_uid}", *(f"{entry.uid} {base}" for base, entry in by_uid)]
    os.makedirs(f"{path}/{courier.KEYWORDS}", mode=0o700, exist_ok=True)
    _write(f"{path}/{courier.KEYWORDS}/{courier.LIST}", "".join(f"{line}\n" for line in words))
    _write(f"{path}/{courier.UIDDB}", "".join(f"{line}\n" for line in lines))
    if drop:
        lost.order = list(renamed) != sorted(renamed)
        _write(f"{path}/{sizelist.NAME}", f"/3 {listed.next_uid} {listed.uidvalidity}\n" + "".join(ids))


def _sync(path: str) -> None:
    for part in ("cur", "new"):
        sync_path(f"{path}/{part}")


def _base(place: int, entry: Entry) -> str:
    """What a file of the INBOX shall be called: its unique-id, or, where numbers make that, something in order."""
    uidl = entry.value("P") or ""
    if not _NUMBERS.fullmatch(uidl) and _SAFE.fullmatch(uidl):
        return uidl
    return _numbered(place, entry)


def _numbered(place: int, entry: Entry) -> str:
    return f"{1_000_000_000 + place}.U{entry.uid}.export"


def _unique_id(base: str, entry: Entry, size: int, lost: Lost) -> str:
    """The line of ``courierpop3dsizelist``."""
    uidl = entry.value("P") or ""
    numbers = _NUMBERS.fullmatch(uidl)
    lost.unique_ids += not numbers and base != uidl
    uid, validity = (numbers[1], numbers[2] or 0) if numbers else (0, 0)
    return f"{base}:2, {size} {uid}:{validity}:0\n"  # without the colon Courier does not know it again


def _settle(path: str, file: str, base: str) -> int:
    """Give a file this base, in ``cur``, for Courier gives what it finds in ``new`` a new UID; with LF, for it makes
    CRLF of every LF. Returns the octets with CRLF.
    """
    old = f"{path}/{file}"
    info = file.partition(":")[2] if file.startswith("cur/") else ""
    new = f"{path}/cur/{base}:{info or '2,'}"
    with open(old, "rb") as source:
        st, data = os.fstat(source.fileno()), source.read()
    octets = data.replace(b"\r\n", b"\n")
    if len(octets) != len(data):
        temporary = f"{path}/tmp/{base}"  # noqa: S108 - a Maildir has a tmp of its own
        with open(temporary, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(octets)
            f.flush()
            os.utime(f.fileno(), ns=(st.st_atime_ns, st.st_mtime_ns))
            os.fsync(f.fileno())
        os.rename(temporary, old)
    if new != old:
        os.rename(old, new)
    return len(octets) + octets.count(b"\n")


def _files(path: str) -> dict[str, str]:
    found = [f"{part}/{name}" for part in ("new", "cur") for name in os.listdir(f"{path}/{part}") if name[0] != "."]
    return {filename.base_of(file): file for file in found}


def _write(path: str, text: str) -> None:
    temporary = f"{path}.tmp"
    with open(temporary, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(os.fsencode(text))
        f.flush()
        os.fsync(f.fileno())
    os.rename(temporary, path)
