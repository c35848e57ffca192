"""One mbox file through its folder: what is read, what is written where, what is refused."""

from __future__ import annotations

import errno
import os
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.mbox.entry import Box, Marks
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.model.flags import Flag
from tests.mboxes import addition, check, contents, opened

FROM = b"From a@b Mon Jan  1 00:00:00 2024\n"
FOREIGN = FROM + b"Subject: foreign\n\ntext\n\n"


class Reads:
    """Counts the octets that are read by position."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.octets = 0
        real = os.pread

        def pread(fd: int, count: int, offset: int) -> bytes:
            data = real(fd, count, offset)
            self.octets += len(data)
            return data

        monkeypatch.setattr(os, "pread", pread)


def _filled(path: Path, count: int = 10, size: int = 20_000) -> tuple[MboxFolder, Box]:
    folder, _ = opened(path)
    with folder.hold():
        box = folder.assign(folder.load(), 4711)
        text = b"Subject: %d\r\n\r\n" + b"x" * size + b"\r\n"
        return folder, folder.append(box, [addition(text % n) for n in range(count)])


def _refused(kind: Kind, call: Callable[[], Any]) -> None:
    with pytest.raises(StoreError) as refused:
        call()
    assert refused.value.kind is kind


# -- what is read


def test_unchanged_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, box = _filled(tmp_path / "mbox")
    assert folder.fingerprint() == box.fingerprint
    reads = Reads(monkeypatch)
    with folder.hold():
        assert folder.load(box) is box
        assert folder.load(box, verify=True) is box
    assert reads.octets == 0
    with folder.hold():  # by somebody who knew nothing, too: what he did to the times is not taken for a change
        other = MboxFolder(folder.path, sync=False)
    with other.hold():
        assert other.load().entries == box.entries
    with folder.hold():
        assert folder.load(box) is box


def test_a_file_that_grew_is_read_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path, 10, 2_000_000)
    with path.open("ab") as f:
        f.write(FOREIGN)
    reads = Reads(monkeypatch)
    with folder.hold():
        grown = folder.load(box)
        assert not grown.verified
        assert grown.entries[:10] == box.entries
        assert [entry.uid for entry in grown.entries[10:]] == [None]
        assert reads.octets < 4_000_000
        grown = folder.assign(grown, 1)
        assert grown.entries[10].uid == 11
        assert reads.octets < 8_000_000
        check(folder, grown)


def test_headers_are_read_where_times_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mutt changes flags in place, at once after we looked, and the size stays."""
    path = tmp_path / "mbox"
    folder, box = _filled(path, 10, 200_000)
    for number in range(1, 4):
        octets = path.read_bytes()
        at = octets.index(b"Status:", box.entries[number].offset)
        with path.open("r+b") as f:
            f.seek(at)
            f.write(b"Status: RO\nX-Keywords: k   \n")
        path.write_bytes(octets) if number == 3 else None
        with folder.hold():
            box = folder.load(box)
            check(folder, box)
    assert [entry.marks.flags for entry in box.entries][:4] == [0, Flag.SEEN, Flag.SEEN, 0]


def test_flags_changed_and_grown(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path)
    octets = path.read_bytes().replace(b"Status: \n", b"Status:O\n", 5)
    path.write_bytes(octets + FOREIGN)
    with folder.hold():
        quick = folder.load(box)
        assert quick.entries[1].marks.recent
        assert not quick.verified
        sure = folder.load(quick, verify=True)
        assert [entry.marks.recent for entry in sure.entries[:6]] == [False] * 5 + [True]
        check(folder, sure)


def test_times_that_cannot_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In somebody else's file: then a young one is looked at, for its time may hide a change."""
    folder, box = _filled(tmp_path / "mbox")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(os, "utime", refuse)
    with folder.hold():
        box = folder.set_flags(folder.load(box), {1: Marks(2)})
        assert not box.certain
        reads = Reads(monkeypatch)
        again = folder.load(box)
        assert reads.octets > 0
        assert again.entries == box.entries


