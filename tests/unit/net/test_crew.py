"""Threads that are used again: none is lost, none waits for ever, none stays behind."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from mailserver.net import crew
from mailserver.net.crew import Crew


def mine() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "crew-test"]


def wait(count: int) -> None:
    deadline = time.monotonic() + 10
    while len(mine()) != count:
        assert time.monotonic() < deadline, mine()
        time.sleep(0.005)


def test_one_after_the_other_is_one_thread() -> None:
    found: set[int] = set()
    made = Crew("crew-test")
    for _ in range(50):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            found.add(threading.get_ident())
            done.set()

        made.run(job)
        assert done.wait(10)
        deadline = time.monotonic() + 10
        while not made._idle:
            assert time.monotonic() < deadline
    assert len(found) == 1
    made.end()
    wait(0)


def test_all_that_are_busy_have_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "KEPT", 5)
    made, together = Crew("crew-test"), threading.Barrier(21)
    for _ in range(20):
        made.run(lambda: together.wait(10) and None)
    together.wait(10)
    wait(5)  # the others are more than are kept
    made.end()
    wait(0)


def test_who_is_busy_at_the_end_ends_too() -> None:
    made, go = Crew("crew-test"), threading.Event()
    made.run(lambda: go.wait(10) and None)
    made.end()
    go.set()
    wait(0)


def test_idle_threads_go_and_no_job_is_lost_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "KEPT_SECONDS", 0.002)
    made, done = Crew("crew-test"), threading.Semaphore(0)
    for number in range(300):
        made.run(done.release)
        if number % 3:
            time.sleep(0.002)  # about when an idle thread gives up
    for _ in range(300):
        assert done.acquire(timeout=10)
    wait(0)
    made.end()


def test_a_job_is_forgotten_when_it_is_done() -> None:
    class Held:
        def __call__(self) -> None:
            done.set()

    made = Crew("crew-test")
    for _ in range(2):  # the first of a thread, and a later one
        done, held = threading.Event(), Held()
        gone = weakref.ref(held)
        made.run(held)
        del held
        assert done.wait(10)
        deadline = time.monotonic() + 10
        while gone() is not None:
            gc.collect()
            assert time.monotonic() < deadline
    made.end()
    wait(0)


def test_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made = Crew("crew-test")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        made.run(lambda: None)
