"""Fixtures for all tests. A test that leaves a thread or a child process behind fails."""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.ops import log


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    before, children_before = set(threading.enumerate()), _children()
    yield
    deadline = time.monotonic() + 5
    left: list[threading.Thread] = []
    while time.monotonic() < deadline:
        left = [thread for thread in threading.enumerate() if thread not in before and not _foreign(thread)]
        if not left:
            break
        left[0].join(0.1)
    children = [child for child in _children() if child not in children_before]
    assert not left, f"threads left behind: {left}"
    assert not children, f"child processes left behind: {children}"


def _foreign(thread: threading.Thread) -> bool:
    return thread.name.startswith(("execnet", "pytest_timeout")) or "pytest" in type(thread).__module__


def _children() -> list[str]:
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:  # a kernel without that file
        return []
    return text.split()


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """The lines logged during the test."""
    lines: list[str] = []
    log.configure("debug", sink=lambda line: lines.append(line.decode()))
    yield lines
    log.configure()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key."""
    from scripts.certificate import write_certificate

    folder = tmp_path_factory.mktemp("tls")
    return write_certificate(folder, "localhost", days=2)


@pytest.fixture(autouse=True, scope="session")
def _utc() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    assert datetime.datetime.now().astimezone().utcoffset() == datetime.timedelta(0)
