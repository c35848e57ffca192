"""A small file is read without taking memory for the biggest that it might be."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from mailserver.store.books import read_book


def test_as_much_as_there_is(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions"
    octets = b"name\n" * 50_000
    path.write_bytes(octets)
    for most in (0, 1, 1 << 16, (1 << 16) + 1, len(octets), 1 << 28):
        assert read_book(str(path), most) == octets[:most]
    with pytest.raises(FileNotFoundError):
        read_book(str(tmp_path / "none"), 1)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "subscriptions")
    assert read_book(str(tmp_path / "subscriptions"), 10) == b""


def test_memory_is_taken_for_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions"
    path.write_bytes(b"name\n")
    tracemalloc.start()
    try:
        read_book(str(path), 1 << 28)
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()
