"""COMPRESS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.imap.errors import Invalid, Refused
from mailserver.imap.grammar.compress import Compress
from mailserver.imap.responses import status

if TYPE_CHECKING:
    from mailserver.imap.session import Session


# RFC 4978 section 3: what follows the tagged OK is compressed, both ways
def compress(session: Session, args: Compress) -> None:
    """Compress the connection; the tagged OK goes out before, so there is no completion."""
    if args.algorithm != "DEFLATE":
        raise Invalid("The algorithm is not known")
    if session.conn.compressed:
        # RFC 4978 section 3: COMPRESSIONACTIVE
        raise Refused("DEFLATE is active already", b"COMPRESSIONACTIVE")
    session.write(status.line(session.tag, b"OK", "DEFLATE active"))
    session.start_compression()
