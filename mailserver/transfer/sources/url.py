"""A server to import from, as its URL names it: ``imaps://user@host:port``."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from mailserver.transfer.model import SourceError

_PORTS = {"imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995}


@dataclass(frozen=True, slots=True)
class Server:
    """``str`` of it is the URL without the password."""

    scheme: str
    user: str
    host: str
    port: int
    password: str = field(default="", repr=False)
    verify: bool = True  # whether its certificate must be trusted
    clear: bool = False  # whether the password may go to it without TLS

    @property
    def tls(self) -> bool:
        """Whether TLS begins with the connection."""
        return self.scheme.endswith("s")

    def context(self) -> ssl.SSLContext:
        """For a connection to it."""
        context = ssl.create_default_context()
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def refuse_clear(self) -> None:
        """SourceError if the password must not go there in clear: it may to this machine."""
        try:
            here = ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            here = self.host == "localhost"
        if not here and not self.clear:
            raise SourceError(f"{self}: it has no TLS, and the password would go over the net in clear")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.user}@{self.host}:{self.port}"


def parse(url: str, protocol: str) -> Server:
    """``imap`` or ``pop3`` says which schemes are right. SourceError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SourceError(f"{url}: {error}") from error
    if parts.scheme not in (protocol, f"{protocol}s") or not parts.hostname or not parts.username:
        raise SourceError(f"a URL like {protocol}s://user@host is wanted")
    return Server(
        parts.scheme,
        unquote(parts.username, errors="surrogateescape"),
        parts.hostname,
        port or _PORTS[parts.scheme],
        unquote(parts.password or "", errors="surrogateescape"),
    )
