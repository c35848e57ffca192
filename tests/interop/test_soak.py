"""Mixed use by real clients, users coming and going, three workers: memory and descriptors stay where they were.

SOAK_MINUTES: how long; half a minute without.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.interop.soaking import Visits
from tests.program import ROOT, Program, receiving

SECONDS = float(os.environ.get("SOAK_MINUTES", "0.5")) * 60
USERS = tuple(f"user{number}" for number in range(1, 25))
CLIENTS = ("smtplib", "smtplib", "lmtp", "swaks", "imaplib", "imaplib", "imapclient", "poplib", "mbsync", "fetchmail")


@dataclass
class Life:
    """What the workers held, measured once a second."""

    memory: list[float] = field(default_factory=list)  # MB of all workers
    descriptors: list[int] = field(default_factory=list)

    def measure(self, workers: list[int]) -> None:
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in workers]
        self.memory.append(sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        self.descriptors.append(sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in workers))


@pytest.mark.timeout(300 + SECONDS * 2)
def test_soak(tmp_path: Path) -> None:
    stop, done, errors, life = threading.Event(), Counter[str](), [], Life()

    def visit(number: int, client: str) -> None:
        rng = random.Random(number)
        try:
            while not stop.is_set():
                getattr(visits, client)(rng.choice(USERS), rng)
                done[client] += 1
        except BaseException as error:
            errors.append(error)
            stop.set()

    settings = {**receiving(tmp_path), "imap": "max_connections = 500"}
    with Program(
        tmp_path,
        workers=3,
        protocols=("imap", "pop3", "smtp", "lmtp"),
        users=USERS,
        settings=settings,
        durability="strict",
    ) as program:
        visits = Visits(program.ports, tmp_path / "homes")
        workers = all_workers(program)
        threads = [threading.Thread(target=visit, args=(n, client)) for n, client in enumerate(CLIENTS)]
        for thread in threads:
            thread.start()
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends and not stop.wait(1.0):
            life.measure(workers)
        stop.set()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        assert program.workers() == workers, "a worker died"
        consult(program)
    consult(program)
    print(f"visits: {done.total()} {dict(done)}")
    judge(life)
    assert not set(CLIENTS) - done.keys()


def all_workers(program: Program) -> list[int]:
    """They are there a moment after the ports."""
    deadline = time.monotonic() + 20
    while len(workers := program.workers()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return workers


def consult(program: Program) -> None:
    """The doctor finds nothing in the mail; what it says of the machine is the machine's."""
    command = [sys.executable, "-m", "mailserver", "doctor", "--json", "--config", str(program.folder / "m.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False)
    assert done.returncode in (0, 65), done.stderr
    assert [finding for finding in json.loads(done.stdout) if finding["place"] in USERS] == [], done.stdout


def judge(life: Life) -> None:
    """From the end of the first third on nothing grows; what is kept for each user is kept for all by then."""
    third = len(life.memory) // 3
    print("MB over time:", *(f"{mb:.0f}" for mb in life.memory[:: max(1, len(life.memory) // 20)]))
    for what, values, slack in (("MB", life.memory, 12.0), ("descriptors", life.descriptors, 40.0)):
        before, after = statistics.median(values[third : 2 * third]), statistics.median(values[-third:])
        print(f"{what}: {before:.0f} in the second third, {after:.0f} in the last, at most {max(values):.0f}")
        assert after <= before * 1.1 + slack, f"{what} grow: {before} -> {after}"
