"""Values made from messages' octets (ENVELOPE, structure, header, preview), kept in memory and in the index.

Made when first wanted. ``kind`` names what is made, with the version of what makes it; a message's octets never change,
so a value never grows old.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from mailserver.mail import headers
from mailserver.store.index.db import Index
from mailserver.store.kept import Kept, Values
from mailserver.store.model.message import Message

Make = Callable[[bytes], bytes]
Read = Callable[[Sequence[Message]], list[bytes | None]]
HEADER = "header.1"  # the message's header as it is, with its empty line
_BATCH = 20  # messages read together
_MANY_GONE = 64  # more values than messages by so many: some are of messages that are gone


class Facts:
    """Of one mailbox, in one process."""

    def __init__(self, index: Index, directory: str, values: Values, present: Callable[[], Sequence[Message]]) -> None:
        """``values``: where they may stay in memory; ``present``: the messages that there are."""
        self._index = index
        self._directory = directory
        self._values = values
        self._present = present
        self._kept = Kept()
        weakref.finalize(self, values.abandon, self._kept)

    def get(
        self,
        kind: str,
        messages: Sequence[Message],
        make: Make,
        read: Read,
    ) -> list[bytes | None]:
        """The value of each message; None for one that is gone."""
        found = self._kept.get(kind, [m.uid for m in messages])
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
        found = self._kept.get(kind, [m.uid for m in messages])
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
        if not fresh:
            return
        self._values.put(self._kept, kind, fresh)
        messages = self._present()
        if len(self._kept.kinds.get(kind, ())) > len(messages) + _MANY_GONE:
            self._values.retain(self._kept, frozenset(m.uid for m in messages))


def make_header(message: bytes) -> bytes:
    """The header with its empty line."""
    return message[: headers.end_of(message)]
