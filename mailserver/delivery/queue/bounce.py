"""Reports to the sender: what failed, what is late, what arrived. Pure: values in, octets out.

RFC 3464 has the form, RFC 3461 section 6.3 the fields, RFC 6533 the form for addresses that are not ASCII.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate

from mailserver.delivery.target import Envelope, Recipient, Status
from mailserver.mail import headers

MAX_RETURNED = 1 << 20  # octets of a message that are sent back when RET=FULL asks for it

_SUBJECTS = {
    "failed": "Undelivered mail returned to sender",
    "delayed": "Delivery is delayed",
    "delivered": "Delivered",
    "relayed": "Passed on",
    "expanded": "Delivered to a list",
}
_TEXTS = {
    "failed": "Your message could not be delivered to these recipients:",
    "delayed": "Your message has not been delivered to these recipients yet. You need not send it again:",
    "delivered": "Your message has been delivered to these recipients:",
    "relayed": "Your message was passed on to a mail server that reports nothing further about these recipients:",
    "expanded": "Your message was sent on to the members of a list:",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One recipient of a report. ``peer``: the server that said ``status``, "" for this one."""

    recipient: Recipient
    status: Status
    peer: str = ""
    until: float = 0.0  # RFC 3464 section 2.3.9: seconds since 1970, for delays


@dataclass(frozen=True, slots=True)
class Report:
    """A report about one message. ``action`` is of RFC 3464 section 2.3.3; ``arrived`` in seconds since 1970."""

    action: str
    envelope: Envelope
    items: Sequence[Item]
    hostname: str
    arrived: float


# RFC 3461 section 4.1: without NOTIFY "the default [is] either FAILURE or FAILURE,DELAY": ours is both
def wanted(recipient: Recipient, what: str) -> bool:
    """Say whether the sender wants to hear ``what`` (SUCCESS, FAILURE or DELAY) of a recipient.

    "" is what is told to all but those who said NEVER.
    """
    if not what:
        return recipient.notify != "NEVER"
    if not recipient.notify:
        return what != "SUCCESS"
    return what in recipient.notify.split(",")


def make(report: Report, message: bytes, *, whole: bool, now: float | None = None) -> bytes:
    """Write the report.

    ``message``: the octets it is about, or as many as were read; ``whole`` when that is all of them.
    """
    utf8 = not all(text.isascii() for text in _addresses(report))
    boundary = f"report-{secrets.token_hex(12)}"
    # RFC 8689 section 5: "If both RET=FULL and REQUIRETLS are present, the RET=FULL MUST be disregarded"
    open_ = report.envelope.tls != "required" and not report.envelope.binary
    full = (
        whole and open_ and report.action == "failed" and report.envelope.ret == "FULL" and len(message) <= MAX_RETURNED
    )
    returned = message if full else headers.split(message)[0]
    eight = b"" if returned.isascii() and not utf8 else b"Content-Transfer-Encoding: 8bit\r\n"
    kind = b"message/global" if utf8 else b"message/rfc822"
    header_kind = b"message/global-headers" if utf8 else b"text/rfc822-headers"
    status_kind = b"message/global-delivery-status" if utf8 else b"message/delivery-status"
    parts = [
        (b"text/plain; charset=utf-8", b"Content-Transfer-Encoding: 8bit\r\n" if utf8 else b"", _text(report)),
        (status_kind, b"Content-Transfer-Encoding: 8bit\r\n" if utf8 else b"", _fields(report, utf8=utf8)),
        (kind if full else header_kind, eight, returned),
    ]
    out = [_header(report, boundary, now)]
    for content_type, encoding, body in parts:
        out += [b"--%b\r\nContent-Type: %b\r\n%b\r\n" % (boundary.encode(), content_type, encoding), body]
        out.append(b"" if body.endswith(b"\r\n") else b"\r\n")
    out.append(b"\r\n--%b--\r\n" % boundary.encode())
    return b"".join(out)


def _addresses(report: Report) -> Iterable[str]:
    yield report.envelope.sender
    for item in report.items:
        yield from (item.recipient.address, item.recipient.given)


# RFC 3464 section 2: Content-Type multipart/report; report-type=delivery-status. RFC 3834 section 5: Auto-Submitted
def _header(report: Report, boundary: str, now: float | None) -> bytes:
    lines = [
        f"Date: {formatdate(time.time() if now is None else now, localtime=True)}",
        f"From: Mail Delivery System <MAILER-DAEMON@{report.hostname}>",
        f"To: <{report.envelope.sender}>",
        f"Subject: {_SUBJECTS[report.action]}",
        f"Message-ID: <{secrets.token_hex(12)}@{report.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _text(report: Report) -> bytes:
    lines = [f"This is the mail server {report.hostname}.", "", _TEXTS[report.action], ""]
    for item in report.items:
        lines.append(f"<{item.recipient.given or item.recipient.address}>")
        said = f"{item.peer} said: " if item.peer else ""
        lines += [f"    {said}{item.status}"[:900], ""]
    return "\r\n".join(lines).encode("utf-8" if not all(map(str.isascii, _addresses(report))) else "ascii", "replace")


# RFC 3464 section 2.1: per-message-fields 1*( CRLF per-recipient-fields )
def _fields(report: Report, *, utf8: bool) -> bytes:
    envelope = report.envelope
    lines = [f"Original-Envelope-Id: {envelope.envid}"] if envelope.envid else []
    lines.append(f"Reporting-MTA: dns; {report.hostname}")
    lines.append(f"Arrival-Date: {formatdate(report.arrived, localtime=True)}")
    for item in report.items:
        lines += ["", *_recipient_fields(report, item, "utf-8" if utf8 else "rfc822")]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8" if utf8 else "ascii", "replace")


def _recipient_fields(report: Report, item: Item, kind: str) -> list[str]:
    status, recipient = item.status, item.recipient
    given = recipient.given or recipient.address
    lines = [f"Original-Recipient: {recipient.orcpt}"] if recipient.orcpt else []
    lines.append(f"Final-Recipient: {kind}; {given}")
    lines.append(f"Action: {report.action}")
    lines.append(f"Status: {status.enhanced or '5.0.0'}")
    if item.peer:
        lines.append(f"Remote-MTA: dns; {item.peer}")
        lines.append(f"Diagnostic-Code: smtp; {status}"[:900])
    if item.until:
        lines.append(f"Will-Retry-Until: {formatdate(item.until, localtime=True)}")
    return lines
