"""The POP3 server: joins the connection and the session."""

from __future__ import annotations

import functools

from mailserver.config.schema import Pop3Config
from mailserver.net.connection import Connection
from mailserver.pop3.context import Pop3Context, Pop3Options
from mailserver.pop3.errors import error_line
from mailserver.pop3.retention import Retention
from mailserver.pop3.session import Session
from mailserver.services import ProtocolServer, Services


class Pop3Server(ProtocolServer[Pop3Config]):
    """``Pop3Server(Pop3Config(port=0, ...))``: `start`, `stop`, or a context manager."""

    protocol = "pop3"
    section = "pop3"

    def __init__(self, config: Pop3Config | None = None, services: Services | None = None) -> None:
        super().__init__(config or Pop3Config(), services)
        self._retention: Retention | None = None

    def start(self) -> None:
        """Start as `ProtocolServer.start`; one process of them all also begins the retention job."""
        super().start()
        if self.config.expire_days and self.services.worker == 0:
            services = self.services
            self._retention = Retention(lambda: services.store, services.users.names, self.config.expire_days)
            self._retention.start()

    def stop(self, grace: float = 5.0) -> None:
        """Stop as `ProtocolServer.stop`."""
        if self._retention is not None:
            self._retention.stop()
            self._retention = None
        super().stop(grace)

    @functools.cached_property
    def context(self) -> Pop3Context:
        """What the sessions share; made at the first connection, for the store is opened after the fork."""
        config, services = self.config, self.services
        options = Pop3Options(
            timeout=config.connection_timeout_seconds,
            max_message_size=config.max_message_size,
            delete_on_quit=config.delete_on_quit,
            delete_type=config.pop3_delete_type,
            uidl_format=config.uidl_format,
            reuse_xuidl=config.reuse_xuidl,
            login_delay=config.login_delay_seconds,
            expire_days=config.expire_days,
            utf8_headers=config.utf8_headers,
            max_bad_commands=services.settings.limits.max_bad_commands,
        )
        tls = services.tls if config.enable_ssl else None
        hostname = services.settings.hostname
        return Pop3Context(hostname, services.store, services.authenticator, tls, options)

    def handle_connection(self, conn: Connection) -> None:
        """Run a session."""
        Session(conn, self.context).run()

    def refuse(self, reason: str) -> bytes:
        """Return the greeting of a server that has no room."""
        return error_line("SYS/TEMP", f"Not now: {reason}")
