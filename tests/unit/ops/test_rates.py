"""Counts of the last minute: exact within a window, fading across two, over several workers."""

from __future__ import annotations

import multiprocessing

from mailserver.ops.rates import SLOTS, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 6000.0

    def __call__(self) -> float:
        return self.now


def test_cap_and_window() -> None:
    clock = Clock()
    rates = Rates(60.0, clock=clock)
    assert [rates.allow("a", 3) for _ in range(5)] == [True] * 3 + [False] * 2
    assert rates.allow("b", 3)
    clock.now += 60  # a new window begins: all of the old one still lies within the last 60 seconds
    assert not rates.allow("a", 3)
    clock.now += 30
    assert rates.total("a") == 1.5
    assert [rates.allow("a", 3) for _ in range(3)] == [True, False, False]
    clock.now += 31
    assert rates.total("a") < 1.0
    clock.now += 1000
    assert rates.total("a") == 0.0
    assert all(rates.allow("c", 0) for _ in range(100))


def test_many_names_in_a_table_of_fixed_size() -> None:
    rates = Rates(3600.0, clock=Clock())
    for number in range(SLOTS // 4):
        rates.allow(f"name{number}", 10)
    assert sum(rates.total(f"other{number}") > 0 for number in range(1000)) < 150
    assert all(rates.total(f"name{number}") >= 1 for number in range(SLOTS // 4))


def test_over_workers() -> None:
    rates = Rates(3600.0, 2)

    def work() -> None:
        rates.adopt(1)
        for _ in range(3):
            rates.allow("a", 10)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert rates.total("a") == 3
    assert [rates.allow("a", 5) for _ in range(3)] == [True, True, False]
