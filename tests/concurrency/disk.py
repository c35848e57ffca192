"""What lies on disk, read without the product's own code: flags by UID, and the hand of a foreign program."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
from pathlib import Path

from tests.concurrency import mbox

_LETTERS = {"D": "\\draft", "F": "\\flagged", "R": "\\answered", "S": "\\seen", "T": "\\deleted"}
_counter = itertools.count()


def inbox(account: Path) -> Path:
    """Where INBOX is, in either format."""
    return account / ".INBOX" if (account / ".INBOX").exists() else account


def base(name: str) -> str:
    return name.partition(":")[0]


def uids(folder: Path) -> dict[str, int]:
    """Base of the file name -> UID; the later line wins."""
    lines = (folder / "dovecot-uidlist").read_text().splitlines()[1:]
    return {name: int(uid) for uid, name in (re.fullmatch(r"(\d+)[^:]* :(.*)", line).groups() for line in lines)}  # type: ignore[union-attr]


def flags(folder: Path) -> dict[int, frozenset[str]]:
    """UID -> flags in small letters, as file names and dovecot-keywords have them, or an mbox."""
    if folder.is_file():
        return mbox.flags(folder)
    words: dict[str, str] = {}
    if (folder / "dovecot-keywords").exists():
        for line in (folder / "dovecot-keywords").read_text().splitlines():
            number, word = line.split(" ")
            words[chr(97 + int(number))] = word.lower()
    known = uids(folder)
    found = {}
    for name in os.listdir(folder / "new"):
        found[known[base(name)]] = frozenset[str]()
    for name in os.listdir(folder / "cur"):
        letters = name.partition(":2,")[2]
        found[known[base(name)]] = frozenset({**_LETTERS, **words}[letter] for letter in letters)
    return found


def deliver(folder: Path, octets: bytes, part: str = "new") -> None:
    """As another MDA does: written in tmp/, moved to new/."""
    if folder.is_file():
        mbox.deliver(folder, octets)
        return
    name = f"17{os.getpid():07d}.F{next(_counter)}.foreign"
    (folder / "tmp" / name).write_bytes(octets)
    os.rename(folder / "tmp" / name, folder / part / (name if part == "new" else name + ":2,"))


def reflag(folder: Path, rng: random.Random) -> None:
    """As another program changes flags: by renaming."""
    if folder.is_file():
        mbox.reflag(folder, rng)
        return
    part = rng.choice(("cur", "cur", "new"))
    names = os.listdir(folder / part)
    if names:
        name = rng.choice(names)
        old = set(name.partition(":2,")[2])
        new = old ^ set(rng.sample("FRS", rng.randint(0, 2)))
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder / part / name, folder / "cur" / f"{base(name)}:2,{''.join(sorted(new))}")


def remove_index(account: Path) -> None:
    """As an administrator does: under load, without asking."""
    for suffix in ("", "-wal", "-shm"):
        (account / f"mailserver.sqlite{suffix}").unlink(missing_ok=True)
