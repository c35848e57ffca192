"""What a folder remembers for POP3 beyond the UIDs: unique-ids and an order that another server gave.

They stand in ``dovecot-uidlist`` (``P`` and ``O``), where Dovecot looks for them too. What Courier left in
``courierpop3dsizelist`` is written there when it is first seen, so that it outlives the list and the next change of
server. Messages without an order come behind the others, by UID.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

from mailserver.ops import log as logging
from mailserver.store.formats.maildir import filename, sizelist, uidlist
from mailserver.store.formats.maildir.uidlist import Entry, Signature
from mailserver.store.model.message import Message
from mailserver.store.model.pop import PopMessage

_FIELDS = rb"(?: [A-Z][^ \n:][^ \n]*)*"
_LINE = re.compile(rb"^(\d{1,10})(" + _FIELDS + rb" [PO][^ \n:][^ \n]*" + _FIELDS + rb") :([^\n]+)\n", re.M)
_UNORDERED = 1 << 62
_log = logging.get("store")


class PopList:
    """Of one folder, in one process. Several threads may use it: what it remembers is replaced as a whole."""

    def __init__(self, path: str, uidlist_path: str, *, sync: bool) -> None:
        self._sync = sync
        self._courier_path = f"{path}/{sizelist.NAME}"
        self._path = uidlist_path
        self._read: tuple[Signature | None, dict[str, Entry]] = (None, {})
        self._courier: tuple[Signature | None, dict[str, str]] = (None, {})

    def ordered(self, messages: Sequence[Message]) -> list[PopMessage]:
        """The messages in POP3's order. OSError."""
        fields = self._fields()
        named = [(m, filename.base_of(m.file)) for m in messages]
        if not fields:
            return [PopMessage(m, "", base) for m, base in named]
        placed = []
        for m, base in named:
            entry = fields.get(base)
            number = entry.value("O") or "" if entry is not None else ""
            saved = entry.value("P") or "" if entry is not None else ""
            place = int(number) if number.isdigit() else _UNORDERED
            placed.append((place, m.uid, PopMessage(m, saved, base)))
        placed.sort(key=lambda item: item[:2])
        return [item[2] for item in placed]

    def _fields(self) -> dict[str, Entry]:
        """The lines of dovecot-uidlist that say something about POP3: mostly there are none."""
        signature = uidlist.sign(self._path)
        read = self._read
        if signature is not None and signature == read[0]:
            return read[1]
        try:
            with open(self._path, "rb") as f:
                st = os.fstat(f.fileno())
                data = f.read()
        except FileNotFoundError:
            return {}
        found = {}
        if b" P" in data or b" O" in data:
            for uid, fields, name in _LINE.findall(data):
                base = os.fsdecode(name).partition(":")[0]
                found[base] = Entry(int(uid), fields.decode("utf-8", "surrogateescape").strip())
        self._read = ((st.st_ino, st.st_size, st.st_mtime_ns), found)
        return found

    # -- Courier

    def to_adopt(self, messages: Sequence[Message]) -> bool:
        """Whether Courier's list knows one of the messages and dovecot-uidlist has no unique-id for it. OSError."""
        theirs = self._couriers()
        if not theirs:
            return False
        fields = self._fields()
        listed = (base for m in messages if (base := filename.base_of(m.file)) in theirs)
        return any((entry := fields.get(base)) is None or not entry.value("P") for base in listed)

    def _couriers(self) -> dict[str, str]:
        signature = uidlist.sign(self._courier_path)
        if signature != self._courier[0]:
            self._courier = (signature, sizelist.read(self._courier_path))
        return self._courier[1]

    def adopt(self, uidnext: int) -> None:
        """Take over Courier's list. Under the folder's lock, after its messages got their UIDs. OSError, StoreError."""
        theirs = self._couriers()
        listed = uidlist.read(self._path)
        if listed is None:
            return
        new = [
            base
            for base in sizelist.order(theirs)
            if (entry := listed.entries.get(base)) is not None and not entry.value("P")
        ]
        if new:
            last = max(int(e.value("O") or 0) for e in listed.entries.values() if (e.value("O") or "0").isdigit())
            for number, base in enumerate(new, last + 1):
                listed.entries[base] = _with(listed.entries[base], theirs[base], number)
            listed.next_uid = max(listed.next_uid, uidnext)
            uidlist.write(self._path, listed, listed.entries, sync=self._sync)
            _log.info("courier-uidls-adopted", path=self._courier_path, messages=len(new))


def _with(entry: Entry, uidl: str, number: int) -> Entry:
    """The line with this unique-id, and at this place if it has none."""
    place = [] if entry.value("O") else [f"O{number}"]
    return replace(entry, fields=" ".join([*entry.fields.split(), f"P{uidl}", *place]))
