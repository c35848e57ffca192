"""Load: Postfix's smtp-source sends, its smtp-sink takes; and one message of 50 MB, which must not lie in memory."""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailserver.delivery.queue.spool import Spool
from mailserver.store.store import Store
from tests.program import Program

SOURCE = shutil.which("smtp-source", path="/usr/sbin:/usr/bin")
SINK = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
pytestmark = pytest.mark.skipif(SOURCE is None or SINK is None, reason="smtp-source and smtp-sink are not installed")
_EXTRA = """trusted_networks = ["127.0.0.0/8"]
max_message_size = 70000000
[submission]
port = -1
ssl_port = -1
[lmtp]
port = -1
[queue]
path = 'queue'
relay_host = '127.0.0.1:{port}'
"""


def wait(check: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@contextmanager
def smtp_sink(*options: str) -> Iterator[int]:
    """A server that takes all and keeps nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = subprocess.Popen([str(SINK), *user, *options, f"127.0.0.1:{port}", "200"], stdout=subprocess.DEVNULL)
    try:
        wait(lambda: _listens(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def source(port: int, recipient: str, *options: str) -> None:
    names = ["-f", "sender@sender.example", "-t", recipient]
    command = [str(SOURCE), *options, *names, f"127.0.0.1:{port}"]
    subprocess.run(command, check=True, timeout=120, capture_output=True)


def test_many_to_mailboxes_and_on(tmp_path: Path) -> None:
    with smtp_sink() as port:
        extra = _EXTRA.format(port=port)
        with Program(tmp_path, workers=2, protocols=("smtp",), durability="strict", extra=extra) as program:
            source(program.ports["smtp"], "alice@localhost", "-s", "10", "-m", "300", "-l", "5000")
            source(program.ports["smtp"], "bob@far.example", "-s", "10", "-m", "200", "-l", "5000")
            spool = Spool(str(tmp_path / "queue"))
            wait(lambda: spool.count() == 0)
            spool.close()
            log = program.log.read_text()
    with Store(str(tmp_path / "mail")) as store:
        assert len(store.account("alice").mailbox("INBOX").rescan().messages) == 300
    assert len(re.findall(r"event=delivery .*rcpt=bob@far.example .*result=ok", log)) == 200


class Memory(threading.Thread):
    """The most octets of its own that a process, with its children, has in memory meanwhile; looked at all the time.

    A file that is mapped does not count: the kernel takes its pages back.
    """

    def __init__(self, process: int) -> None:
        super().__init__()
        self._process, self.first, self.most = process, 0, 0
        self._end = threading.Event()

    def _now(self) -> int:
        children = Path(f"/proc/{self._process}/task/{self._process}/children").read_text().split()
        texts = [Path(f"/proc/{name}/status").read_text() for name in [str(self._process), *children]]
        return sum(int(found) * 1024 for text in texts for found in re.findall(r"RssAnon:\s+(\d+) kB", text))

    def run(self) -> None:
        while not self._end.wait(0.005):
            self.most = max(self.most, self._now())

    def __enter__(self) -> Memory:
        self.first = self.most = self._now()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


@pytest.mark.parametrize("way", ["DATA", "BDAT", "BINARYMIME"])
def test_fifty_megabytes_are_not_in_memory(tmp_path: Path, way: str) -> None:
    line = b"x" * 76 + b"\r\n"
    head = b"Subject: big\r\nMIME-Version: 1.0\r\nContent-Type: x/y\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    piece = (bytes(range(256)) * 4096 if way == "BINARYMIME" else line * 13000)[: 1 << 20]
    with smtp_sink() as port:
        extra = _EXTRA.format(port=port)
        with Program(tmp_path, protocols=("smtp",), extra=extra) as program:
            small(program.ports["smtp"])
            spool = Spool(str(tmp_path / "queue"))
            wait(lambda: spool.count() == 0)
            with Memory(program.process.pid) as memory:
                send_big(program.ports["smtp"], way, head, piece)
                wait(lambda: spool.count() == 0)
            spool.close()
    print(f"{way}: {memory.most - memory.first >> 10} kB")
    assert memory.most - memory.first < 12 << 20
    with Store(str(tmp_path / "mail")) as store:
        box = store.account("alice").mailbox("INBOX")
        big = [message for message in box.rescan().messages if message.size > 50_000_000]
        assert len(big) == 1


def send_big(port: int, way: str, head: bytes, piece: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.ehlo()
        client.mail("s@sender.example", ["BODY=BINARYMIME"] if way == "BINARYMIME" else [])
        client.rcpt("alice@localhost")
        client.rcpt("bob@far.example")
        if way == "DATA":
            assert client.docmd("DATA")[0] == 354
            client.send(head)
        else:
            client.send(b"BDAT %d LAST\r\n" % (len(head) + 50 * len(piece)) + head)
        for _ in range(50):
            client.send(piece)
        if way == "DATA":
            client.send(b"\r\n.\r\n")
        code, said = client.getreply()
        assert code == 250, said


def small(port: int) -> None:
    """One message, so that all that is loaded at first use is there."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.sendmail("s@sender.example", ["alice@localhost", "bob@far.example"], "Subject: x\r\n\r\nhi\r\n")
