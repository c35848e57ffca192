"""What every session of one POP3 server shares."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.auth.service import Authenticator
from mailserver.net.tls import TlsKeeper
from mailserver.store.store import Store


@dataclass(frozen=True, slots=True)
class Pop3Options:
    """What may be set; the settings of [pop3] say more. Times in seconds, sizes in octets."""

    timeout: float = 600.0  # RFC 1939 section 3: "such a timer MUST be of at least 10 minutes' duration"
    max_message_size: int = 50 << 20
    delete_on_quit: bool = True  # False: DELE is answered, and nothing is ever removed
    delete_type: str = "expunge"  # or "flag"
    uidl_format: str = "dovecot"
    reuse_xuidl: bool = False
    apop: bool = True
    login_delay: int = 0  # 0: no LOGIN-DELAY
    expire_days: int = 0  # 0: EXPIRE NEVER
    max_bad_commands: int = 10  # in a row; more is no mail client
    max_failed_logins: int = 5
    utf8_headers: str = "as-is"  # to clients that did not say UTF8; or "refuse", "surrogate"


@dataclass(frozen=True, slots=True)
class Pop3Context:
    """Made once per server."""

    hostname: str
    store: Store
    auth: Authenticator
    tls: TlsKeeper | None = None
    options: Pop3Options = Pop3Options()
