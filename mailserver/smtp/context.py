"""What every session of one server shares, and in what SMTP, submission and LMTP differ."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailserver.auth.service import Authenticator
from mailserver.delivery.router import Router
from mailserver.delivery.webhook import Webhook
from mailserver.net.tls import TlsKeeper
from mailserver.smtp.defence.policy import Defence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Flavour:
    """Which of the three protocols this is."""

    protocol: str  # in logs and metrics
    lmtp: bool = False  # RFC 2033: LHLO, and a reply for each recipient
    must_log_in: bool = False  # RFC 6409 section 4.3
    completes: bool = False  # RFC 6409 section 8: Date and Message-ID


SMTP = Flavour("smtp")
SUBMISSION = Flavour("submission", must_log_in=True, completes=True)
LMTP = Flavour("lmtp", lmtp=True)


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """What may be set. Times in seconds."""

    timeout: float = 300.0  # RFC 5321 section 4.5.3.2.7: "at least 5 minutes"
    max_message_size: int = 52428800
    max_recipients: int = 1000
    max_hops: int = 100
    max_bad_commands: int = 20
    max_junk: int = 100  # NOOP, RSET, VRFY, unknown recipients: so many without a message in between are no mail
    max_failed_logins: int = 5
    refuse_bare_newline: bool = False
    check_sender: bool = False
    trusted: Sequence[Network] = field(default_factory=tuple)
    disabled: frozenset[str] = frozenset()  # extensions that are switched off
    check_from: bool = False  # users who logged in may write only their own addresses into From:
    max_transfer: float = 0.0  # for all octets of a message together, 0: as long as they come
    defence: Defence = field(default_factory=Defence)
    max_hold: int = 0  # RFC 4865: seconds for which a user may hold a message back

    def trusts(self, address: str) -> bool:
        """Say whether a client at ``address`` may send anywhere without login."""
        if not self.trusted or address == "unix":
            return False
        try:
            where = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(where in network for network in self.trusted)


@dataclass(frozen=True, slots=True)
class SmtpContext:
    """Made once per server."""

    flavour: Flavour
    hostname: str
    auth: Authenticator
    router: Router
    tls: TlsKeeper | None = None
    options: SmtpOptions = SmtpOptions()
    webhook: Webhook | None = None
