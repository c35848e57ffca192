"""Sends reports: makes them, and puts them on their way to the sender like any other message."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from mailserver.delivery.queue import bounce
from mailserver.delivery.queue.bounce import Item, Report
from mailserver.delivery.target import Delivery, Envelope, Recipient, Refused, Status, new_id
from mailserver.mail import addrspec, headers
from mailserver.mail.addrspec import Address, BadAddress
from mailserver.ops import log as logging

_DELIVERED = Status(250, "2.1.5", "Delivered")

_log = logging.get("queue")


class Routes(Protocol):
    """What is needed of `mailserver.delivery.router.Router`."""

    def route(self, address: Address, *, may_relay: bool = False) -> list[Recipient]:
        """Return the places for an address."""
        ...

    def start(self, envelope: Envelope) -> Delivery:
        """Begin a message."""
        ...


class Reporter:
    """Sends reports by ``routes``, as ``hostname``."""

    def __init__(self, hostname: str, routes: Routes) -> None:
        self._hostname = hostname
        self._routes = routes

    def report(
        self, action: str, envelope: Envelope, items: Sequence[Item], message: bytes, *, whole: bool, arrived: float
    ) -> None:
        """Tell the sender about ``items``; ``message``: all of it when ``whole``, else its beginning. Durable.

        Raises `Refused` when the report cannot be taken now. A report that can never be delivered is logged and
        forgotten. RFC 5321 section 6.1: none about a message with the null reverse-path.
        """
        if not envelope.sender or not items:
            return
        made = bounce.make(Report(action, envelope, items, self._hostname, arrived), message, whole=whole)
        try:
            self._send(envelope, made)
        except BadAddress:
            _log.warning("report-undeliverable", id=envelope.id, to=envelope.sender, reason="bad address")
        except Refused as refused:
            if refused.status.temporary:
                raise
            _log.warning("report-undeliverable", id=envelope.id, to=envelope.sender, reason=refused.status)
        else:
            _log.info("report", id=envelope.id, action=action, to=envelope.sender, recipients=len(items))

    def delivered(self, envelope: Envelope, recipients: Sequence[Recipient], header: bytes) -> None:
        """Tell the sender who has the message, for those for whom that was asked. Never raises: it has arrived."""
        items = [Item(recipient, _DELIVERED) for recipient in recipients if bounce.wanted(recipient, "SUCCESS")]
        try:
            self.report("delivered", envelope, items, header, whole=False, arrived=time.time())
        except (Refused, OSError) as error:
            _log.warning("report-failed", id=envelope.id, to=envelope.sender, reason=str(error))

    def _send(self, about: Envelope, report: bytes) -> None:
        places = self._routes.route(addrspec.parse(about.sender), may_relay=True)
        # RFC 8689 section 5: reports "MUST also specify the REQUIRETLS SMTP option"
        tls = about.tls if about.tls == "required" else ""
        envelope = Envelope(new_id(), "", utf8=not about.sender.isascii(), tls=tls, priority=about.priority)
        delivery = self._routes.start(envelope)
        try:
            for place in places:
                delivery.recipient(place)
            header, body = headers.split(report)
            delivery.write(header)
            delivery.write(report[body:])
            failed = delivery.commit()
            if failed and len(failed) == len(places):
                raise Refused(next(iter(failed.values())))
        finally:
            delivery.abort()
