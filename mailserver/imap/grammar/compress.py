"""COMPRESS."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import atom, end, space


@dataclass(frozen=True, slots=True)
class Compress:
    """COMPRESS; the algorithm in capitals."""

    algorithm: str


# RFC 4978 section 5: compress = "COMPRESS" SP algorithm ; algorithm = "DEFLATE"
def compress(c: Cursor) -> Compress:
    """Read COMPRESS."""
    space(c)
    algorithm = atom(c, "an algorithm").decode("ascii").upper()
    end(c)
    return Compress(algorithm)
