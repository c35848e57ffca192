"""250 means that it is on the disk: the program is killed right after, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailserver.delivery.queue.spool import Spool
from mailserver.store.store import Store
from tests.unit.delivery.peers import Sink

CONFIG = """
hostname = "mx.example.com"
domains = ["example.com"]
[storage]
mailbox_path = "mail"
[auth]
users_file = "users"
[smtp]
host = "127.0.0.1"
port = 0
trusted_networks = ["127.0.0.0/8"]
[submission]
port = -1
ssl_port = -1
[lmtp]
port = -1
[http]
port = -1
[queue]
path = "queue"
relay_host = "127.0.0.1:{port}"
retry_first_seconds = 1
"""


@contextmanager
def program(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    reading, writing = os.pipe()
    words = [
        sys.executable,
        "-m",
        "mailserver",
        "--smtp",
        "--config",
        str(folder / "c.toml"),
        "--ready-fd",
        str(writing),
    ]
    with subprocess.Popen(words, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        os.close(writing)
        try:
            with os.fdopen(reading) as ready:
                yield process, json.loads(ready.read())["smtp"]
        finally:
            process.kill()


def test_killed_after_250(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("alice:{PLAIN}secret\n")
    with Sink() as probe:
        port = probe.port  # nobody listens there once the program runs
    (tmp_path / "c.toml").write_text(CONFIG.format(port=port))
    with program(tmp_path) as (process, smtp), smtplib.SMTP("127.0.0.1", smtp) as client:
        for number in range(5):
            text = f"Subject: {number}\r\n\r\nhi\r\n"
            client.sendmail("a@x.example", ["alice@example.com", f"far{number}@y.example"], text)
        process.send_signal(signal.SIGKILL)
        process.wait()
    spool = Spool(str(tmp_path / "queue"))
    assert sorted(w.recipient.address for m in spool.all() for w in m.waiting) == [
        f"far{n}@y.example" for n in range(5)
    ]
    assert sorted(os.listdir(tmp_path / "queue" / "messages")) == sorted(m.envelope.id for m in spool.all())
    for message in spool.all():
        spool.retry(message.envelope.id)
    spool.close()
    with Store(str(tmp_path / "mail")) as store:
        assert len(store.account("alice").mailbox("INBOX").rescan().messages) == 5
    # and the next start sends what waits
    with Sink(port=port) as sink, program(tmp_path):
        assert len(sink.wait(5)) == 5
