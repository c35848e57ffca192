"""From_ lines, and the header fields of the books."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.store.formats.mbox import fromline, headers
from mailserver.store.formats.mbox.entry import Base, Marks
from mailserver.store.model.flags import Flag


@pytest.fixture
def berlin() -> Iterator[None]:
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    os.environ["TZ"] = "UTC"
    time.tzset()


@given(st.integers(-62135510400, 253402214400), st.binary(max_size=30))
def test_what_is_made_is_read(seconds: int, sender: bytes) -> None:
    line = fromline.make(sender, seconds)
    assert fromline.date(line + b"\n") == seconds
    assert b"\n" not in line
    assert len(line) < fromline.LONGEST


@pytest.mark.usefixtures("berlin")
def test_local_time() -> None:
    """Others read it as local time; the hour that is there twice has its zone."""
    assert fromline.make(b"a@b", 1700000000) == b"From a@b Tue Nov 14 23:13:20 2023"
    summer_ends = 1698541200  # 2023-10-29 01:00 UTC: three o'clock becomes two
    for seconds in range(summer_ends - 7200, summer_ends + 7200, 600):
        assert fromline.date(fromline.make(b"a@b", seconds)) == seconds
    lines = {fromline.make(b"a@b", summer_ends + shift)[-5:] for shift in (-1800, 1800)}
    assert lines & {b"+0100", b"+0200"}


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"From a@b Mon Jan  1 00:00:00 2024 -0330", 1704067200 + 12600),
        (b"From a@b Mon Jan  1 00:00:00 +0200 2024", 1704067200 - 7200),
        (b"From a@b Mon Jan  1 00:00:00 2024 +0100 remote from x", 1704067200 - 3600),
        (b"From a@b Mon Jan  1 00:00 9999", 253370764800),
        (b"From a@b Mon Foo  1 00:00:00 2024", None),
        (b"From a@b", None),
        (b"From ", None),
        (b">From a@b Mon Jan  1 00:00:00 2024", None),
        (b" From a@b Mon Jan  1 00:00:00 2024", None),
    ],
)
def test_dates(line: bytes, seconds: int | None) -> None:
    assert fromline.date(line) == seconds


def test_senders() -> None:
    assert fromline.make(b"", 0) == b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970"
    assert fromline.make(b'"a b"@c\r\nX: y', 0) == b"From ab@cX:y Thu Jan  1 00:00:00 1970"


@given(
    st.integers(0, 31),
    st.frozensets(st.text("abc$\\x", min_size=1, max_size=9), max_size=4),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_books_are_read_as_written(flags: int, words: frozenset[str], recent: bool, first: bool, crlf: bool) -> None:
    marks = Marks(flags, words, recent and not flags & Flag.SEEN)
    base = Base(4711, 8, ("work",)) if first else None
    break_ = b"\r\n" if crlf else b"\n"
    for header in (b"", b"Subject: x\n\n", b"X-Status: A\nSubject: x\nX-Keywords: a\n b\n\n", b" odd\n\n"):
        header = header.replace(b"\n", break_)
        edit = headers.revised(header, headers.lines(marks, 5, base), crlf=crlf, keep_length=True, roomy=first)
        new = header[: edit.start] + edit.new + header[edit.end :]
        books = headers.read(new)
        assert (books.marks, books.uid, books.base, books.uid_behind_base) == (marks, 5, base, first)
        assert headers.visible(new) == headers.visible(header)
        again = headers.revised(new, headers.lines(Marks(), 5, base), crlf=crlf, keep_length=True, roomy=first)
        assert len(again.new) == again.end - again.start


def test_lines_stay_behind_content_length() -> None:
    """It tells whose Content-Length it is."""
    header = b"X-UID: 1\nSubject: x\nStatus: RO\nContent-Length: 5\nLines: 1\n\n"
    edit = headers.revised(header, headers.lines(Marks(), 7), crlf=False, keep_length=True, roomy=False)
    new = header[: edit.start] + edit.new + header[edit.end :]
    assert headers.read(new).counted_by_mutt
    assert headers.visible(new) == b"Subject: x\nLines: 1\n\n"


@pytest.mark.parametrize(
    "value", [b"", b"1", b"0 0000000001", b"4294967296 1", b"1 2147483648", b"x 1", b"1 x", b"-1 1", b"1 1x"]
)
def test_a_base_that_is_none(value: bytes) -> None:
    assert headers.read(b"X-IMAPbase: " + value + b"\nX-UID: 1\n\n").base is None


def test_odd_books() -> None:
    books = headers.read(b"x-status : fa\nSTATUS:ro\nX-UID: 7\nX-UID: 8\nContent-Length: 5\nContent-length: 6\n\n")
    assert books.marks == Marks(Flag.FLAGGED | Flag.ANSWERED | Flag.SEEN, frozenset(), False)
    assert (books.uid, books.content_length) == (7, 5)
