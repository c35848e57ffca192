"""Tells a program on the web of each message received: a POST with JSON, after the 250, by a thread of its own.

A notice, not a promise: what cannot be told (the program is away, slow, or says no) is logged and forgotten, and when
too many wait the newest is dropped. Reception never waits for it.
"""

from __future__ import annotations

import http.client
import json
import math
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mailserver.ops import log as logging
from mailserver.ops import metrics

_GRACE = 2.0  # seconds for those that wait when the server stops
_READ = 65536  # octets of an answer that are read, so that it is polite
_log = logging.get("webhook")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is told. ``time`` in seconds since 1970; ``address`` of the client."""

    id: str
    sender: str
    recipients: Sequence[str]
    size: int
    time: float
    address: str

    def json(self) -> bytes:
        """Return it as an object of JSON."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time))
        names = {"id": self.id, "from": self.sender, "recipients": list(self.recipients), "size": self.size}
        return json.dumps(names | {"time": stamp, "address": self.address}, ensure_ascii=False).encode()


class Webhook:
    """Posts to ``url`` (http or https); ``seconds`` for each step of a call, ``most`` receipts may wait."""

    def __init__(self, url: str, seconds: float = 10.0, most: int = 1000) -> None:
        self._url = urlsplit(url)
        self._seconds = seconds
        self._waiting: queue.Queue[Receipt | None] = queue.Queue(most)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._until = math.inf  # by the monotonic clock

    def tell(self, receipt: Receipt) -> None:
        """Tell it soon; returns at once, and never raises."""
        try:
            self._waiting.put_nowait(receipt)
        except queue.Full:
            metrics.WEBHOOKS.inc(result="dropped")
            _log.warning("webhook-dropped", id=receipt.id, reason="too many wait")
            return
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closed:
                    self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """End the thread: what waits has two seconds, the rest is forgotten."""
        with self._lock:
            self._closed = True
            self._until = time.monotonic() + _GRACE
            thread = self._thread
        if thread is not None:
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                pass  # it looks at the time after each
            thread.join(_GRACE)

    def _run(self) -> None:
        while (receipt := self._waiting.get()) is not None:
            try:
                self._post(receipt)
                metrics.WEBHOOKS.inc(result="ok")
            except (OSError, http.client.HTTPException, ValueError) as error:
                metrics.WEBHOOKS.inc(result="failed")
                _log.warning("webhook-failed", id=receipt.id, reason=str(error) or type(error).__name__)
            if time.monotonic() > self._until:
                _log.warning("webhook-dropped", reason="the server stops", count=self._waiting.qsize())
                return

    def _post(self, receipt: Receipt) -> None:
        url = self._url
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=self._seconds)
        try:
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            connection.request("POST", target, receipt.json(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read(_READ)
            if answer.status >= 300:
                raise ValueError(f"{answer.status} {answer.reason}")
        finally:
            connection.close()
