"""The journal where it is not as it should be; the kills are in tests/crash."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.mbox.entry import Box, Marks
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.formats.mbox.journal import Journal, Patch, path_of
from tests.mboxes import addition, contents, opened


class Died(BaseException):
    """What stands for a kill."""


def _filled(path: Path) -> tuple[MboxFolder, Box]:
    folder, _ = opened(path)
    folder.sync = True
    with folder.hold():
        box = folder.assign(folder.load(), 4711)
        return folder, folder.append(box, [addition(b"Subject: %d\r\n\r\n" % n + b"x" * 3000) for n in range(6)])


def _interrupted(folder: MboxFolder, monkeypatch: pytest.MonkeyPatch, *, before: bool = False) -> None:
    """Expunge the first message; dead when half of the rest was copied, or before anything was."""
    real = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        if not before:
            real(fd, bytes(data)[: len(data) // 2], offset)
        raise Died

    with folder.hold():
        box = folder.load()
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", half)
            with pytest.raises(Died):
                folder.expunge(box, {1})
    assert os.path.exists(path_of(folder.path))


def _aside(path: Path) -> list[Path]:
    return list(path.parent.glob(".mbox.mailserver-journal.aside-*"))


def test_the_next_one_finishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]) -> None:
    folder, box = _filled(tmp_path / "mbox")
    _interrupted(folder, monkeypatch)
    with pytest.raises(StoreError) as moved:  # reading, too, finishes it first
        folder.open(box.entries[1])
    assert moved.value.kind is Kind.TEMPORARY
    assert os.listdir(tmp_path) == ["mbox"]
    with folder.hold():
        assert list(contents(folder, folder.load())) == [2, 3, 4, 5, 6]
    assert any("mbox-recovered" in line for line in log_lines)


@pytest.mark.parametrize("harm", ["cut", "a bit", "empty", "another file", "rewritten", "shorter"])
def test_what_does_not_fit_is_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str], harm: str
) -> None:
    """And the mbox is left as it is."""
    path = tmp_path / "mbox"
    folder, _ = _filled(path)
    _interrupted(folder, monkeypatch, before=True)
    journal, octets = Path(path_of(str(path))), path.read_bytes()
    if harm == "cut":
        os.truncate(journal, journal.stat().st_size - 100)
    elif harm == "a bit":
        data = bytearray(journal.read_bytes())
        data[len(data) // 2] ^= 1
        journal.write_bytes(data)
    elif harm == "empty":
        os.truncate(journal, 0)
    elif harm == "another file":
        (tmp_path / "new").write_bytes(octets)
        (tmp_path / "new").rename(path)
    elif harm == "rewritten":
        octets = octets.replace(b"Subject: 3", b"Subject: 9").replace(b"Subject: 5", b"Subject: 8")
        path.write_bytes(octets + b"x" * 10)
        octets += b"x" * 10
    else:
        with path.open("r+b") as f:
            f.write(b"Xrom")
            f.seek(9000)
            f.write(b"Y")
        octets = path.read_bytes()
    kept = journal.read_bytes()
    with folder.hold():
        folder.load()
    assert path.read_bytes() == octets
    assert [each.read_bytes() for each in _aside(path)] == [kept]
    assert any("mbox-journal-aside" in line for line in log_lines)


def test_a_journal_of_a_stranger_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mbox"
    folder, _ = _filled(path)
    _interrupted(folder, monkeypatch)
    octets = path.read_bytes()
    real = os.lstat

    def foreign(name: Any) -> os.stat_result:
        found = real(name)
        return os.stat_result((*found[:4], 12345, *found[5:])) if "journal" in str(name) else found

    with monkeypatch.context() as patched:
        patched.setattr(os, "lstat", foreign)
        with pytest.raises(StoreError) as refused, folder.hold():
            pass
    assert refused.value.kind is Kind.NO_PERMISSION
    assert path.read_bytes() == octets
    with folder.hold():
        assert len(folder.load().entries) == 5


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path)
    octets = path.read_bytes()
    marks = {1: Marks(0, frozenset({"k" * 2000}))}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    for name in ("posix_fallocate", "write"):
        with folder.hold(), monkeypatch.context() as patched:
            box = folder.load()
            patched.setattr(os, name, full)
            with pytest.raises(StoreError) as refused:
                folder.set_flags(box, marks)
            assert refused.value.kind is Kind.TEMPORARY
        assert path.read_bytes() == octets
        assert os.listdir(tmp_path) == ["mbox"]
    with folder.hold():
        assert folder.set_flags(folder.load(), marks).entries[0].marks == marks[1]


def test_everything_is_synced_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal before the mbox, the mbox before the journal goes; the size before the octets when it grows."""
    folder, box = _filled(tmp_path / "mbox")
    calls: list[str] = []

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any) -> Any:
            what = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else args[0]
            calls.append(f"{name} {os.path.basename(what).replace('mailserver-', '')}")
            return real(*args)

        return call

    for name in ("pwrite", "fsync", "ftruncate", "rename", "unlink"):
        monkeypatch.setattr(os, name, watched(name))
    top = os.path.basename(tmp_path)
    written = ["fsync mbox", "fsync .mbox.journal.tmp", "rename .mbox.journal.tmp", f"fsync {top}"]
    gone = ["unlink .mbox.journal", f"fsync {top}"]
    with folder.hold():
        box = folder.load()
        calls.clear()
        box = folder.set_flags(box, {1: Marks(0, frozenset({"k" * 400}))})
        assert calls == [*written, "ftruncate mbox", "fsync mbox", "pwrite mbox", "fsync mbox", *gone]
        calls.clear()
        box = folder.expunge(box, {2})
        assert calls == [*written, "pwrite mbox", "fsync mbox", "ftruncate mbox", "fsync mbox", *gone]
        calls.clear()
        folder.expunge(box, {6})
        assert calls == ["ftruncate mbox", "fsync mbox"]


def test_patches_in_several_places(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    octets = bytes(range(256)) * 40
    path.write_bytes(octets)
    fd = os.open(path, os.O_RDWR)
    try:
        journal = Journal(str(path), fd, sync=True)
        journal.change([])
        journal.change(
            [Patch(10, 3, (b"abc",)), Patch(600, 1000, (b"x" * 400, (0, 600))), Patch(5000, 5240, ((0, 9),))]
        )
    finally:
        os.close(fd)
    middle = octets[:10] + b"abc" + octets[13:600] + b"x" * 400 + octets[:600] + octets[1600:5000]
    assert path.read_bytes() == middle + octets[:9]
    assert os.listdir(tmp_path) == ["mbox"]
