"""The retention job: what EXPIRE announces is done here, in the background of one process.

RFC 2449 section 6.7. A message is as old as the later of its date (INTERNALDATE) and the moment it came into this
maildrop: mail that was brought from another server with its old dates stays as long as the setting says. When the
index, which knows that moment, is lost, the time begins anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from mailserver.ops import log as logging
from mailserver.ops import metrics
from mailserver.store.errors import Kind, StoreError
from mailserver.store.store import Store

_EVERY_SECONDS = 6 * 3600.0
_DAY_SECONDS = 86400

_log = logging.get("pop3")


class Retention:
    """Removes from every INBOX what is older than ``days``. ``users`` names all users, whenever it is asked."""

    def __init__(self, store: Callable[[], Store], users: Callable[[], Iterable[str]], days: int) -> None:
        self._store = store
        self._users = users
        self._seconds = days * _DAY_SECONDS
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, with a first round at once."""
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the maildrop in hand."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while True:
            try:
                self.round()
            except Exception:  # one bad round must not be the last
                metrics.FAULTS.inc(protocol="pop3")
                _log.exception("retention")
            if self._stopping.wait(_EVERY_SECONDS):
                return

    def round(self, now: float | None = None) -> int:
        """Look at every maildrop once; return how many messages were removed.

        Raises `mailserver.auth.users.UsersUnavailable`.
        """
        limit = (time.time() if now is None else now) - self._seconds
        removed = 0
        for user in self._users():
            if self._stopping.is_set():
                break
            try:
                removed += self._expire(user, limit)
            except StoreError as error:
                if error.kind is not Kind.IN_USE:  # who is logged in keeps what was listed; the next round comes
                    _log.warning("retention-failed", user=user, reason=error.text)
        return removed

    def _expire(self, user: str, limit: float) -> int:
        store = self._store()
        if not store.has_account(user):
            return 0
        account = store.account(user)
        with account.maildrop_lock():
            inbox = account.inbox
            old = [m.uid for m in inbox.rescan().messages if max(m.internaldate, m.savedate) < limit]
            gone = inbox.expunge(old)[1] if old else []
        if gone:
            metrics.POP3_EXPIRED.inc(len(gone))
            _log.info("expired", user=user, messages=len(gone))
        return len(gone)
