"""The POP3 server: joins the connection and the session."""

from __future__ import annotations

import functools

from mailserver.config.schema import Pop3Config
from mailserver.net.connection import Connection
from mailserver.pop3.context import LoginDelay, Pop3Context, Pop3Options
from mailserver.pop3.errors import error_line
from mailserver.pop3.session import Session
from mailserver.services import ProtocolServer, Services


class Pop3Server(ProtocolServer[Pop3Config]):
    """``Pop3Server(Pop3Config(port=0, ...))``: `start`, `stop`, or a context manager."""

    protocol = "pop3"
    section = "pop3"

    def __init__(self, config: Pop3Config | None = None, services: Services | None = None) -> None:
        super().__init__(config or Pop3Config(), services)

    @functools.cached_property
    def context(self) -> Pop3Context:
        """What the sessions share; made at the first connection, for the store is opened after the fork."""
        config, services = self.config, self.services
        options = Pop3Options(
            timeout=config.connection_timeout_seconds,
            delete_on_quit=config.delete_on_quit,
            max_bad_commands=services.settings.limits.max_bad_commands,
        )
        tls = services.tls if config.enable_ssl else None
        hostname = services.settings.hostname
        return Pop3Context(
            hostname, services.store, services.authenticator, tls, options, LoginDelay(options.login_delay)
        )

    def handle_connection(self, conn: Connection) -> None:
        """Run a session."""
        Session(conn, self.context).run()

    def refuse(self, reason: str) -> bytes:
        """Return the greeting of a server that has no room."""
        return error_line("SYS/TEMP", f"Not now: {reason}")
