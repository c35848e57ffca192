"""Files and memory brought back into agreement: what each disagreement means.

A name that is known: nothing happened.
A known base with other flags, or in the other directory: somebody changed flags, or moved it from ``new`` to ``cur``.
No file of a known base, seen so twice: expunged. (Once is not enough: a listing may miss a file renamed meanwhile.)
An unknown base: a message arrived.
A base twice: the second is a message of its own; but one inode under two names loses one of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mailserver.store.formats.maildir.filename import base_of, unique
from mailserver.store.formats.maildir.folder import MaildirFolder
from mailserver.store.model.message import Message


@dataclass(slots=True)
class Difference:
    """What happened on disk."""

    renamed: list[tuple[Message, str]] = field(default_factory=list)
    vanished: list[Message] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.renamed or self.vanished or self.arrived)


def compare(folder: MaildirFolder, known: Sequence[Message]) -> Difference:
    """Look at the directories and say what differs from ``known``. Under the folder's lock."""
    names = folder.list()
    found = _difference(folder, known, names)
    if found.vanished:  # look again before believing it
        found = _difference(folder, known, _union(names, folder.list(), folder.facts))
    return found


def _union(first: list[str], second: list[str], facts: Callable[[str], object]) -> list[str]:
    missed = set(first) - set(second)
    return second + [name for name in missed if facts(name) is not None]


def _difference(folder: MaildirFolder, known: Sequence[Message], names: list[str]) -> Difference:
    on_disk = set(names)
    by_file = {m.file for m in known}
    fresh = [n for n in names if n not in by_file]
    gone = [m for m in known if m.file not in on_disk]
    if not fresh and not gone:
        return Difference()
    missing = {base_of(m.file): m for m in gone}
    present = {base_of(n): n for n in names if n in by_file} if fresh else {}
    result = Difference()
    for name in fresh:
        base = base_of(name)
        if base in missing:
            result.renamed.append((missing.pop(base), name))
            present[base] = name
        elif base in present:
            own = _separate(folder, present[base], name)
            if own is not None:
                result.arrived.append(own)
        else:
            present[base] = name
            result.arrived.append(name)
    result.vanished = list(missing.values())
    return result


def _separate(folder: MaildirFolder, kept: str, other: str) -> str | None:
    """Two files of one base: give the second one a base of its own, or drop it when it is the first one again.

    It gets its own name before the two are compared: two names that somebody renames to and fro look alike, one after
    the other, and to unlink the second would remove the only one.
    """
    part, _, flags = other.partition(":")
    own = f"{part[:4]}{unique()}" + (":" + flags if flags else "")
    if not folder.rename(other, own):
        return None
    try:
        same = os.path.samefile(f"{folder.path}/{kept}", f"{folder.path}/{own}")
    except FileNotFoundError:  # one message after all, renamed while we listed: its next name is as good as any
        folder.rename(own, other)
        return None
    if same:
        folder.unlink(own)
        return None
    return own
