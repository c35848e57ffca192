"""Making names and octets durable. It takes long: the lane is left meanwhile."""

from __future__ import annotations

import os

from mailserver.store.lane import LANE


def sync_path(path: str) -> None:
    """fsync a file or directory by name."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def sync_file(fd: int) -> None:
    """fsync an open file."""
    with LANE.aside():
        os.fsync(fd)
