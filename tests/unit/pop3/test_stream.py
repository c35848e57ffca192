from __future__ import annotations

import random

import pytest

from mailserver.pop3.stream import stuffed, top


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def naive(data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    if lines[-1] == b"":
        lines.pop()
    return b"".join([(b"." if line[:1] == b"." else b"") + line + b"\r\n" for line in lines]) + b".\r\n"


CASES = [b"", b".", b"..", b"a", b".\r\n", b"a\r\n.", b"a\r\n.\r\n.b\r\n", b"a\r\n\r\n..", b"a\r", b"\r\n", b"a\0b\r\n"]


@pytest.mark.parametrize("data", CASES)
def test_stuffed(data):
    for size in (1, 2, 3, 100):
        assert b"".join(stuffed(cut(data, size))) == naive(data)


def test_stuffed_random():
    rng = random.Random(1)
    for _ in range(500):
        data = b"".join(rng.choices([b".", b"\r\n", b"a", b"\r\n."], k=rng.randrange(20)))
        assert b"".join(stuffed(cut(data, rng.randrange(1, 6)))) == naive(data)


def naive_top(data: bytes, lines: int) -> bytes:
    head, gap, body = data.partition(b"\r\n\r\n") if not data.startswith(b"\r\n") else (b"", b"\r\n", data[2:])
    return head + gap + b"".join(body.splitlines(keepends=True)[:lines])


TOPS = [
    b"A: b\r\n\r\n1\r\n2\r\n3\r\n",
    b"A: b\r\n",
    b"A: b",
    b"",
    b"\r\n1\r\n2",
    b"A: b\r\n\r\n",
    b"A: b\r\n\r\n1\r\n2",
]


@pytest.mark.parametrize("data", TOPS)
@pytest.mark.parametrize("lines", [0, 1, 2, 3, 99])
def test_top(data, lines):
    for size in (1, 2, 3, 4, 100):
        assert b"".join(top(cut(data, size), lines)) == naive_top(data, lines)
