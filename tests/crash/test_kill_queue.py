"""Killed at any moment while mail is received, queued and delivered. CRASH_N: how often; CRASH_SEED: as last time.

Each message that was answered with 250 arrives, at mailboxes here and at another server. Nothing arrives twice, except
where the other server's reply was lost: it took the message, and we died before we had noted that, or it hung up.
"""

from __future__ import annotations

import os
import random
import re
import smtplib
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from mailserver.delivery.queue.spool import Spool
from mailserver.store.store import Store
from tests.program import Program
from tests.unit.delivery.peers import Got, Script, Sink

KILLS = int(os.environ.get("CRASH_N", "10"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
HERE = ("alice@localhost", "bob@localhost")
FAR = ("a@one.example", "b@one.example", "c@two.example")
_TOKEN = re.compile(rb"Subject: (\S+)")
_EXTRA = """trusted_networks = ["127.0.0.0/8"]
[submission]
host = "127.0.0.1"
port = 0
ssl_port = -1
messages_per_hour = 0
recipients_per_hour = 0
[lmtp]
port = -1
[queue]
path = 'queue'
relay_host = '127.0.0.1:{port}'
retry_first_seconds = 1
retry_longest_seconds = 1
"""


class Sender(threading.Thread):
    """Sends until the server dies; writes down whom it was promised for. ``user``: logs in, and has all held."""

    user = False

    def __init__(self, port: int, promised: dict[str, list[str]], rng: random.Random, name: str) -> None:
        super().__init__()
        self._port, self._promised, self._rng, self._prefix = port, promised, rng, name

    def run(self) -> None:
        try:
            with smtplib.SMTP("127.0.0.1", self._port, timeout=30) as client:
                if self.user:
                    client.login("alice", "secret")
                for number in range(10**6):
                    self._one(client, f"{self._prefix}-{number}")
        except (OSError, smtplib.SMTPException):
            pass  # the server was killed: that is the test

    def _one(self, client: smtplib.SMTP, token: str) -> None:
        rng = self._rng
        recipients = rng.sample(FAR, rng.randint(0, 3))
        recipients += rng.sample(HERE, rng.randint(0 if recipients else 1, 2))
        text = b"Subject: %b\r\n\r\n%b" % (token.encode(), b"x" * 70 + b"\r\n") + b"y\r\n" * rng.choice((0, 10, 20000))
        if self.user:
            client.sendmail("alice@localhost", recipients, text, ["HOLDFOR=1"])
        elif rng.random() < 0.5:
            client.sendmail("s@sender.example", recipients, text)
        else:
            client.ehlo_or_helo_if_needed()
            client.mail("s@sender.example")
            for recipient in recipients:
                client.rcpt(recipient)
            client.send(b"BDAT %d LAST\r\n" % len(text) + text)
            code, said = client.getreply()
            if code != 250:
                raise smtplib.SMTPDataError(code, said)
        self._promised[token] = recipients


def tokens(octets: bytes) -> str:
    found = _TOKEN.search(octets)
    assert found is not None
    return found[1].decode()


@pytest.mark.timeout(180 + KILLS * 20)
@pytest.mark.parametrize("workers", [1, 2])
def test_all_that_was_accepted_arrives(tmp_path: Path, workers: int) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(f"{SEED}/{workers}")
    promised: dict[str, list[str]] = {}
    answers = [*["250 2.0.0 taken"] * 8, "451 4.3.0 later", "2 lost"]
    script = Script(keywords=["PIPELINING", "CHUNKING"], random=lambda: rng.choice(answers))
    kills = (KILLS + 1) // 2
    with Sink(script) as sink:
        extra = _EXTRA.format(port=sink.port)
        with Program(tmp_path, workers=workers, durability="strict", protocols=("smtp",), extra=extra) as program:
            for kill in range(kills):
                senders = [
                    Sender(program.ports["smtp"], promised, random.Random(f"{SEED}/{kill}/{n}"), f"k{kill}-{n}")
                    for n in range(3)
                ]
                held = Sender(program.ports["submission"], promised, random.Random(f"{SEED}/{kill}"), f"k{kill}-held")
                held.user = True
                senders.append(held)
                for sender in senders:
                    sender.start()
                threading.Event().wait(0.05 + rng.random() * rng.choice((0.1, 0.4, 1.2)))
                program.kill()
                for sender in senders:
                    sender.join()
                program.start()
            script.random = None
            _drained(tmp_path / "queue")
        look_far(promised, sink.got)
    look_here(promised, tmp_path / "mail")
    assert promised
    print(f"accepted: {len(promised)}, at the other server: {len(sink.got)}, kills: {kills}")


def _drained(path: Path) -> None:
    spool = Spool(str(path))
    left, deadline = spool.count(), time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, [str(message) for message in spool.all()[:3]]
        time.sleep(0.05)
        before, left = left, spool.count()
        if left < before:
            deadline = time.monotonic() + 60
    spool.close()


def look_far(promised: dict[str, list[str]], got: list[Got]) -> None:
    arrived: dict[tuple[str, str], list[Got]] = defaultdict(list)
    for one in got:
        for line in one.rcpts:
            address = line.partition("<")[2].partition(">")[0]
            arrived[tokens(one.octets), address].append(one)
    for token, recipients in promised.items():
        for address in recipients:
            assert address in HERE or (token, address) in arrived, f"{token} to {address} is lost"
    for (token, address), copies in arrived.items():
        unsure = sum(not copy.confirmed for copy in copies)
        assert len(copies) <= unsure + 1, f"{token} to {address} came {len(copies)} times, {unsure} without a reply"


def look_here(promised: dict[str, list[str]], mail: Path) -> None:
    with Store(str(mail)) as store:
        for user in ("alice", "bob"):
            box = store.account(user).mailbox("INBOX")
            counts = Counter(tokens(box.read(message)) for message in box.rescan().messages)
            for token, recipients in promised.items():
                if f"{user}@localhost" in recipients:
                    assert counts[token] == 1, f"{token} for {user}: {counts[token]} copies"
            assert max(counts.values(), default=0) <= 1
