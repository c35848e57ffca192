"""An fsync that several threads share: what it covers, and whose failure it is."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from mailserver.store.formats.maildir import folder
from mailserver.store.formats.maildir.folder import GroupSync


class Disk:
    """Each fsync waits until it is told how to end."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.count = 0
        self._ends: list[int] = []
        self._told = threading.Semaphore(0)

    def __call__(self, path: str) -> None:
        self.count += 1
        self.begun.release()
        assert self._told.acquire(timeout=20)
        if number := self._ends.pop(0):
            raise OSError(number, os.strerror(number), path)

    def end(self, number: int = 0) -> None:
        """The one that runs, or the next, ends with this error."""
        self._ends.append(number)
        self._told.release()


class Seen(threading.Condition):
    """A condition that says that somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.release()
        return super().wait(timeout)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(folder, "sync_path", disk)
    return disk


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Group:
    """Threads that ask for the same fsync, each when the one before waits."""

    def __init__(self, path: Path, disk: Disk, pool: ThreadPoolExecutor) -> None:
        self._sync = GroupSync(str(path))
        self._sync._condition = self._seen = Seen()
        self._disk, self._pool = disk, pool

    def first(self) -> Future[None]:
        asked = self._pool.submit(self._sync.sync)
        assert self._disk.begun.acquire(timeout=20)
        return asked

    def further(self) -> Future[None]:
        asked = self._pool.submit(self._sync.sync)
        assert self._seen.waiting.acquire(timeout=20)
        return asked

    def sharing(self) -> list[Future[None]]:
        """Two who came while the first fsync ran, which is done; theirs has begun."""
        first = self.first()
        others = [self.further(), self.further()]
        self._disk.end()
        first.result(20)
        assert self._disk.begun.acquire(timeout=20)
        return others


def test_those_who_came_meanwhile_share_the_next(tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor) -> None:
    """Not the one that runs: it may have begun before they wrote."""
    others = Group(tmp_path, disk, pool).sharing()
    assert not any(other.done() for other in others)
    disk.end()
    for other in others:
        other.result(20)
    assert disk.count == 2


def test_what_fails_fails_for_all_who_wait(tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor) -> None:
    """The kernel tells one of them, and the next fsync succeeds though what the others wrote is not on the disk."""
    group = Group(tmp_path, disk, pool)
    asked = [group.first(), group.further(), group.further()]
    disk.end(errno.EIO)
    for one in asked:
        with pytest.raises(OSError, match="Input/output error") as raised:
            one.result(20)
        assert raised.value.errno == errno.EIO
    assert disk.count == 1
    later = group.first()
    disk.end()
    later.result(20)


def test_a_shared_one_fails_for_all_who_share_it(tmp_path: Path, disk: Disk, pool: ThreadPoolExecutor) -> None:
    others = Group(tmp_path, disk, pool).sharing()
    disk.end(errno.EIO)
    disk.end()  # were there a third one, it would succeed
    for other in others:
        with pytest.raises(OSError, match="Input/output error"):
            other.result(20)
    assert disk.count == 2
