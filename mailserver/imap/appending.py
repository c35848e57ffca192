"""Messages of an APPEND on their way from the socket into the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mailserver.imap import places
from mailserver.imap.errors import Refused
from mailserver.mail.unbinary import to_base64
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.mailbox import Mailbox
from mailserver.store.model.rights import Settable, settable

if TYPE_CHECKING:
    from mailserver.imap.session import Session

_TOGETHER = 4  # times the largest message: what one MULTIAPPEND may bring


class Appending:
    """The literals of one command; each goes straight into ``tmp/`` of the mailbox, never through memory."""

    def __init__(self, session: Session, name: bytes) -> None:
        """Refused [TRYCREATE] when the mailbox does not exist (RFC 9051 section 6.3.12)."""
        self.mailbox, self.settable = target(session, name)
        self.received: list[Incoming] = []
        self._limit = session.config.max_message_size
        self._size = 0

    def begin(self, size: int, *, binary: bool = False) -> Callable[[bytes], object]:
        """Prepare for a message of ``size`` octets; returns where its octets go. StoreError TOO_BIG.

        ``binary``: it comes as literal8.
        """
        self._size += size
        # RFC 7889 section 4: TOOBIG
        if size > self._limit or self._size > self._limit * _TOGETHER:
            raise StoreError(Kind.TOO_BIG, "the message is larger than this server takes")
        if size == 0:
            # RFC 9051 section 6.3.12: there is no message without a header; Dovecot and Cyrus refuse it as well
            raise Refused("A message cannot be empty")
        incoming = self.mailbox.receive()
        self.received.append(incoming)

        def sink(data: bytes) -> None:
            try:
                incoming.write(data)
            except OSError as error:
                raise StoreError(Kind.TEMPORARY, "the message could not be written") from error

        return _whole(size, sink) if binary else sink

    def discard(self) -> None:
        """Remove what was not appended."""
        for incoming in self.received:
            incoming.discard()
        self.received.clear()


# RFC 3516 section 4.4: "The server MAY modify the CTE of the appended data"
def _whole(size: int, sink: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Hold a literal8 until all of it came: which octets are binary is known only then."""
    octets = bytearray()

    def collect(data: bytes) -> None:
        octets.extend(data)
        if len(octets) >= size:
            sink(to_base64(bytes(octets)))
            octets.clear()

    return collect


# RFC 4314 section 4: "i" right for the target mailbox
def target(session: Session, name: bytes) -> tuple[Mailbox, Settable]:
    """The mailbox of APPEND, COPY, MOVE, and the flags that may be set in it.

    Refused [TRYCREATE] when it does not exist, [NOPERM] when nothing may be put there.
    """
    try:
        place = places.find(session, name)
        place.require("i")
        return place.mailbox(), settable(place.rights)
    except StoreError as error:
        if error.kind is Kind.NOT_FOUND:
            raise Refused("There is no such mailbox", b"TRYCREATE") from None
        raise
