"""A server of one of the three protocols with a store of its own, and what a test asks of it."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mailserver.config.schema import (
    AuthConfig,
    LmtpConfig,
    Settings,
    SmtpConfig,
    StorageConfig,
    SubmissionConfig,
    TlsConfig,
)
from mailserver.services import Services
from mailserver.smtp.server import LmtpServer, SmtpServer, SubmissionServer

USERS = {"alice": "secret", "bob": "hush", "carol@other.example": "quiet"}
DOMAINS = ("example.com", "other.example")
KINDS: dict[str, tuple[Any, Any]] = {
    "smtp": (SmtpServer, SmtpConfig),
    "submission": (SubmissionServer, SubmissionConfig),
    "lmtp": (LmtpServer, LmtpConfig),
}
Server = SmtpServer | SubmissionServer | LmtpServer


def settings(tmp_path: Path, **sections: Any) -> Settings:
    defaults = Settings(
        hostname="mx.example.com",
        domains=DOMAINS,
        storage=StorageConfig(mailbox_path=str(tmp_path / "mail"), durability="relaxed"),
        auth=AuthConfig(delay_failures=False),
    )
    return dataclasses.replace(defaults, **sections)


@contextmanager
def serving(
    tmp_path: Path, kind: str = "smtp", certificate: tuple[Path, Path] | None = None, **changes: Any
) -> Iterator[Server]:
    """``changes``: of the server's own section, or whole sections by name."""
    sections = {name: changes.pop(name) for name in list(changes) if name in Settings.__dataclass_fields__}
    if certificate is not None:
        sections["tls"] = TlsConfig(certificate=str(certificate[0]), private_key=str(certificate[1]))
        changes.setdefault("enable_ssl", True)
    server_class, config_class = KINDS[kind]
    config = config_class(**{"host": "127.0.0.1", "port": 0, "ssl_port": -1} | changes)
    services = Services(settings(tmp_path, **sections), users=USERS)
    try:
        with server_class(config, services) as server:
            yield server
    finally:
        services.close()


def messages(server: Server, user: str = "alice", folder: str = "INBOX") -> list[bytes]:
    box = server.services.store.account(user).mailbox(folder)
    return [box.read(message) for message in box.rescan().messages]


def bodies(server: Server, user: str = "alice") -> list[bytes]:
    """What arrived, without the fields this server puts in front."""
    return [stripped(message) for message in messages(server, user)]


def stripped(message: bytes) -> bytes:
    """The message without Return-Path, Delivered-To and the first Received."""
    rest = message
    for name in (b"Return-Path:", b"Delivered-To:", b"Received:"):
        if rest.startswith(name):
            end = rest.index(b"\r\n") + 2
            while rest[end : end + 1] in (b" ", b"\t"):
                end = rest.index(b"\r\n", end) + 2
            rest = rest[end:]
    return rest


class Client:
    """Says octets, hears replies."""

    def __init__(self, server: Server, hello: str = "EHLO client.example") -> None:
        self.sock = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.file = self.sock.makefile("rb")
        self.greeting = self.reply()
        if hello:
            self.capabilities = self.say(hello)

    def reply(self) -> str:
        """The next reply, lines joined; "" at the end."""
        lines = []
        while line := self.file.readline():
            lines.append(line.decode().rstrip("\r\n"))
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def say(self, line: str | bytes) -> str:
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def rest(self) -> str:
        """Everything until the server hangs up."""
        return self.file.read().decode()

    def begin(self, recipient: str = "alice@example.com", sender: str = "sender@elsewhere.example") -> None:
        assert self.say(f"MAIL FROM:<{sender}>").startswith("250")
        assert self.say(f"RCPT TO:<{recipient}>").startswith("250")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()
