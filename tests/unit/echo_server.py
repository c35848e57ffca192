"""A protocol that says back what it hears, in the place of IMAP and the others: for tests of what lies around them."""

from __future__ import annotations

from typing import Any

from mailserver.config.schema import Listener
from mailserver.net.connection import Connection, ShuttingDown
from mailserver.services import ProtocolServer, Services


class EchoServer(ProtocolServer[Listener]):
    protocol = "echo"

    def __init__(self, config: Listener | None = None, *, services: Services | None = None) -> None:
        super().__init__(config or Listener(), services)

    def handle_connection(self, conn: Connection) -> None:
        try:
            while True:
                conn.send(conn.read_line(1000))
        except ShuttingDown:
            conn.send(b"bye\n")


def echo(section: str) -> type[EchoServer]:
    return type(f"Echo{section}", (EchoServer,), {"section": section})


ImapServer: Any = echo("imap")
Pop3Server: Any = echo("pop3")
SmtpServer: Any = echo("smtp")
SubmissionServer: Any = echo("submission")
LmtpServer: Any = echo("lmtp")

SERVERS = {
    "imap": (__name__, "ImapServer"),
    "pop3": (__name__, "Pop3Server"),
    "smtp": (__name__, "SmtpServer"),
    "submission": (__name__, "SubmissionServer"),
    "lmtp": (__name__, "LmtpServer"),
    "http": ("mailserver.ops.http", "HttpServer"),
}
