"""The Received field, and what submission adds. Pure.

RFC 5321 section 4.4: Time-stamp-line = "Received:" FWS Stamp; Stamp = From-domain By-domain Opt-info [CFWS] ";" FWS
date-time.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from email.utils import formatdate

from mailserver.mail.addrspec import literal_of

_UNSAFE = re.compile(r"[^A-Za-z0-9._:\[\]\-\x80-\U0010ffff]")
_COMMENT = re.compile(r"[^ -'*-\[\]-~]")


@dataclass(frozen=True, slots=True)
class Trace:
    """What goes into the field. ``with_`` is of `protocol_name`; ``recipient`` "" for none or many."""

    hello: str
    address: str
    hostname: str
    with_: str
    id: str
    recipient: str = ""
    tls: str = ""
    priority: int | None = None  # RFC 6710 registers the clause


def protocol_name(*, lmtp: bool, extended: bool, utf8: bool, tls: bool, authenticated: bool) -> str:
    """Return the word behind "with". RFC 3848; RFC 6531 section 4.3: UTF8SMTP, UTF8LMTP and those with S and A."""
    base = "LMTP" if lmtp else "SMTP"
    prefix = "UTF8" if utf8 else "" if lmtp or not extended else "E"
    return f"{prefix}{base}{'S' if tls and extended else ''}{'A' if authenticated else ''}"


def received(trace: Trace, now: float | None = None) -> bytes:
    """Write the field, folded."""
    name = _UNSAFE.sub("?", trace.hello) or "unknown"
    source = "unix socket" if trace.address == "unix" else literal_of(trace.address)
    lines = [
        f"Received: from {name} ({source})",
        f"by {trace.hostname} with {trace.with_} id {trace.id}",
    ]
    if trace.tls:
        lines.append(f"({_COMMENT.sub('?', trace.tls)})")
    if trace.priority is not None:
        lines.append(f"priority {trace.priority}")
    if trace.recipient:
        lines.append(f"for <{trace.recipient}>")
    stamp = formatdate(time.time() if now is None else now, localtime=True)
    return ("\r\n\t".join(lines) + f";\r\n\t{stamp}\r\n").encode()


def date_field(now: float | None = None) -> bytes:
    """Write a Date field."""
    return f"Date: {formatdate(time.time() if now is None else now, localtime=True)}\r\n".encode()


def message_id_field(hostname: str) -> bytes:
    """Write a Message-ID field."""
    return f"Message-ID: <{secrets.token_hex(12)}@{hostname}>\r\n".encode()
