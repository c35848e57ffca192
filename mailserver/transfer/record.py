"""``mailserver-imported``: which messages were imported, from where, and what they are here.

A line of JSON for each few messages, appended and synced when they are safe. A half line at the end, which a crash
left, is passed over. Only one import of an account runs at a time: whoever writes holds a lock on the file.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mailserver.store.errors import Kind, StoreError
from mailserver.transfer.model import Folder

NAME = "mailserver-imported"


@dataclass(slots=True)
class Imported:
    """What is known of one folder of one source."""

    keys: set[str] = field(default_factory=set)
    uids: dict[int, set[int]] = field(default_factory=dict)  # UIDVALIDITY here -> UIDs here
    numbers: bool = False  # its numbers were taken over


class Record:
    """Of one account. ``root`` need not exist for reading."""

    def __init__(self, root: str, source: str, *, writing: bool) -> None:
        """StoreError IN_USE when another import runs; OSError."""
        self._source = source
        self._path = f"{root}/{NAME}"
        self._fd = -1
        self._known: dict[tuple[str, int], Imported] = {}
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
        known = self._known.setdefault((entry["folder"], entry["uidvalidity"]), Imported())
        known.numbers = known.numbers or entry.get("numbers", False)
        for key, uid in entry.get("done", {}).items():
            known.keys.add(key)
            known.uids.setdefault(entry["as"], set()).add(uid)

    def of(self, folder: Folder) -> Imported:
        """What is known of the folder under its present UIDVALIDITY."""
        return self._known.setdefault((folder.source, folder.uidvalidity), Imported())

    def note(self, folder: Folder, uidvalidity: int, done: Mapping[str, int], *, numbers: bool) -> None:
        """These messages (key -> UID) are here, in a mailbox of that UIDVALIDITY. OSError."""
        entry = {
            "source": self._source,
            "folder": folder.source,
            "uidvalidity": folder.uidvalidity,
            "as": uidvalidity,
            "numbers": numbers,
            "done": done,
        }
        data = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fsync(self._fd)
        self._take(entry)

    def close(self) -> None:
        """Give the lock back; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
