"""A process that freed much gives it back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mailserver.ops import memory

SCRIPT = """
import threading
from mailserver.ops import memory

memory._EVERY = 0.0
tidy = memory.Tidy()
kept = []

def work():  # a heap of its own, with something that stays behind what goes
    gone = [bytearray(60_000) for _ in range(300)]
    kept.append(bytearray(600))
    del gone

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
before = memory.resident()
tidy()
print(before - memory.resident())
after = memory.resident()
tidy()
"""


def test_what_threads_freed_is_given_back() -> None:
    if memory._find_trim() is None:
        pytest.fail("this C library has no malloc_trim: run the tests on glibc")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 4_000_000


HEAPS = """
import ctypes, threading
from mailserver.ops import memory

memory.share_heaps()
barrier = threading.Barrier(20)

def work():
    kept = [bytearray(60_000) for _ in range(10)]
    barrier.wait()

threads = [threading.Thread(target=work) for _ in range(20)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def test_threads_share_heaps() -> None:
    done = subprocess.run([sys.executable, "-c", HEAPS], capture_output=True, text=True, timeout=60, check=True)
    assert 1 <= done.stdout.count("<heap nr=") <= 2


def test_a_process_that_did_not_grow_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    now = [1000.0]
    monkeypatch.setattr(memory, "_find_trim", lambda: calls.append)
    monkeypatch.setattr(memory, "resident", lambda: 50_000_000)
    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    tidy = memory.Tidy()
    tidy()
    assert calls == []  # too early
    for _ in range(3):
        now[0] += 100
        tidy()
    assert calls == [0]  # once: afterwards it has what it had


def test_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_find_trim", lambda: None)
    monkeypatch.setattr(memory, "_EVERY", 0.0)
    memory.Tidy()()
