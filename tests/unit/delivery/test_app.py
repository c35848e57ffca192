"""The program as a whole: what the settings say reaches queue and relay host."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest

from mailserver.app import App
from mailserver.config.schema import (
    AuthConfig,
    HttpConfig,
    LmtpConfig,
    QueueConfig,
    Settings,
    SmtpConfig,
    StorageConfig,
    SubmissionConfig,
)
from mailserver.delivery.wiring import relay_host
from tests.unit.delivery.peers import Sink


def test_submission_to_relay_host(tmp_path: Path) -> None:
    with Sink() as sink:
        settings = Settings(
            hostname="mx.example.com",
            domains=("example.com",),
            storage=StorageConfig(mailbox_path=str(tmp_path / "mail")),
            auth=AuthConfig(delay_failures=False),
            smtp=SmtpConfig(host="127.0.0.1", port=0),
            submission=SubmissionConfig(host="127.0.0.1", port=0),
            lmtp=LmtpConfig(port=-1),
            http=HttpConfig(port=-1),
            queue=QueueConfig(path=str(tmp_path / "queue"), relay_host=f"localhost:{sink.port}"),
        )
        with App(settings, ["smtp"], users={"alice": "secret"}) as app:
            with smtplib.SMTP("127.0.0.1", app.ports["submission"]) as client:
                client.login("alice", "secret")
                client.sendmail("alice@example.com", ["far@elsewhere.example"], "Subject: x\r\n\r\nhi")
            (got,) = sink.wait(1)
        assert got.rcpts == ["RCPT TO:<far@elsewhere.example>"]
        assert b"\r\nMessage-ID: <" in got.octets


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mail.example", "mail.example", 25),
        ("mail.example:587", "mail.example", 587),
        ("[2001:db8::1]:26", "2001:db8::1", 26),
        ("2001:db8::1", "2001:db8::1", 25),
    ],
)
def test_relay_host(tmp_path: Path, text: str, host: str, port: int) -> None:
    secret = tmp_path / "secret"
    secret.write_text("word\n")
    found = relay_host(QueueConfig(relay_host=text, relay_user="us", relay_password_file=str(secret)))
    assert found is not None
    assert (found.host, found.port, found.password.reveal()) == (host, port, b"word")
    assert relay_host(QueueConfig()) is None


def test_queue_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    settings = Settings(
        storage=StorageConfig(mailbox_path=str(tmp_path / "mail")),
        smtp=SmtpConfig(host="127.0.0.1", port=0),
        submission=SubmissionConfig(port=-1, ssl_port=-1),
        lmtp=LmtpConfig(port=-1),
        http=HttpConfig(port=-1),
        queue=QueueConfig(path=str(tmp_path / "file" / "queue")),
    )
    app = App(settings, ["smtp"], users={})
    with pytest.raises(OSError, match="queue: "):
        app.start()
    app.stop()
