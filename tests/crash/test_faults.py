"""The machine fails under the server: the client is told, the log says why, others are served, and it recovers."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mailserver import ImapConfig, ImapServer
from mailserver.store import watch
from mailserver.store.check import check_account
from tests.concurrency import disk
from tests.concurrency.model import Model, message
from tests.concurrency.wire import Closed, Wire
from tests.program import Program

USERS = {"alice": "secret", "bob": "secret"}
CALLS = ("open", "write", "rename", "link", "unlink", "fsync", "stat", "listdir", "utime", "mkdir")


ERRORS = [errno.ENOSPC, errno.EACCES]
if int(os.environ.get("CRASH_N", "10")) > 10:
    ERRORS += [errno.EIO, errno.EMFILE, errno.EROFS]


class Fault:
    """Lets the ``n``-th call of the operating system on the mail of alice fail."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = f"{root}/alice"
        self.countdown = -1
        self.error = errno.ENOSPC
        self.hit = ""
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kinds: Any) -> Any:
            if self.countdown > 0 and self._concerns(args):
                self.countdown -= 1
                if self.countdown == 0:
                    self.hit = f"{name} {args[:2]!r}"
                    raise OSError(self.error, os.strerror(self.error), "injected")
            return real(*args, **kinds)

        return call

    def _concerns(self, args: tuple[Any, ...]) -> bool:
        path = args[0]
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return False
        return str(path).startswith(self.root) and "sqlite" not in str(path)

    def arm(self, n: int, error: int) -> None:
        self.countdown, self.error, self.hit = n, error, ""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImapServer]:
    config = ImapConfig(host="127.0.0.1", port=0, ssl_port=-1, mailbox_path=str(tmp_path / "mail"), users=USERS)
    with ImapServer(config) as server:
        yield server


def commands(box: str) -> list[tuple[str, tuple[bytes, ...]]]:
    octets = message(f"n-{box}")
    return [
        (f"APPEND {box} {{}}", (octets,)),
        (f"APPEND {box} {{}} (\\Seen Work) {{}}", (octets, octets)),
        ("STORE 1:3 +FLAGS (\\Flagged Later)", ()),
        ("EXPUNGE", ()),
        (f"COPY 1:3 {box}-other", ()),
        (f"MOVE 1:3 {box}-other", ()),
        (f"SELECT {box}", ()),
        ("FETCH 1:3 BODY[]", ()),
        (f"CREATE {box}-new", ()),
        (f"RENAME {box}-other {box}-moved", ()),
        (f"DELETE {box}-other", ()),
        (f"STATUS {box}-other (MESSAGES UNSEEN)", ()),
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("number", range(len(commands(""))))
def test_each_call_fails_once(
    server: ImapServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[str],
    number: int,
    error: int,
) -> None:
    """Whatever call of a command fails, the answer is NO or OK, and all views and files agree afterwards."""
    root = tmp_path / "mail"
    fault = Fault(root, monkeypatch)
    with Model(server.port) as model, Model(server.port) as other:
        for n in range(1, 60):
            box = f"B{n}"
            model.require(f"CREATE {box}")
            model.require(f"CREATE {box}-other")
            model.require(f"APPEND {box} {{}} (\\Deleted) {{}} {{}}", *[message(f"{box}-{i}") for i in range(3)])
            other.require(f"EXAMINE {box}")
            model.require(f"SELECT {box}")
            model.learn()
            before = disk.flags(root / f"alice/.{box}")
            fault.arm(n, error)
            text, octets = commands(box)[number]
            result = model.command(text, *octets)
            hit, fault.countdown = fault.hit, -1
            assert result.status in ("OK", "NO"), f"{text}: {result} after {hit}"
            faults = [line for line in log_lines if "event=fault" in line]
            assert not faults, f"{text}: {hit}: {faults}"
            if model.mailbox != box:
                model.require(f"SELECT {box}")
            model.learn()
            state = model.verify()
            other.learn()
            assert other.verify() == state
            assert disk.flags(root / f"alice/.{box}") == state, hit
            if not result.ok and text.startswith("APPEND"):
                assert state == before, f"{text} was refused and did something: {hit}"
            model.require("UNSELECT")
            other.require("UNSELECT")
            if not hit:
                break
    assert check_account(str(root / "alice")) == []


def test_full_disk_of_another_is_not_mine(server: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(tmp_path / "mail", monkeypatch)
    with Model(server.port) as alice, Model(server.port, user="bob") as bob:
        fault.arm(1, errno.ENOSPC)
        assert not alice.command("APPEND INBOX {}", message("a")).ok
        bob.require("APPEND INBOX {}", message("b"))
        alice.require("APPEND INBOX {}", message("a"))


@pytest.mark.parametrize("durability", ["relaxed", "strict"])
def test_full_file_system(tmp_path: Path, durability: str) -> None:
    """A small file system, full: refused without a trace, and as before when there is room again."""
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() or os.system(f"mount -t tmpfs -o size=2m none {small} 2>/dev/null"):
        pytest.skip("no file system can be mounted here")
    try:
        program = Program(tmp_path, durability=durability, mail=small / "mail")
        with program, Model(program.ports["imap"]) as model:
            model.require("SELECT INBOX")
            for _ in range(200):
                result = model.command("APPEND INBOX {}", message("big", 50_000))
                if not result.ok:
                    break
            assert result.code == "UNAVAILABLE"
            assert "full" in result.text
            model.learn()
            state = model.verify()
            assert disk.flags(small / "mail/alice") == state
            for uid in sorted(state):
                model.store([uid], "+FLAGS", ["\\Deleted"], uid=True)
            model.require("EXPUNGE")
            model.require("APPEND INBOX {}", message("fits", 50_000))
            model.learn()
            assert disk.flags(small / "mail/alice") == model.verify()
        assert check_account(str(small / "mail/alice")) == []
    finally:
        os.system(f"umount {small}")


def test_no_descriptors_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Program(tmp_path, wrapper=["prlimit", "--nofile=64:64"]) as program, ExitStack() as stack:
        port = program.ports["imap"]
        first = stack.enter_context(Model(port))
        first.require("APPEND INBOX {}", message("a"))
        first.require("SELECT INBOX")
        with ExitStack() as many, monkeypatch.context() as hasty:
            hasty.setattr(Wire, "patience", 1.0)
            for _ in range(80):
                try:
                    many.enter_context(Model(port, user="bob"))
                except (Closed, OSError, AssertionError):
                    break
            result = first.command("APPEND INBOX {}", message("b"))
            assert result.status in ("OK", "NO")
            assert result.ok or result.code == "UNAVAILABLE"
            assert first.command("NOOP").status in ("OK", "NO")
        deadline = time.monotonic() + 10
        while not first.command("APPEND INBOX {}", message("c")).ok:
            assert time.monotonic() < deadline
        first.learn()
        assert disk.flags(program.mail / "alice") == first.verify()
        stack.enter_context(Model(port)).require("SELECT INBOX")
    assert check_account(str(program.mail / "alice")) == []


@pytest.mark.parametrize("missing", ["instances", "watches"])
def test_without_inotify(
    server: ImapServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str], missing: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE if missing == "instances" else errno.ENOSPC, f"no more inotify {missing}")

    monkeypatch.setattr(*((watch, "INotify") if missing == "instances" else (watch.INotify, "add_watch")), refuse)
    with Model(server.port) as model:
        model.require("SELECT INBOX")
        timer = threading.Timer(0.05, disk.deliver, (tmp_path / "mail/alice", message("f")))
        timer.start()
        model.idle(10)
        timer.join()
        assert len(model.slots) == 1
    assert any(f"no more inotify {missing}" in line for line in log_lines)


# -- the index


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path) as program:
        yield program