@pytest.mark.parametrize("change", ["rewritten", "shorter", "another file", "not at a line start", "edited body"])
def test_everything_else_is_read_whole(tmp_path: Path, change: str) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path, 4, 100)
    octets = path.read_bytes()
    if change == "rewritten":
        path.write_bytes(octets[: box.entries[1].offset] + octets[box.entries[2].offset :] + FOREIGN * 9)
    elif change == "shorter":
        path.write_bytes(octets[: box.entries[2].offset])
    elif change == "another file":
        (tmp_path / "new").write_bytes(octets + FOREIGN)
        (tmp_path / "new").rename(path)
    elif change == "not at a line start":
        path.write_bytes(octets + b"X" + FOREIGN)
    else:
        path.write_bytes(octets[: box.entries[1].end - 5] + b"\n" + FOREIGN + octets[box.entries[1].end :] + FOREIGN)
    with folder.hold():
        now = folder.load(box)
        check(folder, now)
        assert now.verified or change == "edited body"


# -- what stands in files


def test_garbage_before_the_first_message(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(b"\nnonsense\nFrom nobody\n" + FOREIGN * 2)
    folder, box = opened(path)
    with folder.hold():
        assert box.garbage == 22
        box = folder.expunge(folder.load(box), {1})
        box = folder.expunge(box, {2})
        box = folder.append(box, [addition(b"Subject: x\r\n\r\nx\r\n")])
        assert path.read_bytes().startswith(b"\nnonsense\nFrom nobody\nFrom MAILER_DAEMON ")
        assert [entry.uid for entry in box.entries] == [3]
        check(folder, box)


@pytest.mark.parametrize(
    ("length", "count"), [(len(b"text\n\n" + FOREIGN + b"x\n"), 1), (3, 2), (4, 2), (99999, 2), (0, 2)]
)
def test_content_length(tmp_path: Path, length: int, count: int) -> None:
    """Believed when a From_ line or the end of the file stands there."""
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"Content-Length: %d\n\ntext\n\n" % length + FOREIGN + b"x\n\n")
    folder, box = opened(path)
    with folder.hold():
        box = folder.load()
        assert len(box.entries) == count
        assert (b"Content-Length" in path.read_bytes()) is (count == 1)


