"""Making names and octets durable."""

from __future__ import annotations

import os


def sync_path(path: str) -> None:
    """fsync a file or directory by name."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
