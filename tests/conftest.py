"""Fixtures for all tests. A test that leaves a thread or a child process behind fails."""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from mailserver.app import PROTOCOLS, App
from mailserver.config.schema import (
    HttpConfig,
    ImapConfig,
    LmtpConfig,
    Pop3Config,
    QueueConfig,
    ServerConfig,
    Settings,
    SmtpConfig,
    StorageConfig,
    SubmissionConfig,
)
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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[App]:
    """All servers on free ports of loopback, with a store of their own and the users alice and bob (``secret``)."""
    ports = {"host": "127.0.0.1", "port": 0, "ssl_port": -1}
    settings = Settings(
        hostname="mail.example.com",
        domains=("example.com",),
        storage=StorageConfig(mailbox_path=str(tmp_path / "mail"), durability="relaxed"),
        imap=ImapConfig(**ports),
        pop3=Pop3Config(**ports),
        smtp=SmtpConfig(**ports),
        submission=SubmissionConfig(**ports),
        lmtp=LmtpConfig(**ports),
        http=HttpConfig(**ports),
        queue=QueueConfig(path=str(tmp_path / "queue")),
        server=ServerConfig(grace_seconds=2),
    )
    protocols = [name for name in PROTOCOLS if find_spec(f"mailserver.{name}.server")]
    with App(settings, protocols, users={"alice": "secret", "bob": "secret"}) as app:
        yield app


@pytest.fixture(autouse=True, scope="session")
def _utc() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    assert datetime.datetime.now().astimezone().utcoffset() == datetime.timedelta(0)


_ALLOWED_SKIPS = ("no IPv6 here", "no file system can be mounted here")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where CI is set nothing is left out: a program that is missing there fails the test that wants it."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # a hook wrapper is sent pluggy's result
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr)
        if not any(allowed in reason for allowed in _ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"left out, which in CI is a failure: {reason}"
