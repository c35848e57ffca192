"""Messages in groups that are few and small enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailserver.store.portions import portions


@given(st.lists(st.integers(0, 50)), st.integers(1, 5), st.integers(0, 60))
def test_order_stays_and_bounds_hold(sizes: list[int], most: int, octets: int) -> None:
    groups = list(portions(sizes, lambda size: size, octets=octets, most=most))
    assert [size for group in groups for size in group] == sizes
    for group in groups:
        assert 1 <= len(group) <= most
        assert sum(group) <= octets or len(group) == 1
