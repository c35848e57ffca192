"""What every session of one POP3 server shares."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from mailserver.auth.service import Authenticator
from mailserver.net.tls import TlsKeeper
from mailserver.store.store import Store

_REMEMBERED = 10000  # users whose last login is kept for LOGIN-DELAY


@dataclass(frozen=True, slots=True)
class Pop3Options:
    """What may be set. Times in seconds."""

    timeout: float = 600.0  # RFC 1939 section 3: "such a timer MUST be of at least 10 minutes' duration"
    delete_on_quit: bool = True  # False: DELE is answered, and nothing is ever removed
    apop: bool = True
    login_delay: int = 0  # 0: no LOGIN-DELAY
    max_bad_commands: int = 10  # in a row; more is no mail client
    max_failed_logins: int = 5
    strict_utf8: bool = False  # refuse messages with UTF-8 in the header to clients that did not say UTF8


class LoginDelay:
    """Who logged in when.  RFC 2449 section 6.5. Counts in one process only."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._last: OrderedDict[str, float] = OrderedDict()

    def too_soon(self, user: str) -> bool:
        """Say whether ``user`` must still wait; if not, this login counts."""
        if not self.seconds:
            return False
        now = time.monotonic()
        with self._lock:
            last = self._last.get(user)
            if last is not None and now - last < self.seconds:
                return True
            self._last[user] = now
            self._last.move_to_end(user)
            if len(self._last) > _REMEMBERED:
                self._last.popitem(last=False)
        return False


@dataclass(frozen=True, slots=True)
class Pop3Context:
    """Made once per server."""

    hostname: str
    store: Store
    auth: Authenticator
    tls: TlsKeeper | None = None
    options: Pop3Options = Pop3Options()
    delay: LoginDelay = field(default_factory=lambda: LoginDelay(0))
