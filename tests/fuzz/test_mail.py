"""Nothing in a message makes a parser raise, grow or slow down; ``FUZZ_N`` is how many messages (300)."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.responses.bodystructure import body, bodystructure
from mailserver.imap.responses.envelope import envelope
from mailserver.mail import headers, structure, text
from mailserver.mail.lines import to_crlf
from mailserver.mail.structure import Part
from tests.messages import corpus, mutated

_COUNT = int(os.environ.get("FUZZ_N", "300"))
_OCTETS = st.lists(
    st.sampled_from(
        [b"\r\n", b"--b", b"--", b"Content-Type: ", b"multipart/x; boundary=b", b"message/rfc822", b"To: ", b'"']
    )
    | st.binary(max_size=4)
).map(b"".join)


def _check_part(part: Part, outer: Part | None, message: bytes) -> None:
    assert part.header_start <= part.body_start <= part.body_end <= len(message)
    assert part.lines == part.body(message).count(b"\n")
    assert len(part.children) == 1 if part.is_message else part.is_multipart or not part.children
    if outer is not None:
        assert outer.body_start <= part.header_start
    before = part.body_start
    for child in part.children:
        assert child.header_start >= before
        before = child.body_end
        _check_part(child, part, message)


def _check(message: bytes) -> None:
    root = structure.parse(message)
    _check_part(root, None, message)
    assert (root.header_start, root.body_end) == (0, len(message))
    header = root.header(message)
    for shown in (envelope(header), body(message, root), bodystructure(message, root)):
        assert shown.startswith(b"(")
        assert shown.endswith(b")")
        assert b"\0" not in shown
    names = {field.name for field in headers.iterate(header)} - {b""}
    assert headers.fields(header, names, inverse=True).count(b"\n") <= header.count(b"\n")
    text.whole_text(message, root)


@given(_OCTETS)
def test_any_octets(message: bytes) -> None:
    _check(message)
    _check(to_crlf(message))


def test_mutated() -> None:
    chance = random.Random(int(os.environ.get("FUZZ_SEED", "7")))
    base = [octets for octets in corpus() if len(octets) < 30_000]
    for _ in range(_COUNT):
        _check(mutated(chance, chance.choice(base)))


_MULTIPART = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


@pytest.mark.parametrize(
    ("before", "unit"),
    [
        *(
            (b"", unit)
            for unit in (b"\n", b"A: b\r\n", b"From: a@b\r\n", b"Content-Type: message/rfc822\r\n\r\n", b"x")
        ),
        *((_MULTIPART, unit) for unit in (b"\r\n--", b"\r\n--b", b"--b\n", b"--b\n\n", b"\r\n--b--")),
        *(
            (b"To: ", unit)
            for unit in (b"(", b"()", b'"', b"\\", b",", b"<", b"a.", b"a:", b"a:b;,", b"@a,", b"a\r\n ", b" ")
        ),
        *((b"Content-Type: a/b", unit) for unit in (b";", b';a="', b";a=(", b"; a*1=b", b"=")),
        *((b"Subject: ", unit) for unit in (b"=?", b"=?a?q?", b"=?utf-8?q?a?= ", b" ", b"\r", b"\r\n\t")),
        *(
            (b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n", u)
            for u in (b" ", b"=")
        ),
    ],
)
def test_linear(before: bytes, unit: bytes) -> None:
    def message(size: int) -> bytes:
        return before + unit * (size // len(unit)) + b"x"

    small, big = (lines_run(_check, message(size)) for size in (1_000, 4_000))
    assert big < 5 * small  # four times the size; sixteen times the lines would be quadratic
    _check(message(120_000))  # where an expression would take the square, this would not end before the test's timeout


def lines_run(function: Callable[[bytes], None], argument: bytes) -> int:
    """How many lines of Python a call runs: a measure of work that no other program can disturb."""
    count = 0

    def step(frame: FrameType, event: str, value: Any) -> Any:
        nonlocal count
        count += event == "line"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        function(argument)
    finally:
        sys.settrace(before)
    return count
