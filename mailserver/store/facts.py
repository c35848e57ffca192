"""Values made from messages' octets (ENVELOPE, structure, header, preview), kept in memory and in the index.

Made when first wanted. ``kind`` names what is made, with the version of what makes it; a message's octets never change,
so a value never grows old.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailserver.mail import headers
from mailserver.store.index.db import Index
from mailserver.store.model.message import Message

Make = Callable[[bytes], bytes]
Read = Callable[[Sequence[Message]], list[bytes | None]]
HEADER = "header.1"  # the message's header as it is, with its empty line
_BUDGET = 24 << 20  # octets of values that one mailbox keeps in memory; beyond it the oldest kind starts anew
_BATCH = 20  # messages read together


class Facts:
    """Of one mailbox, in one process."""

    def __init__(self, index: Index, directory: str) -> None:
        self._index = index
        self._directory = directory
        self._kinds: dict[str, dict[int, bytes]] = {}
        self._octets = 0

    def get(
        self,
        kind: str,
        messages: Sequence[Message],
        make: Make,
        read: Read,
    ) -> list[bytes | None]:
        """The value of each message; None for one that is gone."""
        known = self._kinds.get(kind, {})
        found = [known.get(m.uid) for m in messages]
        if None not in found:
            return found
        missing = [m for m, value in zip(messages, found, strict=True) if value is None]
        fresh = self._index.facts(self._directory, kind, [m.uid for m in missing])
        unmade = [m for m in missing if m.uid not in fresh]
        for start in range(0, len(unmade), _BATCH):
            fresh.update(self._make(kind, unmade[start : start + _BATCH], make, read))
        self._keep(kind, fresh)
        return [value if value is not None else fresh.get(m.uid) for m, value in zip(messages, found, strict=True)]

    def of_header(self, kind: str, messages: Sequence[Message], make: Make, read: Read) -> list[bytes | None]:
        """The same for a value made from the header alone; kept in memory only, the header being in the index."""
        known = self._kinds.get(kind, {})
        found = [known.get(m.uid) for m in messages]
        if None not in found:
            return found
        missing = [m for m, value in zip(messages, found, strict=True) if value is None]
        sources = self.get(HEADER, missing, make_header, read)
        fresh = {int(m.uid): make(h) for m, h in zip(missing, sources, strict=True) if h is not None}
        self._keep(kind, fresh)
        return [value if value is not None else fresh.get(m.uid) for m, value in zip(messages, found, strict=True)]

    def _make(
        self,
        kind: str,
        messages: Sequence[Message],
        make: Make,
        read: Read,
    ) -> dict[int, bytes]:
        octets = read(messages)
        made = {int(m.uid): make(data) for m, data in zip(messages, octets, strict=True) if data is not None}
        if made:
            self._index.put_facts(self._directory, kind, made)
        return made

    def _keep(self, kind: str, fresh: dict[int, bytes]) -> None:
        size = sum(map(len, fresh.values()))
        if self._octets + size > _BUDGET:
            self._kinds = {}
            self._octets = 0
        if size <= _BUDGET:
            self._octets += size
            self._kinds[kind] = {**self._kinds.get(kind, {}), **fresh}

    def forget(self, uids: Sequence[int]) -> None:
        """These messages are gone."""
        for kind, known in list(self._kinds.items()):
            gone = set(uids) & known.keys()
            if gone:
                self._octets -= sum(len(known[uid]) for uid in gone)
                self._kinds[kind] = {uid: value for uid, value in known.items() if uid not in gone}


def make_header(message: bytes) -> bytes:
    """The header with its empty line."""
    return message[: headers.end_of(message)]