def test_a_wrong_content_length_hides_nothing_later(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    letter = b"Subject: %d\r\n\r\nx\r\n"
    path.write_bytes(FROM + b"Content-Length: 5000\n\ntext\n\n")
    folder, box = opened(path)
    with folder.hold():
        box = folder.load(box)
        for number in range(60):
            box = folder.append(box, [addition(letter % number)])
            assert len(folder.load().entries) == number + 2
        assert len(path.read_bytes()) > 5000


def test_pseudo_message(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    top = (
        FROM
        + b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 77 0000000009 a b\nStatus: RO\n\nx\n\n"
    )
    path.write_bytes(top + FOREIGN)
    folder, box = opened(path)
    with folder.hold():
        box = folder.load(box)
        assert box.base is not None
        assert box.base == (77, 11, ("a", "b"))
        assert [entry.uid for entry in box.entries] == [10]
        box = folder.set_flags(box, {10: Marks(0, frozenset({"new"}))})
        box = folder.expunge(box, {10})
        assert box.base == (77, 11, ("a", "b", "new"))
        check(folder, box)


def test_a_forged_x_imap_hides_no_mail(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"Subject: buy\nX-IMAP: 77 0000000009\n\nx\n\n" + FOREIGN)
    folder, box = opened(path)
    with folder.hold():
        assert len(folder.load(box).entries) == 2


def test_uids_without_end_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"X-IMAPbase: 77 4294967295\nX-UID: 5\n\nx\n\n" + FOREIGN)
    folder, box = opened(path)
    assert box.base == (4711, 3, ())
    with folder.hold():
        box = folder.load(box)
        box = folder.assign(replace_latest(folder, box), 1, uidnext=2**31 - 2)
        _refused(Kind.LIMIT, lambda: folder.append(box, [addition(b"x\r\n")] * 3))
        assert folder.load(box).entries == box.entries


def replace_latest(folder: MboxFolder, box: Box) -> Box:
    return folder.load(box)


def test_crlf_files_stay_so(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FOREIGN.replace(b"\n", b"\r\n"))
    folder, box = opened(path)
    with folder.hold():
        box = folder.append(folder.load(box), [addition(b"Subject: x\r\n\r\nFrom x\r\n\r")])
        box = folder.set_flags(box, {1: Marks(8, frozenset({"k" * 80}), False)})
        box = folder.append(box, [addition(b"Subject: y\r\n\r\n")])
        octets = path.read_bytes()
        assert octets.count(b"\n") == octets.count(b"\r\n")
        assert list(contents(folder, box).values())[1] == b"Subject: x\r\n\r\nFrom x\r\n\r"
        box = folder.expunge(box, {1, 2, 3})
        assert b"\n" not in path.read_bytes().replace(b"\r\n", b"")
        check(folder, box)


def test_a_torn_message_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path, 2, 10)
    whole = path.read_bytes()
    for cut in range(box.entries[1].offset + 1, len(whole)):
        path.write_bytes(whole[:cut])
        with folder.hold():
            now = folder.assign(folder.load(), 4711)
            now = folder.append(now, [addition(b"Subject: after\r\n\r\ntext\r\n")])
            found = contents(folder, now)
            assert list(found.values())[-1] == b"Subject: after\r\n\r\ntext\r\n"
            assert found[1] == b"Subject: 0\r\n\r\nxxxxxxxxxx\r\n" or cut < box.entries[1].header
            check(folder, now)


# -- changes


def test_small_changes_are_made_in_place(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path, 3, 50)
    before, inode = path.read_bytes(), path.stat().st_ino
    with folder.hold():
        box = folder.load(box)
        for flags in range(32):
            box = folder.set_flags(box, {2: Marks(flags, frozenset({"work", "$Label1"}), False)})
            assert len(path.read_bytes()) == len(before)
            check(folder, box)
        box = folder.set_flags(box, {2: Marks(0, frozenset({"w" * 90}))})
        assert len(path.read_bytes()) > len(before)
        box = folder.expunge(box, {1})
        check(folder, box)
    assert path.stat().st_ino == inode


def test_an_emptied_mailbox_keeps_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path, 3, 50)
    with folder.hold():
        box = folder.expunge(folder.load(box), {1, 2, 3})
        assert (box.entries, box.uidnext) == ((), 4)
    path.write_bytes(b"")
    with folder.hold():  # emptied by others, and the caller remembers
        box = folder.assign(folder.load(box), 4711, uidnext=4, keywords=["a"])
        assert box.base == (4711, 4, ("a",))
        assert folder.load().base == box.base
        assert [e.uid for e in folder.append(folder.load(), [addition(b"x\r\n")]).entries] == [4]


