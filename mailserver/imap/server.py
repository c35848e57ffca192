"""The IMAP server: joins the connection and the session."""

from __future__ import annotations

from mailserver.config.schema import ImapConfig
from mailserver.imap.responses import status
from mailserver.imap.session import Session
from mailserver.net.connection import Connection
from mailserver.services import ProtocolServer, Services


class ImapServer(ProtocolServer[ImapConfig]):
    """``ImapServer(ImapConfig(port=0, ...))``: `start`, `stop`, or a context manager."""

    protocol = "imap"
    section = "imap"

    def __init__(self, config: ImapConfig | None = None, services: Services | None = None) -> None:
        super().__init__(config or ImapConfig(), services)

    def handle_connection(self, conn: Connection) -> None:
        """Run a session."""
        Session(conn, self.services, self.config).run()

    def refuse(self, reason: str) -> bytes:
        """RFC 9051 section 7.1.5: BYE instead of a greeting; with a code, lest it be taken for a wrong password."""
        return status.line(b"*", b"BYE", f"Not now: {reason}", b"UNAVAILABLE")
