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


def make_directories(path: str, *, sync: bool, mode: int = 0o700) -> None:
    """Make a directory and those above it that are missing; with ``sync`` each is durable under its name."""
    missing = []
    while path and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, mode if directory is missing[0] else 0o777)
        except FileExistsError:  # another process was quicker
            if not os.path.isdir(directory):
                raise
        if sync:
            sync_path(os.path.dirname(directory) or ".")


def sync_file(fd: int) -> None:
    """fsync an open file."""
    with LANE.aside():
        os.fsync(fd)
