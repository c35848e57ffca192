"""What the store can refuse, as kinds; each protocol turns a kind into its own words."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """Why the store refused."""

    NOT_FOUND = "not found"  # no such mailbox
    EXISTS = "already exists"
    BAD_NAME = "bad name"  # a mailbox name that cannot be stored
    NO_QUOTA = "over quota"
    TOO_BIG = "message too big"
    IN_USE = "in use"  # locked by another session or program
    EXPUNGED = "expunged"  # the message is gone
    READ_ONLY = "read-only"
    NO_PERMISSION = "no permission"
    LIMIT = "limit"  # a configured bound was reached
    CANNOT = "cannot"  # never possible: e.g. renaming a folder into itself
    HAS_CHILDREN = "has children"
    CORRUPT = "corrupt"
    TEMPORARY = "temporary"  # disk full, I/O error: try again later


class StoreError(Exception):
    """The store could not do it.

    ``kind`` says why, ``text`` may be shown to the user and discloses no path; the private cause is ``__cause__``.
    """

    def __init__(self, kind: Kind, text: str = "") -> None:
        super().__init__(text or kind.value)
        self.kind = kind
        self.text = text or kind.value
