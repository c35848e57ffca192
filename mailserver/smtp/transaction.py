"""A mail transaction: from MAIL to the end of the message. Where the octets go, and what is refused at the end.

Whatever is wrong with the message is noted while it still comes, and said when it has ended: a client that is
interrupted within its data is out of step. From then on nothing is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mailserver.delivery.target import Delivery, Envelope, Recipient, Refused, Status
from mailserver.mail.addrspec import Address
from mailserver.smtp import replies
from mailserver.smtp.data import BareLines
from mailserver.smtp.grammar import Mail
from mailserver.smtp.head import Header, HeaderGatherer


@dataclass(slots=True)
class Accepted:
    """A recipient that was answered 250, and the places its mail goes to."""

    address: Address
    places: list[Recipient]


@dataclass(slots=True)
class Transaction:
    """MAIL has been accepted."""

    id: str
    mail: Mail
    recipients: list[Accepted] = field(default_factory=list)
    refused: int = 0
    body: Body | None = None  # BDAT has begun
    failed: bool = False  # a chunk was refused: RFC 3030 section 2
    release: float = 0.0  # held until then; seconds since 1970
    priority: int = 0
    deadline: float = 0.0  # of the whole message, by the monotonic clock; 0 before it begins
    begun: float = field(default_factory=time.time)

    @property
    def sender(self) -> str:
        """The reverse-path, "" for null."""
        return "" if self.mail.sender is None else str(self.mail.sender)

    def envelope(self, user: str, header: Header, *, per_recipient: bool) -> Envelope:
        """Return what the targets want to know."""
        mail, by = self.mail, self.mail.by
        # RFC 8689 section 4.1: with the parameter the field "MUST be ignored"
        tls = "required" if mail.requiretls else "optional" if header.tls_optional else ""
        return Envelope(
            self.id,
            self.sender,
            user,
            mail.smtputf8,
            mail.body,
            mail.ret,
            mail.envid,
            per_recipient,
            tls,
            self.release,
            self.begun + by.seconds if by is not None else 0.0,
            by.mode if by is not None else "",
            by.trace if by is not None else False,
            self.priority,
        )


class Body:
    """The message as it arrives: header looked at, trace put in front, the rest passed on.

    ``open`` begins the delivery; ``trace`` returns what stands in front of the header.
    """

    def __init__(
        self,
        open_delivery: Callable[[Header], Delivery],
        trace: Callable[[Header], bytes],
        *,
        max_size: int,
        max_hops: int,
        refuse_bare: bool = False,
    ) -> None:
        self._open = open_delivery
        self._trace = trace
        self._max_size = max_size
        self._max_hops = max_hops
        self._bare = BareLines() if refuse_bare else None
        self._header: HeaderGatherer | None = HeaderGatherer()
        self._delivery: Delivery | None = None
        self.problem: Exception | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        """Take octets; never raises: what goes wrong is in ``problem``, and the rest is thrown away."""
        self.size += len(data)
        if self.problem is not None or not data:
            return
        try:
            self._write(data)
        except Exception as error:  # kept for the reply at the end of the message
            self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """Take nothing more, and forget what has come."""
        self.problem = self.problem or error
        self._header = None
        self.abort()

    def _write(self, data: bytes) -> None:
        # RFC 1870 section 6.3: the size counts CRLF as two, without dots of transparency and the end of the message
        if self.size > self._max_size:
            raise Refused(replies.TOO_BIG)
        if self._bare is not None:
            self._bare.look(data)
            if self._bare.found:
                raise Refused(replies.BARE_NEWLINE)
        if self._header is None:
            assert self._delivery is not None
            self._delivery.write(data)
            return
        header = self._header.feed(data)
        if header is not None:
            self._begin(header)

    def _begin(self, header: Header) -> None:
        self._header = None
        # RFC 5321 section 6.3: loop detection by counting Received
        if header.hops >= self._max_hops:
            raise Refused(replies.LOOP)
        self._delivery = self._open(header)
        self._delivery.write(self._trace(header) + header.octets)
        self._delivery.write(header.rest)

    def finish(self) -> dict[Recipient, Status]:
        """The message has ended: deliver it, durably. Raises what went wrong on the way."""
        try:
            if self.problem is None and self._header is not None:
                self._begin(self._header.end())
            if self.problem is None and self._bare is not None and self._bare.end():
                raise Refused(replies.BARE_NEWLINE)
            if self.problem is not None:
                raise self.problem
            assert self._delivery is not None
            return self._delivery.commit()
        finally:
            self.abort()

    def abort(self) -> None:
        """Forget it."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            delivery.abort()
