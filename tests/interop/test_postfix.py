"""Postfix between two of our servers: our queue gives to it, it gives to our LMTP and SMTP."""

from __future__ import annotations

import dataclasses
import smtplib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailserver.config.schema import QueueConfig, SubmissionConfig
from mailserver.services import Services
from mailserver.smtp.server import SubmissionServer
from tests.interop.postfix import Postfix, available
from tests.messages import corpus
from tests.unit.smtp.serving import USERS, messages, serving, settings

pytestmark = pytest.mark.skipif(not available(), reason="Postfix is not installed, or the test does not run as root")


def wait(check: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("kind", ["lmtp", "smtp"])
def test_there_and_back(tmp_path: Path, kind: str) -> None:
    texts = [text for text in corpus() if text.startswith(b"From:") and text.isascii() and b"\0" not in text][:8]
    assert len(texts) == 8
    with serving(tmp_path / "far", kind) as far:
        transport = f"{kind}:inet:127.0.0.1:{far.port}" if kind == "lmtp" else f"smtp:[127.0.0.1]:{far.port}"
        with Postfix(transport) as postfix:
            own = settings(tmp_path / "near", domains=("near.example",))
            queue = QueueConfig(path=str(tmp_path / "queue"), relay_host=f"127.0.0.1:{postfix.port}")
            services = Services(dataclasses.replace(own, queue=queue), users=USERS)
            try:
                services.start_queue()
                config = SubmissionConfig(host="127.0.0.1", port=0, ssl_port=-1, check_from=False)
                with SubmissionServer(config, services) as near:
                    _send(near.port, texts)
                    wait(lambda: services.spool is not None and services.spool.count() == 0)
                    wait(lambda: len(messages(far)) == len(texts))
                    found = messages(far)
                    wait(lambda: "status=bounced" in postfix.log)
                    bounced = next(line for line in postfix.log.splitlines() if "to=<nobody@example.com>" in line)
            finally:
                services.close()
    assert "dsn=5.1.1" in bounced
    bodies = sorted(
        text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").partition(b"\r\n\r\n")[2].rstrip() for text in texts
    )
    assert sorted(message.partition(b"\r\n\r\n")[2].rstrip() for message in found) == bodies
    assert all(b"with ESMTP" in message and b"postfix.example" in message for message in found)


def _send(port: int, texts: list[bytes]) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.login("alice", "secret")
        for text in texts:
            client.sendmail("alice@near.example", ["alice@example.com", "bob@other.example"], text)
        client.sendmail("alice@near.example", ["nobody@example.com"], b"Subject: x\r\n\r\nhi\r\n")
