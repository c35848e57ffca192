"""The decoded, folded texts of messages that were searched lately, in memory.

A needle is verified on the text itself, and whoever types it letter by letter asks for the same texts again and again.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass

from mailserver.mail import structure, text

CAPACITY = 64 << 20  # octets of memory, for all accounts of a process
_LARGE = CAPACITY // 16  # such a text is not kept: it would push out too many others

Key = tuple[str, int, int, int, int]  # folder, UIDVALIDITY, UID, size, INTERNALDATE: the same texts for ever


@dataclass(frozen=True, slots=True)
class Texts:
    """What SEARCH looks at, folded. RFC 9051 section 6.4.4: BODY in ``body``, TEXT in ``headers`` or in ``body``."""

    headers: str
    body: str

    @property
    def size(self) -> int:
        """Octets of memory."""
        return sys.getsizeof(self.headers) + sys.getsizeof(self.body)


def texts_of(message: bytes) -> Texts:
    """Decode and fold a message."""
    root = structure.parse(message)
    return Texts(text.fold("\n".join(text.header_texts(message, root))), text.fold(text.body_text(message, root)))


class TextCache:
    """Least recently used first out. Thread-safe."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._texts: OrderedDict[Key, Texts] = OrderedDict()
        self._held = 0

    def get(self, key: Key) -> Texts | None:
        """The texts of a message, None when they are not here."""
        with self._lock:
            found = self._texts.get(key)
            if found is not None:
                self._texts.move_to_end(key)
            return found

    def put(self, key: Key, texts: Texts) -> None:
        """Keep them while there is room."""
        size = texts.size
        if size > _LARGE:
            return
        with self._lock:
            if key in self._texts:
                return
            self._texts[key] = texts
            self._held += size
            while self._held > self._capacity:
                _, oldest = self._texts.popitem(last=False)
                self._held -= oldest.size
