"""``mailserver-imported``: which messages were imported, from where, what they are here, and what flags they had there.

A line of JSON for each few messages, appended and synced when they are safe. A half line at the end, which a crash
left, is passed over. Only one import of an account runs at a time: whoever writes holds a lock on the file. Lines are:

========================================================================  =============================================
``source folder uidvalidity as numbers settles done={key: [uid, ...]}``   these are here; flags, words are those there
``source folder uidvalidity begun={base: [uid, fields]}``                 these files are about to become messages
``source folder uidvalidity was as``                                      all messages here have another UIDVALIDITY now
``source folder uidvalidity modseq``                                      up to this state everything was brought over
``source subscribed={name: name}``                                        what was subscribed there, and as what here
========================================================================  =============================================
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mailserver.store.errors import Kind, StoreError
from mailserver.store.model.words import keyword_set
from mailserver.transfer.model import Folder, Item

NAME = "mailserver-imported"
Begun = Mapping[str, tuple[int, str]]  # file's base -> the UID it gets (0: the next one) and further fields of its line


@dataclass(frozen=True, slots=True)
class Noted:
    """What a message is here, and the flags that it had there when they were last compared."""

    uid: int
    uidvalidity: int
    flags: int
    keywords: frozenset[str]


@dataclass(slots=True)
class Imported:
    """What is known of one folder of one source."""

    messages: dict[str, Noted] = field(default_factory=dict)  # by key
    numbers: bool = False  # its numbers were taken over
    begun: Begun = field(default_factory=dict)  # it is not known whether they are here
    modseq: int = 0  # see ``Contents.modseq``

    def uids(self, uidvalidity: int) -> set[int]:
        """UIDs of the messages here, in a mailbox of that UIDVALIDITY."""
        return {noted.uid for noted in self.messages.values() if noted.uidvalidity == uidvalidity}


class Record:
    """Of one account. ``root`` need not exist for reading."""

    def __init__(self, root: str, source: str, *, writing: bool) -> None:
        """StoreError IN_USE when another import runs; OSError."""
        self._source = source
        self._path = f"{root}/{NAME}"
        self._fd = -1
        self._known: dict[tuple[str, int], Imported] = {}
        self.subscribed: dict[str, str] = {}  # what was subscribed there, and as what here
        if writing:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise StoreError(Kind.IN_USE, "another import for this user is running") from None
        self._read()

    def _read(self) -> None:
        try:
            with open(self._path, "rb") as f:
                data = f.read()
        except FileNotFoundError:
            return
        for line in data.split(b"\n"):
            try:
                entry = json.loads(line)
            except ValueError:  # half a line, or the empty one at the end
                continue
            if isinstance(entry, dict) and entry.get("source") == self._source:
                self._take(entry)
        if self._fd >= 0 and data and not data.endswith(b"\n"):
            os.write(self._fd, b"\n")

    def _take(self, entry: Mapping[str, Any]) -> None:
        if "subscribed" in entry:
            self.subscribed = dict(entry["subscribed"])
            return
        known = self._known.setdefault((entry["folder"], entry["uidvalidity"]), Imported())
        if "modseq" in entry:
            known.modseq = entry["modseq"]
        elif "was" in entry:
            known.numbers = False
            for key, noted in known.messages.items():
                if noted.uidvalidity == entry["was"]:
                    known.messages[key] = replace(noted, uidvalidity=entry["as"])
        elif "begun" in entry:
            known.begun = {base: (uid, fields) for base, (uid, fields) in entry["begun"].items()}
        else:
            known.begun = {} if entry.get("settles", True) else known.begun
            known.numbers = entry["numbers"]
            for key, (uid, flags, words) in entry["done"].items():
                known.messages[key] = Noted(uid, entry["as"], flags, keyword_set(words))

    def of(self, folder: Folder) -> Imported:
        """What is known of the folder under its present UIDVALIDITY."""
        return self._known.setdefault((folder.source, folder.uidvalidity), Imported())

    def folders(self) -> set[str]:
        """The source's names of the folders of which messages were imported."""
        return {source for (source, _), known in self._known.items() if known.messages}

    def note(
        self, folder: Folder, uidvalidity: int, done: Sequence[tuple[Item, int]], *, numbers: bool, settles: bool = True
    ) -> None:
        """These messages have these UIDs here, in a mailbox of that UIDVALIDITY; ``settles``: so is what was begun."""
        rows = {item.key: (uid, int(item.flags), " ".join(sorted(item.keywords))) for item, uid in done}
        self._write({**_name(folder), "as": uidvalidity, "numbers": numbers, "settles": settles, "done": rows})

    def begin(self, folder: Folder, files: Begun) -> None:
        """These files are about to become messages; the next `note` says that they have. OSError."""
        self._write({**_name(folder), "begun": files})

    def renumbered(self, folder: Folder, was: int, uidvalidity: int) -> None:
        """Its messages keep their UIDs here, but in a mailbox with another UIDVALIDITY. OSError."""
        self._write({**_name(folder), "was": was, "as": uidvalidity})

    def known_until(self, folder: Folder, modseq: int) -> None:
        """The folder's messages and flags are here as they were in this state of it. OSError."""
        if modseq and modseq != self.of(folder).modseq:
            self._write({**_name(folder), "modseq": modseq})

    def note_subscribed(self, names: Mapping[str, str]) -> None:
        """These are subscribed there, and as what here. OSError."""
        self._write({"subscribed": names})

    def _write(self, entry: Mapping[str, Any]) -> None:
        entry = {"source": self._source, **entry}
        view = memoryview(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        while view:
            view = view[os.write(self._fd, view) :]
        os.fsync(self._fd)
        self._take(entry)

    def close(self) -> None:
        """Give the lock back; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _name(folder: Folder) -> dict[str, Any]:
    return {"folder": folder.source, "uidvalidity": folder.uidvalidity}
