"""The scheduler with a carrier of our making: how many at a time, and that one slow destination holds up no other."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mailserver.delivery.local import LocalTarget
from mailserver.delivery.queue.reporter import Reporter
from mailserver.delivery.queue.scheduler import Scheduler, Timing
from mailserver.delivery.queue.spool import Spool
from mailserver.delivery.queue.transfer import Outcome
from mailserver.delivery.target import Delivery, Envelope, Recipient, Refused, Status
from mailserver.mail.addrspec import Address
from mailserver.store.store import Store

OK = Status(250, "2.0.0", "taken")


class Nobody:
    """Neither mailboxes nor ways for reports."""

    def start(self, envelope: Envelope) -> Delivery:
        raise Refused(Status(451, "4.0.0", "no"))

    def has(self, user: str, beginning: bytes, since: float) -> bool:
        return False

    def route(self, address: Address, *, may_relay: bool = False) -> list[Recipient]:
        raise Refused(Status(451, "4.0.0", "no"))


class Carrier:
    """Delivers to slow.example only when ``open``; counts."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.changed = threading.Condition()
        self.active: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.faults = 0
        self.closed = 0

    def destination(self, recipient: Recipient) -> str:
        return recipient.address.partition("@")[2]

    def way(self, destination: str) -> Carrier:
        return self

    def close(self) -> None:
        with self.changed:
            self.closed += 1

    def deliver(self, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]) -> list[Outcome]:
        name = self.destination(recipients[0])
        with self.changed:
            self.active[name] += 1
            self.most[name] = max(self.most[name], self.active[name])
        if name == "slow.example":
            assert self.open.wait(20)
        with self.changed:
            self.active[name] -= 1
            self.done[name] += 1
            self.changed.notify_all()
            if name == "odd.example" and not self.faults:
                self.faults += 1
                raise ZeroDivisionError
        return [Outcome(OK)] * len(recipients)

    def wait(self, name: str, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.done[name] >= count, 20)


def test_limits_and_fairness(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), sync=False)
    for number in range(30):
        _fill(spool, f"s{number:02}", "a@slow.example")
    for number in range(10):
        _fill(spool, f"z{number:02}", "a@quick.example", "b@quick.example")
    carrier = Carrier()
    nobody = Nobody()
    timing = Timing(first=0.05, workers=4, per_destination=2)
    scheduler = Scheduler(spool, carrier, nobody, Reporter("mx", nobody), timing)
    scheduler.start()
    try:
        carrier.wait("quick.example", 10)  # while all of slow.example waits
        assert carrier.done["slow.example"] == 0
        carrier.open.set()
        carrier.wait("slow.example", 30)
        assert carrier.most["slow.example"] <= 2
        _fill(spool, "odd", "a@odd.example")
        carrier.wait("odd.example", 2)  # what nobody foresaw is temporary
    finally:
        scheduler.stop()
    assert spool.count() == 0
    spool.close()


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    """Before anything is delivered."""
    spool = Spool(str(tmp_path), sync=False)
    left = Path(spool.file("left.part"))
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    _fill(spool, "a", "a@quick.example")
    carrier, nobody = Carrier(), Nobody()
    scheduler = Scheduler(spool, carrier, nobody, Reporter("mx", nobody), Timing())
    scheduler.start()
    try:
        carrier.wait("quick.example", 1)
        assert not left.exists()
    finally:
        scheduler.stop()
    spool.close()


def test_who_has_it_and_was_not_noted_gets_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the process is killed between the delivery and the note of it."""
    spool = Spool(str(tmp_path), sync=False)
    settle, settled, failures = spool.settle, threading.Event(), [True] * 2  # the second: when it is put off

    def fails_at_first(*args: Any) -> bool:
        if failures:
            failures.pop()
            raise sqlite3.OperationalError("killed")
        done = settle(*args)
        settled.set()
        return done

    monkeypatch.setattr(spool, "settle", fails_at_first)
    with Store(str(tmp_path / "mail"), durability="relaxed") as store:
        nobody, mailboxes = Nobody(), LocalTarget(lambda: store)
        scheduler = Scheduler(spool, Carrier(), mailboxes, Reporter("mx", nobody), Timing(first=0.05))
        scheduler.start()
        try:
            delivery = spool.start(Envelope("one", "a@far.example"))
            delivery.recipient(Recipient("alice@here.example", "alice"))
            delivery.write(b"Subject: once\r\n\r\n")
            delivery.commit()
            assert settled.wait(20)
        finally:
            scheduler.stop()
        assert not failures
        assert len(store.account("alice").inbox.rescan().messages) == 1
    assert spool.count() == 0
    spool.close()


def _fill(spool: Spool, name: str, *addresses: str) -> None:
    delivery = spool.start(Envelope(name, ""))
    for address in addresses:
        delivery.recipient(Recipient(address))
    delivery.write(b"A: b\r\n\r\n")
    delivery.commit()
