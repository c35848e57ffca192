"""A message as POP3 counts it."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from mailserver.store.model.message import Message

_NOT_PLAIN = re.compile(rb"[^\x21-\x7e]|['\"+]")


class PopMessage(NamedTuple):
    """``saved`` is the unique-id that the format keeps for ever, "" when there is none; ``base`` never changes either.

    For Maildir the base is the file's name without flags.
    """

    message: Message
    saved: str
    base: str

    @property
    def name(self) -> str:
        """The base in characters that a unique-id may have."""
        return plain(os.fsencode(self.base))


def plain(name: bytes) -> str:
    """Return a name as a unique-id, as Courier writes it: RFC 1939 section 7 allows 0x21 to 0x7E."""
    return _NOT_PLAIN.sub(lambda m: b"+%02X" % m[0][0], name).decode("ascii")
