"""The POP3 server: a `StreamServer` whose connections are sessions."""

from __future__ import annotations

from mailserver.net.connection import Connection
from mailserver.net.server import ServerOptions, StreamServer
from mailserver.pop3.context import Pop3Context
from mailserver.pop3.errors import error_line
from mailserver.pop3.session import Session


class Pop3Server(StreamServer):
    """RFC 1939. ``options`` says where to listen, ``context`` what the sessions share."""

    protocol = "pop3"

    def __init__(self, options: ServerOptions, context: Pop3Context) -> None:
        super().__init__(options)
        self.context = context

    def handle_connection(self, conn: Connection) -> None:
        """Run a session."""
        Session(conn, self.context).run()

    def refuse(self, reason: str) -> bytes:
        """Return the greeting of a server that has no room."""
        return error_line("SYS/TEMP", f"Not now: {reason}")
