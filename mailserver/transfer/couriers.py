"""A Maildir with our books is given Courier's: UIDs, keywords, subscriptions, names in UTF-8, POP3's unique-ids.

Courier makes a unique-id of numbers (``UID<uid>-<uidvalidity>``) or takes the file's name. So a file of the INBOX whose
unique-id has another form is renamed to it. Courier's POP3 order is that of the names. It believes that lines of a file
end with LF, whereas ours end with CRLF.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from mailserver.mail import mutf7
from mailserver.store import names, subscriptions, takeover
from mailserver.store.formats.maildir import courier, filename, keywords, sizelist, uidlist
from mailserver.store.formats.maildir.uidlist import Entry
from mailserver.store.layout import LAYOUTS

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
    for directory in ("", *sorted(_LAYOUT.walk(root).directories)):
        _folder(f"{root}/{directory}" if directory else root, lost, drop=not directory)
    found = subscriptions.read(f"{root}/{subscriptions.NAME}")
    lines = ["INBOX" if name == names.INBOX else "INBOX." + name.replace("/", ".") for name in found]
    _write(f"{root}/{takeover.SUBSCRIBED}", "".join(f"{line}\n" for line in lines))
    for directory in _LAYOUT.walk(root).directories:
        lost.names += _to_utf8(root, directory)
    return lost


def to_ours(root: str) -> None:
    """Give the folders the names back that we know. OSError."""
    for directory in sorted(os.listdir(root)):
        if directory.startswith(".") and os.path.isdir(f"{root}/{directory}/cur"):
            takeover.rename(root, directory)


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


def _folder(path: str, lost: Lost, *, drop: bool) -> None:
    """One folder; ``drop``: it is the INBOX, which POP3 shows."""
    listed = uidlist.read(f"{path}/{uidlist.NAME}")
    if listed is None:
        return
    files = _files(path)
    live = {base: entry for base, entry in listed.entries.items() if base in files}
    ordered = sorted(live.items(), key=lambda item: (int(item[1].value("O") or 1 << 62), item[1].uid))
    table = keywords.read(f"{path}/{keywords.NAME}")
    renamed: dict[str, Entry] = {}
    ids, words = [], [*table, ""]  # an empty line ends the keywords
    for place, (base, entry) in enumerate(ordered):
        new = _base(place, entry, base) if drop else _SIZES.sub("", base)
        renamed[new] = entry
        size = _settle(path, files[base], new)
        ids.append(_unique_id(new, entry, size, lost) if drop else "")
        letters = filename.parse(files[base]).letters
        if letters:
            words.append(f"{new}:" + " ".join(str(ord(letter) - 97) for letter in letters))
    uidlist.write(f"{path}/{uidlist.NAME}", listed, renamed, sync=True)
    by_uid = sorted(renamed.items(), key=lambda item: item[1].uid)
    lines = [f"1 {listed.uidvalidity} {listed.next_uid}", *(f"{entry.uid} {base}" for base, entry in by_uid)]
    os.makedirs(f"{path}/{courier.KEYWORDS}", mode=0o700, exist_ok=True)
    _write(f"{path}/{courier.KEYWORDS}/{courier.LIST}", "".join(f"{line}\n" for line in words))
    _write(f"{path}/{courier.UIDDB}", "".join(f"{line}\n" for line in lines))
    if drop:
        lost.order = list(renamed) != sorted(renamed)
        _write(f"{path}/{sizelist.NAME}", f"/3 {listed.next_uid} {listed.uidvalidity}\n" + "".join(ids))


def _base(place: int, entry: Entry, base: str) -> str:
    """What a file of the INBOX shall be called: its unique-id, or, where numbers make that, something in order."""
    uidl = entry.value("P") or ""
    if not _NUMBERS.fullmatch(uidl) and _SAFE.fullmatch(uidl):
        return uidl
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
