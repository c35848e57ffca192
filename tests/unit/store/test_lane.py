"""The lane: one thread at a time, and never held while waiting."""

from __future__ import annotations

import threading
from pathlib import Path

from mailserver.store.lane import LANE
from mailserver.store.locks import FileLock

PATIENCE = 10  # seconds


def in_thread(work: threading.Event) -> threading.Thread:
    def enter() -> None:
        with LANE:
            work.set()

    thread = threading.Thread(target=enter)
    thread.start()
    return thread


def test_others_wait_until_the_outermost_block_ends() -> None:
    entered = threading.Event()
    with LANE:
        with LANE:
            thread = in_thread(entered)
        assert not entered.is_set()
    thread.join(PATIENCE)
    assert entered.is_set()


def test_aside_lets_others_in_from_any_depth_and_comes_back() -> None:
    entered = threading.Event()
    with LANE, LANE:
        with LANE.aside():
            in_thread(entered).join(PATIENCE)
        assert entered.is_set()
        again = threading.Event()
        thread = in_thread(again)
        assert not again.is_set()
    thread.join(PATIENCE)
    with LANE.aside():  # outside of it: nothing
        pass


def test_who_waits_for_a_lock_leaves_the_lane(tmp_path: Path) -> None:
    """Its holder may be waiting for the lane: without this the two would wait for each other."""
    lock = FileLock(str(tmp_path / "lock"))
    held, done = threading.Event(), threading.Event()

    def hold_then_lane() -> None:
        with lock.hold():
            held.set()
            with LANE:
                done.set()

    with LANE:
        thread = threading.Thread(target=hold_then_lane)
        thread.start()
        assert held.wait(PATIENCE)
        with lock.hold():
            assert done.is_set()
    thread.join(PATIENCE)
