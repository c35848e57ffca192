"""What stays in memory is bounded, and right."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.store import kept
from mailserver.store.kept import Kept, Open, Values
from mailserver.store.mailbox import Mailbox
from mailserver.store.store import Store
from tests.unit.store.conftest import put

EACH = 1000 + kept._OVERHEAD


def filled(values: Values, uids: Sequence[int], kind: str = "k") -> Kept:
    one = Kept()
    values.put(one, kind, dict.fromkeys(uids, b"x" * 1000))
    return one


def test_the_mailbox_filled_longest_ago_is_emptied() -> None:
    values = Values(capacity=10 * EACH)
    first, second = filled(values, range(4)), filled(values, range(4))
    values.put(first, "k", {9: b"x" * 1000})
    third = filled(values, range(3))
    assert second.get("k", [0]) == [None]
    assert first.get("k", [0, 9, 10]) == [b"x" * 1000, b"x" * 1000, None]
    assert third.get("other", [0]) == [None]
    assert values.held == 8 * EACH


def test_what_is_larger_than_all_room_is_not_kept() -> None:
    values = Values(capacity=10 * EACH)
    assert filled(values, range(20)).get("k", [0]) == [None]
    assert values.held == 0


def test_the_same_twice_counts_once() -> None:
    values = Values()
    one = filled(values, [1])
    values.put(one, "k", {1: b"x" * 1000, 2: b""})
    assert values.held == EACH + kept._OVERHEAD
    values.retain(one, frozenset([2]))
    assert values.held == kept._OVERHEAD
    values.abandon(one)
    assert values.held == 0


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 400)), max_size=60)
)
def test_the_count_is_right(steps: list[tuple[int, str, int, int]]) -> None:
    values = Values(capacity=3000)
    boxes = [Kept() for _ in range(4)]
    for box, kind, uid, size in steps:
        if size % 7 == 0:
            values.retain(boxes[box], frozenset(range(uid)))
        else:
            values.put(boxes[box], kind, {uid: bytes(size)})
        held = sum(len(v) + kept._OVERHEAD for b in boxes for known in b.kinds.values() for v in known.values())
        assert values.held == held <= 3000


class Box:
    def __init__(self, messages: int) -> None:
        self.messages = messages

    def known_messages(self) -> Sequence[object]:
        return range(self.messages)


def test_mailboxes_used_last_stay_open() -> None:
    held = Open(mailboxes=20, messages=1000)
    boxes = [Box(1) for _ in range(30)]
    for box in boxes:
        held.touch(box)
        held.touch(boxes[0])
    assert len(held) == 20
    held.forget(boxes[29])
    held.forget(boxes[29])
    assert len(held) == 19


def test_few_large_mailboxes_stay_open() -> None:
    held = Open(mailboxes=20, messages=1000)
    for _ in range(15):
        held.touch(Box(900))
    assert len(held) == kept._AT_LEAST


def test_values_of_messages_that_are_gone_are_let_go(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailserver.store.facts._MANY_GONE", 3)
    values = inbox._context.shared.values
    for _ in range(12):
        uid = put(inbox)
        messages = inbox.snapshot().messages
        assert inbox.facts("size", messages, make=lambda octets: b"%d" % len(octets)) == [b"23"]
        inbox.expunge([uid])
    assert values.held < 6 * (kept._OVERHEAD + 2)


def test_an_account_that_nobody_uses_leaves_no_mailbox_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailserver.store.store._KEPT_OPEN", 3)
    for number in range(6):
        put(store.account(f"user{number}").inbox)
    gc.collect()
    assert len(store._shared.open) == 3
    assert len(store._accounts) == 3
