"""Sources that are files, as years, other programs and administrators leave them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mailserver.__main__ import main
from mailserver.store.formats.mbox import scan
from mailserver.store.store import Store
from mailserver.transfer import engine
from mailserver.transfer.sources import mbox

FROM = b"From a@b Fri Mar 11 07:06:00 2011\n"


def letter(number: int) -> bytes:
    return b"Subject: %d\nMessage-ID: <%d@x>\n\ntext of %d\n" % (number, number, number)


class Ground:
    """Where mail is brought to; the status and what was said of each folder."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = root / "m.toml"
        self.config.write_text(f"[storage]\nmailbox_path = '{root}/here'\ndurability = 'relaxed'\n")
        self._root, self._capsys = root, capsys
        self.errors = ""

    def bring(self, *words: str, status: int = 0) -> dict[str, Any]:
        self._capsys.readouterr()
        assert main(["import", "bob", "--config", str(self.config), "--json", *words]) == status
        said = self._capsys.readouterr()
        self.errors = said.err
        return {row["name"]: row for row in json.loads(said.out)["folders"]} if said.out else {}

    def octets(self, name: str = "INBOX") -> list[bytes]:
        with Store(str(self._root / "here"), durability="relaxed") as store:
            mailbox = store.account("bob").mailbox(name)
            return [mailbox.read(m).replace(b"\r\n", b"\n") for m in mailbox.rescan().messages]

    def uids(self) -> tuple[int, list[int], int]:
        with Store(str(self._root / "here"), durability="relaxed") as store:
            snapshot = store.account("bob").inbox.rescan()
            return int(snapshot.uidvalidity), [int(m.uid) for m in snapshot.messages], int(snapshot.uidnext)


