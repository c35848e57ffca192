"""Delivery in two steps: whatever takes mail is a `DeliveryTarget`, and nothing is visible before ``commit``.

The local mailboxes and the queue for other servers are targets; so reception knows only this. What went wrong is a
`Status`, filled in where it happened: the reply's code, the enhanced code (RFC 3463), and a text that anybody may read.
"""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass
from typing import Protocol

_counter = itertools.count(int(time.time() * 1000) % 0xFFFF)
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Status:
    """A reply as a value. ``enhanced`` "" where RFC 2034 section 4 wants none; several lines where ``text`` has LF."""

    code: int
    enhanced: str
    text: str

    @property
    def temporary(self) -> bool:
        """Whether trying again later makes sense."""
        return 400 <= self.code < 500

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return self.code < 400

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}".replace("  ", " ").replace("\n", " ")


class Refused(Exception):
    """It was not done. ``status`` is for the client; the private cause is ``__cause__``."""

    def __init__(self, status: Status) -> None:
        super().__init__(str(status))
        self.status = status


@dataclass(frozen=True, slots=True)
class Recipient:
    """One place a message goes to.

    ``user``: whose mailbox it is here, "" for another server. ``given`` is the address the client named. ``notify`` and
    ``orcpt``: RFC 3461 section 4.1, RFC 3461 section 4.2.
    """

    address: str
    user: str = ""
    given: str = ""
    notify: str = ""
    orcpt: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Two recipients with the same key are the same place."""
        return ("user", self.user) if self.user else ("address", self.address)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of a message beside its octets. ``sender`` "" is the null reverse-path."""

    id: str
    sender: str
    user: str = ""  # who logged in to send it
    utf8: bool = False  # RFC 6531: the next server must know SMTPUTF8
    body: str = ""  # "", "7BIT", "8BITMIME" or "BINARYMIME"
    ret: str = ""  # RFC 3461 section 4.3: "", FULL or HDRS
    envid: str = ""  # RFC 3461 section 4.4, decoded
    per_recipient: bool = False  # the client hears of each recipient apart (RFC 2033), so what fails is not queued
    tls: str = ""  # RFC 8689: "required", or "optional" for a message with TLS-Required: No
    release: float = 0.0  # RFC 4865: not to be delivered before; seconds since 1970
    by: float = 0.0  # RFC 2852: to be delivered before; seconds since 1970, 0 for any time
    by_mode: str = ""  # "R": what is late goes back; "N": the sender is told
    by_trace: bool = False  # the sender wants to hear of each server it passes
    priority: int = 0  # RFC 6710: from -9 to 9, higher ones go first

    @property
    def binary(self) -> bool:
        """Whether the octets are no lines (RFC 3030 section 3): they are kept as they came."""
        return self.body == "BINARYMIME"


class Delivery(Protocol):
    """One message on its way into a target. Ends with exactly one of ``commit`` and ``abort``."""

    def recipient(self, recipient: Recipient) -> None:
        """Add a recipient; before the first ``write``. Raises `Refused`."""

    def write(self, data: bytes) -> None:
        """Take octets; the first call has the whole header. Raises `Refused`, then abort."""

    def commit(self) -> dict[Recipient, Status]:
        """Deliver, durably; return what went wrong, by recipient. All others have it now."""
        ...

    def abort(self) -> None:
        """Forget everything; may be called twice and after ``commit``."""


class DeliveryTarget(Protocol):
    """Where messages go."""

    def start(self, envelope: Envelope) -> Delivery:
        """Begin a message. Raises `Refused`."""
        ...


def new_id() -> str:
    """Return a name for a message: time, process and a counter, in base 36."""
    number = (time.time_ns() // 1_000_000 << 26) | (os.getpid() & 0x3FF) << 16 | next(_counter) & 0xFFFF
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _ALPHABET[digit] + digits
    return digits
