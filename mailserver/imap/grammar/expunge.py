"""UID EXPUNGE. EXPUNGE is `anystate.nothing`."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import end, sequence_set, space
from mailserver.store.model.search import NumberSet


@dataclass(frozen=True, slots=True)
class UidExpunge:
    """UID EXPUNGE."""

    messages: NumberSet


# RFC 9051 section 9: uid-expunge = "EXPUNGE" SP sequence-set
def uid_expunge(c: Cursor) -> UidExpunge:
    """Read UID EXPUNGE."""
    space(c)
    messages = sequence_set(c, uid=True)
    end(c)
    return UidExpunge(messages)