@pytest.fixture
def ground(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ground:
    return Ground(tmp_path, capsys)


@pytest.mark.parametrize("kind", ["mbox", "maildir"])
def test_an_mbox_is_read_once(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / "Mail" / ".INBOX"
    path.parent.mkdir()
    path.write_bytes(b"".join(FROM + letter(n) + b"\n" for n in range(60)))
    os.utime(path, (1, 1))
    real, read = scan._whole, []

    def whole(window: Any, now: Any) -> Any:
        read.append(1)
        return real(window, now)

    monkeypatch.setattr(scan, "_whole", whole)
    monkeypatch.setattr(engine, "_UNIT_MESSAGES", 2)
    monkeypatch.setattr("mailserver.transfer.sources.mbox._COARSE_NS", -(1 << 62))  # it was just made
    source = path if kind == "mbox" else path.parent
    assert ground.bring(f"--from-{kind}", str(source), "--jobs", "3")["INBOX"]["imported"] == 60
    assert read == [1]
    assert ground.octets() == [letter(n) for n in range(60)]


def test_an_mbox_that_grows_while_it_is_read(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(b"".join(FROM + letter(n) + b"\n" for n in range(10)))
    real = engine._received

    def received(*words: Any) -> Any:
        with open(path, "ab") as f:
            f.write(FROM + letter(99) + b"\n")
        return real(*words)

    monkeypatch.setattr(engine, "_UNIT_MESSAGES", 2)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_received", received)
        ground.bring("--from-mbox", str(path), "--jobs", "2")
    assert ground.octets() == [letter(n) for n in range(10)]
    assert ground.bring("--from-mbox", str(path))["INBOX"]["imported"] == 10


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "r+b") as f:
    fcntl.lockf(f, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_delivery_that_is_going_on_is_waited_for(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + letter(1) + b"\n")
    waited: list[float] = []
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with monkeypatch.context() as patch:
            patch.setattr(mbox, "_PATIENCE", 0.0)
            ground.bring("--from-mbox", str(path), status=os.EX_UNAVAILABLE)
        assert "another program is writing to it" in ground.errors

        def release(seconds: float) -> None:
            waited.append(seconds)
            holder.communicate()

        monkeypatch.setattr(mbox.time, "sleep", release)
        assert ground.bring("--from-mbox", str(path))["INBOX"]["imported"] == 1
    assert waited


def test_what_lies_among_mboxes(ground: Ground, tmp_path: Path) -> None:
    top = tmp_path / "Mail"
    top.mkdir()
    (top / "old").write_bytes(b"\n\n" + FROM + letter(1) + b"\n")
    (top / "notes").write_bytes(b"no mail\n")
    os.mkfifo(top / "pipe")
    os.symlink("nowhere", top / "link")
    assert list(ground.bring("--from-mbox", str(top))) == ["old"]
    assert ground.octets("old") == [letter(1)]


def maildir(path: Path, **files: bytes) -> Path:
    for part in ("cur", "new", "tmp"):
        (path / part).mkdir(parents=True, exist_ok=True)
    for name, octets in files.items():
        (path / name).write_bytes(octets)
    return path


def test_what_lies_among_messages(ground: Ground, tmp_path: Path) -> None:
    top = maildir(tmp_path / "M", **{"cur/1.a:2,S": letter(1), "cur/2.b:2,": letter(2)})
    (top / "cur" / "directory").mkdir()
    os.mkfifo(top / "cur" / "3.pipe:2,")
    os.symlink("nowhere", top / "cur" / "4.link:2,")
    os.symlink("../mail", top / "cur" / "5.link:2,")
    (top / "mail").write_bytes(letter(5))
    for name in (".Sent", ".Sent.", ".INBOX"):
        maildir(top / name, **{"cur/1.x:2,": letter(len(name))})
    for expected in (3, 0):
        found = ground.bring("--from-maildir", str(top))
        assert found["INBOX"]["imported"] == expected
        assert list(found) == ["INBOX", "INBOX_", "Sent", "Sent_"]
    assert ground.octets() == [letter(1), letter(2), letter(5)]
    assert ground.octets("Sent_") == [letter(6)]


def test_two_files_of_one_base_name(ground: Ground, tmp_path: Path) -> None:
    files = {"cur/1.a:2,S": letter(1), "cur/1.a:2,": letter(1), "cur/2.b:2,S": letter(2), "new/2.b": letter(3)}
    top = maildir(tmp_path / "M", **files)
    for expected in (3, 0):
        assert ground.bring("--from-maildir", str(top))["INBOX"]["imported"] == expected
    assert sorted(ground.octets()) == [letter(1), letter(2), letter(3)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_new_mail_gets_no_uid_that_was_given_before(ground: Ground, tmp_path: Path, end: bytes) -> None:
    top = maildir(tmp_path / "M", **{"cur/1.a:2,S": letter(1), "cur/2.b:2,": letter(2), "new/3.c": letter(3)})
    lines = [b"3 V7 N50 G0", b"3 P<id> W9 :1.a", b"nonsense", b"", b"9 :2.b:2,", b"99999999999 :3.c", b"12 :3"]
    (top / "dovecot-uidlist").write_bytes(end.join(lines))
    for _ in range(2):
        assert ground.bring("--from-maildir", str(top))["INBOX"]["numbers"]
        assert ground.uids() == (7, [3, 9, 50], 51)
    maildir(top, **{"new/4.d": letter(4)})
    assert ground.bring("--from-maildir", str(top))["INBOX"]["numbers"]
    assert ground.uids() == (7, [3, 9, 50, 51], 52)


def test_new_mail_in_an_mbox_takes_no_uids_away(ground: Ground, tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    known = b"X-IMAPbase: 7 0000000049\nX-UID: 3\nStatus: RO\n" + letter(1)
    path.write_bytes(FROM + known + b"\n" + FROM + b"X-UID: 9\n" + letter(2) + b"\n" + FROM + letter(3) + b"\n")
    for _ in range(2):
        assert ground.bring("--from-mbox", str(path))["INBOX"]["numbers"]
        assert ground.uids() == (7, [3, 9, 50], 51)


def test_what_lies_among_letters(ground: Ground, tmp_path: Path) -> None:
    top = tmp_path / "letters"
    (top / "a.eml").mkdir(parents=True)
    (top / "b.eml").write_bytes(letter(1))
    os.mkfifo(top / "c.eml")
    assert ground.bring("--from-eml", str(top))["INBOX"]["imported"] == 1


def test_it_can_be_interrupted(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    top = maildir(tmp_path / "M", **{"cur/1.a:2,S": letter(1)})
    with monkeypatch.context() as patch:
        patch.setattr("mailserver.transfer.target.Target.append", interrupt)
        ground.bring("--from-maildir", str(top), status=130)
    assert ground.errors == "mailserver: interrupted\n"
    assert ground.bring("--from-maildir", str(top))["INBOX"]["imported"] == 1


def test_names_that_are_no_text(ground: Ground, tmp_path: Path) -> None:
    top = maildir(tmp_path / "M", **{"cur/1.a:2,S": letter(1)})
    maildir(top / os.fsdecode(b".\xe4"), **{"cur/1.a:2,": letter(2)})
    assert ground.bring("--from-maildir", str(top))["\ufffd"]["source"] == os.fsdecode(b".\xe4")


def test_what_is_no_mbox(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"no mail\n")
    (tmp_path / "empty").write_bytes(b"")
    ground.bring("--from-mbox", str(tmp_path / "notes"), status=os.EX_UNAVAILABLE)
    assert "notes: it is no mbox" in ground.errors
    assert ground.bring("--from-mbox", str(tmp_path / "empty"))["INBOX"]["imported"] == 0


@pytest.mark.parametrize("format", ["maildir", "mbox"])
def test_a_full_disk(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    ground.config.write_text(ground.config.read_text() + f"format = '{format}'\n")
    top = maildir(tmp_path / "M", **{f"cur/{n}.a:2,S": letter(n) for n in range(1, 8)})
    assert ground.bring("--from-maildir", str(top), "--skip", "INBOX") == {}
    real, room = os.write, [300]

    def write(fd: int, data: Any) -> int:
        if "/tmp/" not in os.readlink(f"/proc/self/fd/{fd}").removeprefix(str(tmp_path)):
            return real(fd, data)
        if len(data) > room[0]:
            raise OSError(28, os.strerror(28))
        room[0] -= len(data)
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        ground.bring("--from-maildir", str(top), status=os.EX_OSERR)
    assert ground.errors == "mailserver: the mail: No space left on device\n"
    assert not [path for path in (tmp_path / "here").rglob("tmp/*") if path.is_file()]
    assert ground.bring("--from-maildir", str(top))["INBOX"]["imported"] == 7


@pytest.mark.parametrize("kind", ["maildir", "eml"])
def test_a_message_that_may_not_be_read(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    top = maildir(tmp_path / "M", **{f"cur/{n}.eml": letter(n) for n in range(1, 6)})
    source = top if kind == "maildir" else top / "cur"
    real = open

    def opened(path: Any, *words: Any, **more: Any) -> Any:  # root may read everything
        if str(path).endswith("/3.eml"):
            raise PermissionError(13, os.strerror(13), path)
        return real(path, *words, **more)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", opened)
        found = ground.bring(f"--from-{kind}", str(source), "--jobs", "1", status=os.EX_DATAERR)["INBOX"]
    assert (found["imported"], found["withheld"]) == (4, 1)
    assert f"1 message could not be had: {top}/cur/3.eml: Permission denied" in ground.errors
    assert ground.bring(f"--from-{kind}", str(source))["INBOX"]["imported"] == 1
    assert sorted(ground.octets()) == [letter(n) for n in range(1, 6)]
