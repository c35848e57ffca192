"""HTTP for machines: ``/metrics`` (Prometheus) and ``/healthz``. One request per connection, nothing else is served."""

from __future__ import annotations

import time
from collections.abc import Callable

from mailserver.config.schema import HttpConfig
from mailserver.net.connection import Connection, LineTooLong
from mailserver.ops import metrics
from mailserver.services import ProtocolServer, Services

MAX_LINE = 8192
MAX_FIELDS = 100

Answer = tuple[str, str, bytes]
Page = Callable[[], Answer]


def _metrics() -> Answer:
    from prometheus_client import CollectorRegistry  # only who is asked for metrics pays for the import
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics.REGISTRY)
    return "200 OK", CONTENT_TYPE_LATEST, generate_latest(registry)


def _health() -> Answer:
    return "200 OK", "text/plain; charset=utf-8", b"ok\n"


PAGES: dict[str, Page] = {"/metrics": _metrics, "/healthz": _health}


class HttpServer(ProtocolServer[HttpConfig]):
    """See the module. ``pages`` may be given more paths."""

    protocol = "http"
    section = "http"
    must_log_in = False

    def __init__(self, config: HttpConfig | None = None, *, services: Services | None = None) -> None:
        super().__init__(config or HttpConfig(), services)
        self.pages = dict(PAGES)

    def refuse(self, reason: str) -> bytes:
        """RFC 9110 section 15.6.4."""
        return b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    def handle_connection(self, conn: Connection) -> None:
        """Answer one request."""
        try:
            status, kind, body, head_only = self._respond(conn)
        except LineTooLong:
            status, kind, body, head_only = "400 Bad Request", "text/plain", b"line too long\n", False
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        conn.send_many([head.encode(), b"" if head_only else body])

    def _respond(self, conn: Connection) -> tuple[str, str, bytes, bool]:
        # RFC 9112 section 3: request-line = method SP request-target SP HTTP-version
        words = conn.read_line(MAX_LINE).decode("latin-1").split()
        deadline = time.monotonic() + self.config.connection_timeout_seconds
        for _ in range(MAX_FIELDS):
            if conn.read_line(MAX_LINE) in (b"\r\n", b"\n") or time.monotonic() > deadline:
                break
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return "400 Bad Request", "text/plain", b"not HTTP\n", False
        if words[0] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "text/plain", b"only GET\n", False
        page = self.pages.get(words[1].partition("?")[0])
        status, kind, body = page() if page else ("404 Not Found", "text/plain", b"not here\n")
        return status, kind, body, words[0] == "HEAD"
