"""Workers: in a process of its own, for they fork and take signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import os, sys
from mailserver.net import workers
from mailserver.ops import log, metrics
log.configure("none")
class Work:
    def start(self, row):
        metrics.REGISTRY.adopt(row)
        metrics.CONNECTIONS.inc(protocol="x")
        metrics.ACTIVE.inc(protocol="x")
        say("started", row, os.getpid())
    def stop(self): say("stopped", os.getpid(), 0)
    def reload(self): say("reloaded", os.getpid(), 0)
    def tidy(self): pass
def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def died(row):
    metrics.REGISTRY.regions.zero_gauges(row)
    say("died", row, 0)
workers.FIRST_PAUSE = 0.01
workers.TICK = 0.05
metrics.REGISTRY.share(2)
workers.block_signals()
workers.Supervisor(Work(), 2, died, grace=2, ready=lambda: say("ready", 0, 0)).run()
say("end", int(metrics.CONNECTIONS.value(protocol="x")), int(metrics.ACTIVE.value(protocol="x")))
"""


def test_supervisor(tmp_path: Path) -> None:
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None

    def until(word: str, count: int) -> list[list[str]]:
        found: list[list[str]] = []
        while len(found) < count:
            line = program.stdout.readline().split()  # type: ignore[union-attr]  # asserted above
            assert line, "the program ended"
            if line[0] == word:
                found.append(line)
        return found

    first = until("started", 2)
    assert {line[1] for line in first} == {"0", "1"}
    victim = next(line for line in first if line[1] == "1")
    os.kill(int(victim[2]), signal.SIGKILL)
    assert until("died", 1)[0][1] == "1"
    again = until("started", 1)[0]
    for _ in range(10):  # stopped past the end of its wait, as by a debugger: it goes on
        os.kill(int(again[2]), signal.SIGSTOP)
        time.sleep(0.1)
        os.kill(int(again[2]), signal.SIGCONT)
        time.sleep(0.01)
    assert again[1] == "1"
    program.send_signal(signal.SIGHUP)
    until("reloaded", 2)
    program.terminate()
    until("stopped", 2)
    assert until("end", 1)[0] == ["end", "3", "2"]
    assert program.wait(10) == 0
    program.stdout.close()


def test_workers_end_when_their_supervisor_is_killed() -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("FIRST_PAUSE = 0.01", "TICK = 0.05")], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    lines = [program.stdout.readline().split() for _ in range(3)]
    pids = [int(line[2]) for line in lines if line[0] == "started"]
    program.kill()
    program.wait(10)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/stat").exists() and " Z " not in _stat(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    program.stdout.close()


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return " Z "
