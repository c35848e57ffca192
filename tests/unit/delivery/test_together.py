"""Many threads deliver to one mailbox: one transaction for many, and each hears of its own message."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailserver.delivery import together
from mailserver.delivery.together import Together
from mailserver.store.errors import Kind, StoreError
from mailserver.store.mailbox import Append, Mailbox
from mailserver.store.quota import Limits
from mailserver.store.store import Store

THREADS = 24


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    limits = {"full": Limits(0, 10)}
    with Store(str(tmp_path), durability="relaxed", limits=lambda user: limits.get(user, Limits(0, 0))) as made:
        yield made


class Slow:
    """Holds the first append until all others have come; counts the messages of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, joined: Together, box: Mailbox, threads: int) -> None:
        self.sizes: list[int] = []
        append = Mailbox.append

        def waiting(this: Mailbox, items: Sequence[Append], *, keep: bool = False) -> object:
            if not self.sizes:
                deadline = threading.Event()
                for _ in range(1000):
                    with joined._lock:
                        if len(joined._waiting.get(box, ())) == threads - 1:
                            break
                    deadline.wait(0.01)
            self.sizes.append(len(items))
            return append(this, items, keep=keep)

        monkeypatch.setattr(Mailbox, "append", waiting)


def run(joined: Together, box: Mailbox, count: int = THREADS) -> list[StoreError | None]:
    results: list[StoreError | None] = [None] * count

    def one(number: int) -> None:
        incoming = box.receive()
        incoming.write(b"Subject: %d\r\n\r\n" % number)
        try:
            joined.append(box, incoming)
        except StoreError as error:
            results[number] = error
        finally:
            incoming.discard()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_transaction_for_those_who_wait(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    joined, box = Together(), store.account("alice").mailbox("INBOX")
    slow = Slow(monkeypatch, joined, box, THREADS)
    assert run(joined, box) == [None] * THREADS
    assert slow.sizes == [1, THREADS - 1]
    found = box.rescan().messages
    assert len({m.uid for m in found}) == THREADS
    assert {box.read(m) for m in found} == {b"Subject: %d\r\n\r\n" % n for n in range(THREADS)}
    assert joined._waiting == {}
    assert not list(tmp_path.rglob("tmp/*"))


def test_no_transaction_is_too_big(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "MOST", 10)
    joined, box = Together(), store.account("alice").mailbox("INBOX")
    slow = Slow(monkeypatch, joined, box, THREADS)
    assert run(joined, box) == [None] * THREADS
    assert slow.sizes == [1, 10, 10, 3]


def test_what_fails_together_may_be_right_for_each(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    joined, box = Together(), store.account("full").mailbox("INBOX")
    Slow(monkeypatch, joined, box, THREADS)
    results = run(joined, box)
    failed = [error for error in results if error is not None]
    assert len(failed) == THREADS - 10
    assert {error.kind for error in failed} == {Kind.NO_QUOTA}
    subjects = {box.read(m) for m in box.rescan().messages}
    assert subjects == {b"Subject: %d\r\n\r\n" % n for n, error in enumerate(results) if error is None}


def test_nobody_waits_for_ever_behind_a_fault(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    joined, box = Together(), store.account("alice").mailbox("INBOX")

    def broken(this: Mailbox, items: Sequence[Append], *, keep: bool = False) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(Mailbox, "append", broken)
    errors: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(args.exc_value))
    results = run(joined, box, 6)
    assert len(errors) + sum(error is not None for error in results) == 6
    assert errors
    assert joined._waiting == {}
