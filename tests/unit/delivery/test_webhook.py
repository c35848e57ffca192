"""The webhook: told after the 250, in its own time; slow, broken or away, it never delays reception."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mailserver.config.schema import WebhookConfig
from mailserver.delivery.webhook import Receipt, Webhook
from mailserver.ops import metrics
from tests.unit.delivery.test_queue import wait
from tests.unit.smtp.serving import Client, serving

_TIME = "%Y-%m-%dT%H:%M:%SZ"


class Listener(http.server.ThreadingHTTPServer):
    """Keeps what it is told; answers when ``open`` is set, with ``status``."""

    daemon_threads = False
    block_on_close = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: list[Any] = []
        self.open = threading.Event()
        self.open.set()
        self.status = 204
        self.changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/told?key=1"

    def wait(self, count: int) -> list[Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.told) >= count, 15)
        return self.told


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        octets = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.changed:
            self.server.told.append((self.path, self.headers["Content-Type"], json.loads(octets)))
            self.server.changed.notify_all()
        self.server.open.wait(15)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield listener
    finally:
        listener.open.set()
        listener.shutdown()
        thread.join()
        listener.server_close()


def message(client: Client, *recipients: str) -> str:
    client.say("MAIL FROM:<jürgen@elsewhere.example> SMTPUTF8")
    for recipient in recipients:
        client.say(f"RCPT TO:<{recipient}>")
    client.say("DATA")
    client.send(b"Subject: x\r\n\r\nhi\r\n.\r\n")
    return client.reply()


def test_what_is_told(tmp_path: Path) -> None:
    with listening() as listener, serving(tmp_path, webhook=WebhookConfig(url=listener.url)) as server:
        begun = time.gmtime()
        with Client(server) as client:
            reply = message(client, "alice@example.com", "nobody@example.com", "bob@example.com")
        ((path, kind, told),) = listener.wait(1)
    assert (path, kind) == ("/told?key=1", "application/json")
    assert told["from"] == "jürgen@elsewhere.example"
    assert told["recipients"] == ["alice@example.com", "bob@example.com"]
    assert (told["size"], told["address"]) == (18, "127.0.0.1")
    assert reply.endswith(f"id={told['id']}")
    assert time.strftime(_TIME, begun) <= told["time"] <= time.strftime(_TIME, time.gmtime())


def test_each_recipient_of_lmtp_apart(tmp_path: Path) -> None:
    with listening() as listener, serving(tmp_path, "lmtp", webhook=WebhookConfig(url=listener.url)) as server:
        (tmp_path / "mail").mkdir(exist_ok=True)
        (tmp_path / "mail" / "bob").write_text("in the way")
        with Client(server, "LHLO x") as client:
            assert message(client, "alice@example.com", "bob@example.com").startswith("250")
            assert client.reply().startswith("4")
        assert listener.wait(1)[0][2]["recipients"] == ["alice@example.com"]


def test_a_slow_one_delays_nothing(tmp_path: Path) -> None:
    dropped = metrics.WEBHOOKS.value(result="dropped")
    with listening() as listener:
        listener.open.clear()
        own = WebhookConfig(url=listener.url, max_waiting=2)
        with serving(tmp_path, webhook=own) as server:
            with Client(server) as client:
                begun = time.monotonic()
                for _ in range(8):
                    assert message(client, "alice@example.com").startswith("250")
                assert time.monotonic() - begun < 10
            listener.wait(1)
            wait(lambda: metrics.WEBHOOKS.value(result="dropped") - dropped >= 5)
            listener.open.set()
            listener.wait(3)


def test_one_that_fails(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    failed = metrics.WEBHOOKS.value(result="failed")
    receipt = Receipt("id", "", ["a@b"], 1, 0.0, "unix")
    with listening() as listener:
        listener.status = 500
        for url in (listener.url, f"http://127.0.0.1:{port}/"):
            webhook = Webhook(url, 1.0)
            webhook.tell(receipt)
            webhook.close()
    assert metrics.WEBHOOKS.value(result="failed") - failed == 2


def test_a_silent_one_times_out_and_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        webhook = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.2)
        for _ in range(3):
            webhook.tell(Receipt("id", "", [], 1, 0.0, "unix"))
        begun = time.monotonic()
        webhook.close()
        assert time.monotonic() - begun < 30
