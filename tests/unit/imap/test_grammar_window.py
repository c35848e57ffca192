"""PARTIAL: the part of what was found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.grammar.cursor import BadSyntax, Cursor
from mailserver.imap.grammar.window import Window, window

_N = st.integers(1, 12)


@given(_N, _N, st.booleans(), st.integers(0, 15))
def test_as_the_text_counts(one: int, other: int, from_end: bool, size: int) -> None:
    sign = b"-" if from_end else b""
    label = sign + b"%d:" % one + sign + b"%d" % other
    read = window(Cursor(b" " + label + b")"))
    assert read.label == label
    found = list(range(100, 100 + size))
    counted = {-(size - i) if from_end else i + 1: value for i, value in enumerate(found)}
    wanted = range(min(one, other), max(one, other) + 1)
    assert list(read.of(found)) == [v for n, v in counted.items() if abs(n) in wanted]


def test_values() -> None:
    assert window(Cursor(b" 400:500")) == Window(400, 500, False, b"400:500")
    assert window(Cursor(b" -500:-400")) == Window(400, 500, True, b"-500:-400")


@pytest.mark.parametrize("text", [b"", b" ", b" 1", b" 1:", b" 0:1", b" 1:*", b" -1:1", b" 1:-1", b" 1:4294967296"])
def test_bad(text: bytes) -> None:
    with pytest.raises(BadSyntax):
        window(Cursor(text))