class Failing:
    """The n-th call of a function of the operating system fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.left = 0
        self.hit = False
        real = getattr(os, name)

        def call(*args: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.hit = True
                raise OSError(errno.ENOSPC, "full")
            return real(*args)

        monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("name", ["pwrite", "fsync"])
def test_append_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path, 2, 100)
    folder.sync = name == "fsync"
    failing = Failing(monkeypatch, name)
    hits = 0
    while failing.hit or not hits:
        with folder.hold():
            box, before = folder.load(), path.stat().st_size
            failing.left, failing.hit = hits + 1, False
            refusals: list[str] = []
            try:
                folder.append(box, [addition(b"x" * 700_000 + b"\r\n")] * 4)
            except StoreError as error:
                refusals.append(error.text)
            if failing.hit:
                assert refusals == ["the disk is full"]
                assert path.stat().st_size == before
                assert list(contents(folder, folder.load())) == [1, 2]
                hits += 1
        assert hits < 10
    assert hits == (4 if name == "pwrite" else 1)  # the base, then the messages
    with folder.hold():
        assert len(folder.load().entries) == 6


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path, 8, 4_000_000)
    with folder.hold():
        box = folder.load(box)
        tracemalloc.start()
        try:
            box = folder.expunge(box, {1})
            folder.load()
            with folder.open(box.entries[3]) as message:
                assert sum(map(len, message.chunks())) == message.size > 4_000_000
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        check(folder, box)
    assert peak < 10_000_000


# -- messages


def test_a_message_is_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    folder, box = _filled(path, 3, 2_000_000)
    with folder.open(box.entries[1]) as big:
        assert big.fd >= 0
        with folder.hold():
            folder.expunge(folder.load(box), {1, 2})
        expected = b"Subject: 1\r\n\r\n" + b"x" * 2_000_000 + b"\r\n"
        assert big.size == len(expected)
        assert big.read() == expected
        assert big.read_range(9, 4) == b"1\r\n\r"
        assert b"".join(big.chunks(70_000, 5, 1_500_000)) == expected[5:1_500_000]
    big.close()
    _refused(Kind.TEMPORARY, lambda: folder.open(box.entries[1]))
    _refused(Kind.TEMPORARY, lambda: folder.open(box.entries[2]))


def test_flags_do_not_hide_a_message(tmp_path: Path) -> None:
    folder, box = _filled(tmp_path / "mbox", 2, 10)
    with folder.hold():
        folder.set_flags(folder.load(box), {1: Marks(31, frozenset({"w"}), False)})
    with folder.open(box.entries[0]) as message:
        assert message.fd == -1
        assert message.read() == b"Subject: 0\r\n\r\nxxxxxxxxxx\r\n"
        assert message.read_range(3, 4) == b"ject"


def test_another_message_at_the_place_is_refused(tmp_path: Path) -> None:
    """Of the same length, with the same numbers."""
    path = tmp_path / "mbox"
    folder, box = _filled(path, 2, 10)
    path.write_bytes(path.read_bytes().replace(b"Subject: 1", b"Subject: 9"))
    _refused(Kind.TEMPORARY, lambda: folder.open(box.entries[1]))
    folder.open(box.entries[0]).close()


def test_no_such_file(tmp_path: Path) -> None:
    folder = MboxFolder(str(tmp_path / "mbox"), sync=False)
    assert not folder.exists()
    with pytest.raises(FileNotFoundError):
        folder.fingerprint()
    _refused(Kind.NOT_FOUND, lambda: folder.hold().__enter__())
    folder.make()
    folder.make()
    assert folder.exists()


def test_readers_while_the_file_is_rewritten(tmp_path: Path) -> None:
    """Each message is whole, or refused."""
    folder, box = _filled(tmp_path / "mbox", 12, 3000)
    stop, wrong = threading.Event(), []
    boxes = [box]

    def read() -> None:
        while not stop.is_set():
            for entry in boxes[-1].entries:
                try:
                    message = folder.open(entry)
                except StoreError as error:
                    wrong.extend([error] if error.kind is not Kind.TEMPORARY else [])
                    continue
                if message.read() != b"Subject: %d\r\n\r\n" % ((entry.uid or 0) - 1) + b"x" * 3000 + b"\r\n":
                    wrong.append(entry)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for uid in range(1, 12):
            with folder.hold():
                box = folder.set_flags(folder.load(box), {12: Marks(0, frozenset({"k" * 60 * uid}))})
                box = folder.expunge(box, {uid})
                boxes.append(box)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert replace(box, fingerprint=box.fingerprint).entries[0].uid == 12
