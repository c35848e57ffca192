"""The roll of a server's live connections: who has not logged in yet, and how all are brought to an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mailserver.net.connection import Connection


class Roll:
    """Live connections in the order they came. ``max_unauthenticated`` 0 is no cap."""

    def __init__(self, max_unauthenticated: int) -> None:
        self._cap = max_unauthenticated
        self._changed = threading.Condition()
        self._live: set[Connection] = set()
        self._waiting_for_login: dict[Connection, None] = {}

    @property
    def count(self) -> int:
        """Connections now."""
        return len(self._live)

    def enter(self, conn: Connection) -> None:
        """Note a connection.

        Over the cap the one that has waited longest to log in is cut off: newcomers are not locked out.
        """
        oldest = None
        with self._changed:
            self._live.add(conn)
            if self._cap:
                if len(self._waiting_for_login) >= self._cap:
                    oldest = next(iter(self._waiting_for_login))
                    del self._waiting_for_login[oldest]
                self._waiting_for_login[conn] = None
                conn.on_authenticated = lambda: self._authenticated(conn)
        if oldest is not None:
            oldest.abort()

    def _authenticated(self, conn: Connection) -> None:
        with self._changed:
            self._waiting_for_login.pop(conn, None)

    def leave(self, conn: Connection) -> None:
        """Strike a connection off."""
        with self._changed:
            self._live.discard(conn)
            self._waiting_for_login.pop(conn, None)
            conn.on_authenticated = None
            if not self._live:
                self._changed.notify_all()

    def end_all(self, grace: float) -> bool:
        """Shut all down, wait ``grace`` seconds for their last words, cut off the rest; say whether none is left."""
        self._each(Connection.shut_down)
        if self._wait_empty(grace):
            return True
        self._each(Connection.abort)
        return self._wait_empty(2.0)

    def _each(self, act: Callable[[Connection], None]) -> None:
        with self._changed:
            connections = list(self._live)
        for conn in connections:
            act(conn)

    def _wait_empty(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._live:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True
