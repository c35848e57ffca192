"""The locks of an mbox: whom they hold off, when they are stale, that nobody waits with one in hand."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.mbox import locking
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.formats.mbox.locking import MboxLock, Method

EVERY = [(Method.FCNTL,), (Method.FLOCK,), (Method.DOTLOCK,), (Method.DOTLOCK, Method.FCNTL), locking.DEFAULT]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "mbox"
    found.touch()
    yield found
    assert os.listdir(tmp_path) == ["mbox"]


def _folder(path: Path, methods: tuple[Method, ...] = locking.DEFAULT, stale: float = 60) -> MboxFolder:
    return MboxFolder(str(path), sync=False, locks=methods, stale=stale)


def _is_free(folder: MboxFolder) -> bool:
    try:
        with folder.hold(0.01):
            return True
    except StoreError as error:
        if error.kind is not Kind.IN_USE:
            raise
        return False


@pytest.mark.parametrize("methods", EVERY)
def test_one_holds_it(path: Path, methods: tuple[Method, ...]) -> None:
    first, second = _folder(path, methods), _folder(path, methods)
    with first.hold(), first.hold():
        assert not _is_free(second)
        with first.hold():
            assert not _is_free(second)
        assert not _is_free(second)
    assert _is_free(second)


@pytest.mark.parametrize("methods", EVERY)
def test_threads_of_one_folder(path: Path, methods: tuple[Method, ...]) -> None:
    folder, inside, worst = _folder(path, methods), [0], [0]

    def work() -> None:
        for _ in range(20):
            with folder.hold():
                inside[0] += 1
                worst[0] = max(worst[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == [1]


def test_it_is_given_back_after_an_error(path: Path) -> None:
    with pytest.raises(KeyError), _folder(path).hold():
        raise KeyError
    assert _is_free(_folder(path))


def test_closing_another_descriptor_does_not_drop_it(path: Path) -> None:
    """As plain fcntl would."""
    with _folder(path, (Method.FCNTL,)).hold():
        os.close(os.open(path, os.O_RDWR))
        assert not _is_free(_folder(path, (Method.FCNTL,)))
        assert not _plain_fcntl(path)
    assert _plain_fcntl(path)


def _plain_fcntl(path: Path) -> bool:
    """Whether another process gets the lock that procmail and mutt use."""
    script = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=False).returncode == 0


def test_readers_share(path: Path) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            fd = os.open(path, os.O_RDONLY)
            stack.callback(os.close, fd)
            lock = MboxLock(str(path), fd, locking.DEFAULT, shared=True, stale=60)
            lock.take(time.monotonic() + 1)
            stack.callback(lock.release)
        assert not _is_free(_folder(path))
        assert not os.path.exists(f"{path}.lock")
    assert _is_free(_folder(path))


def test_nothing_is_held_while_waiting(path: Path) -> None:
    """The dot lock is somebody's, who wants fcntl next, and gets it at once."""
    dot = Path(f"{path}.lock")
    dot.write_text("0")
    refused: list[StoreError] = []

    def wait() -> None:
        try:
            with _folder(path).hold(0.5):
                pass
        except StoreError as error:
            refused.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    with path.open("r+b") as f:
        for _ in range(50):
            fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
            fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_UNLCK, 0, 0, 0, 0))
    thread.join()
    dot.unlink()
    assert [error.kind for error in refused] == [Kind.IN_USE]


def test_the_dot_lock_says_whose_it_is(path: Path) -> None:
    with _folder(path).hold():
        assert Path(f"{path}.lock").read_text() == f"{os.getpid()}:{socket.gethostname()}"


def _dead() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.mark.parametrize(
    ("text", "age", "free"),
    [
        ("{dead}:{host}", 0, True),
        ("{alive}:{host}", 0, False),
        ("{dead}:another.example.com", 0, False),
        ("{dead}", 0, False),
        ("0", 0, False),
        ("", 0, False),
        ("0", 1000, True),
        ("{alive}:{host}", 1000, True),
    ],
)
def test_stale_dot_locks(path: Path, text: str, age: float, free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    dot = Path(f"{path}.lock")
    dot.write_text(text.format(dead=_dead(), alive=os.getppid(), host=socket.gethostname()))
    now = time.time() + age
    monkeypatch.setattr(time, "time", lambda: now)
    assert _is_free(_folder(path)) is free
    dot.unlink(missing_ok=True)


def test_a_busy_mailbox_is_not_stale(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes to it: an old dot lock is his."""
    dot = Path(f"{path}.lock")
    dot.write_text("0")
    now = time.time() + 1000
    monkeypatch.setattr(time, "time", lambda: now)
    os.utime(path, (now, now))
    assert not _is_free(_folder(path))
    dot.unlink()


def test_long_work_touches_the_dot_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dot = Path(f"{path}.lock")
    fd = os.open(path, os.O_RDWR)
    lock = MboxLock(str(path), fd, locking.DEFAULT, shared=False, stale=60)
    lock.take(time.monotonic() + 1)
    os.utime(dot, (1, 1))
    lock.touch()
    assert dot.stat().st_mtime == 1
    now = time.monotonic() + 100
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lock.touch()
    assert dot.stat().st_mtime > 1
    dot.unlink()
    dot.write_text("another's")  # who thought ours stale
    lock.release()
    assert dot.read_text() == "another's"
    dot.unlink()
    lock.release()
    os.close(fd)


@pytest.mark.parametrize("method", [Method.DOTLOCK, Method.DOTLOCK_TRY])
def test_a_directory_that_lets_nobody_make_one(path: Path, method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> tuple[int, str]:
        raise PermissionError(13, "no")

    monkeypatch.setattr(MboxLock, "_unlinked", refuse)
    if method is Method.DOTLOCK_TRY:
        with _folder(path, (Method.FCNTL, method)).hold():
            assert not _plain_fcntl(path)
    else:
        with pytest.raises(StoreError) as refused, _folder(path, (Method.FCNTL, method)).hold():
            pass
        assert refused.value.kind is Kind.NO_PERMISSION
    assert _plain_fcntl(path)


def test_without_files_that_have_no_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS."""
    monkeypatch.setattr(locking, "_has_proc", False)
    first, second = _folder(path), _folder(path)
    with first.hold():
        assert not _is_free(second)
        assert sorted(os.listdir(path.parent)) == ["mbox", "mbox.lock"]
    assert _is_free(second)


def test_a_file_that_was_replaced_while_we_waited(path: Path) -> None:
    """The lock of the old one is worth nothing."""
    held = os.open(path, os.O_RDWR)
    fcntl.fcntl(held, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    sizes: list[int] = []
    folder = _folder(path)

    def wait() -> None:
        with folder.hold(20):
            sizes.append(folder.load().fingerprint.size)

    thread = threading.Thread(target=wait)
    thread.start()
    other = path.with_name("other")
    other.write_bytes(b"From a@b Mon Jan  1 00:00:00 2024\n\n")
    other.rename(path)
    os.close(held)
    thread.join()
    assert sizes == [35]
