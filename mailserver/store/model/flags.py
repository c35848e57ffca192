"""Message flags: five system flags as bits, keywords as names.

RFC 9051 section 2.3.2. ``\\Recent`` is no flag of a message but of a session's view, and is not here.
"""

from __future__ import annotations

from enum import IntEnum


class Flag(IntEnum):
    """The system flags that are kept on disk, as bits; combined they are plain numbers, which is quick."""

    ANSWERED = 1
    FLAGGED = 2
    DELETED = 4
    SEEN = 8
    DRAFT = 16


# Order in which they are shown, as Dovecot shows them.
SYSTEM_FLAGS: tuple[tuple[Flag, str], ...] = (
    (Flag.ANSWERED, "\\Answered"),
    (Flag.FLAGGED, "\\Flagged"),
    (Flag.DELETED, "\\Deleted"),
    (Flag.SEEN, "\\Seen"),
    (Flag.DRAFT, "\\Draft"),
)

FLAG_BY_NAME: dict[str, Flag] = {name.lower(): flag for flag, name in SYSTEM_FLAGS}