def everything_works(program: Program, model: Model) -> None:
    model.require("APPEND INBOX {} (\\Seen) {}", message("a"), message("b"))
    model.require("NOOP")
    model.learn()
    model.store([1, len(model.slots)], "+FLAGS", ["\\Flagged", "Later"], uid=False)
    model.require(f"COPY {len(model.slots)} Trash")
    model.learn()
    assert disk.flags(program.mail / "alice") == model.verify()


def restarted(program: Program) -> None:
    """What a new process sees is what the files say, though the index had bad times."""
    program.kill()
    program.start()
    with Model(program.ports["imap"]) as model:
        model.require("SELECT INBOX")
        model.learn()
        assert disk.flags(program.mail / "alice") == model.verify()
    assert check_account(str(program.mail / "alice")) == []


def test_locked_index(program: Program) -> None:
    with Model(program.ports["imap"]) as model, Model(program.ports["imap"], user="bob") as bob:
        model.require("SELECT INBOX")
        everything_works(program, model)
        db = sqlite3.connect(program.mail / "alice/mailserver.sqlite", isolation_level=None)
        try:
            db.execute("BEGIN IMMEDIATE")
            everything_works(program, model)  # waits once
            began = time.monotonic()
            everything_works(program, model)
            bob.require("APPEND INBOX {}", message("b"))
            assert time.monotonic() - began < 8  # were each of these patient, it would be twelve seconds and more
            db.execute("ROLLBACK")
        finally:
            db.close()
        everything_works(program, model)
    assert "index-unusable" in program.log.read_text()
    restarted(program)


@pytest.mark.parametrize("harm", ["truncated", "garbage", "empty", "directory", "one page"])
def test_damaged_index(program: Program, harm: str) -> None:
    index = program.mail / "alice/mailserver.sqlite"
    with Model(program.ports["imap"]) as model:
        model.require("SELECT INBOX")
        everything_works(program, model)
        if harm == "truncated":
            os.truncate(index, 5000)
        elif harm == "garbage":
            index.write_bytes(b"garbage" * 5000)
        elif harm == "empty":
            os.truncate(index, 0)
        elif harm == "one page":
            with index.open("r+b") as f:
                f.seek(4096)
                f.write(os.urandom(4096))
        else:
            disk.remove_index(program.mail / "alice")
            index.mkdir()
        everything_works(program, model)
        everything_works(program, model)
        if harm == "directory":
            index.rmdir()
            everything_works(program, model)
    restarted(program)
