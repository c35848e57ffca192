"""Greylisting: who comes again is known, with all of its network; nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.smtp.defence import greylist
from mailserver.smtp.defence.greylist import KEEP_SECONDS, TRY_SECONDS, Greylist, network


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(tmp_path: Path, clock: Clock) -> Iterator[Greylist]:
    made = Greylist(str(tmp_path / "g.sqlite"), 60.0, clock)
    yield made
    made.close()


def test_comes_again(table: Greylist, clock: Clock) -> None:
    assert table.wait("192.0.2.1", "a@b", "c@d") == 60
    clock.now += 20
    assert table.wait("192.0.2.9", "A@b", "C@d") == 40  # another machine of the same network
    assert table.wait("192.0.2.1", "a@b", "e@d") == 60
    assert table.wait("198.51.100.1", "a@b", "c@d") == 60
    clock.now += 45
    assert table.wait("192.0.2.1", "a@b", "c@d") == 0
    assert table.wait("192.0.2.77", "new@x", "new@y") == 0  # the network is known
    assert table.wait("198.51.100.1", "x@b", "c@d") == 60
    clock.now += KEEP_SECONDS + 1
    assert table.wait("192.0.2.1", "a@b", "c@d") == 60


def test_too_late_begins_anew(table: Greylist, clock: Clock) -> None:
    table.wait("192.0.2.1", "a@b", "c@d")
    clock.now += TRY_SECONDS + 1
    assert table.wait("192.0.2.1", "a@b", "c@d") == 60


def test_the_table_stays_small(table: Greylist, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greylist, "MAX_ROWS", 50)
    monkeypatch.setattr(greylist, "_CLEAN_EVERY", 10)
    for number in range(200):
        clock.now += 1
        table.wait("192.0.2.1", f"{number}@x", "c@d")
    assert table._db.execute("select count(*) from seen").fetchone()[0] <= 60


def test_survives_and_fails_open(tmp_path: Path, clock: Clock) -> None:
    first = Greylist(str(tmp_path / "g.sqlite"), 60.0, clock)
    first.wait("2001:db8::1", "a@b", "c@d")
    first.close()
    again = Greylist(str(tmp_path / "g.sqlite"), 60.0, clock)
    clock.now += 61
    assert again.wait("2001:db8::2", "a@b", "c@d") == 0
    again._db.execute("drop table seen")
    assert again.wait("192.0.2.1", "a@b", "c@d") == 0
    again.close()


def test_networks() -> None:
    assert network("192.0.2.77") == "192.0.2.0/24"
    assert network("2001:db8::77") == "2001:db8::/64"
    assert network("unix") == "unix"
