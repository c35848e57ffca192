"""``doctor --fix`` while a server runs and a client has the mailbox open: what it mends, and that nobody loses mail."""

from __future__ import annotations

import imaplib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailserver import ImapConfig, ImapServer
from mailserver.__main__ import main
from mailserver.ops.doctor import machine
from mailserver.store import repair
from mailserver.store.check import check_account
from mailserver.store.formats.maildir import filename
from mailserver.store.store import Store
from tests.unit.store.conftest import put

COUNT = 5


class Ward:
    """The mail of alice, out of order; ``root`` is her Maildir."""

    def __init__(self, folder: Path) -> None:
        self.mail = folder / "mail"
        self.root = self.mail / "alice"
        self.config = folder / "m.toml"
        self.config.write_text(f"[storage]\nmailbox_path = '{self.mail}'\ndurability = 'relaxed'\n")
        with Store(str(self.mail), durability="relaxed") as store:
            for number in range(COUNT):
                put(store.account("alice").inbox, self.text(number), keywords=("work",))

    @staticmethod
    def text(number: int) -> bytes:
        return b"Subject: %d\r\n\r\ntext\r\n" % number

    def doctor(self, capsys: pytest.CaptureFixture[str], *words: str) -> list[tuple[str, bool]]:
        capsys.readouterr()
        assert main(["doctor", "alice", "--config", str(self.config), "--json", *words]) in (0, os.EX_DATAERR)
        return [(row["kind"], row["fixed"]) for row in json.loads(capsys.readouterr().out)]

    def cured(self, capsys: pytest.CaptureFixture[str], *kinds: str) -> None:
        """The harm is seen, left alone without --fix, mended with it, and seen no more."""
        assert self.doctor(capsys) == [(kind, False) for kind in kinds]
        assert self.doctor(capsys) == [(kind, False) for kind in kinds]
        assert self.doctor(capsys, "--fix") == [(kind, True) for kind in kinds]
        assert self.doctor(capsys) == []
        assert check_account(str(self.root)) == []

    def lines(self) -> list[str]:
        return (self.root / "dovecot-uidlist").read_text().splitlines()

    def file(self, uid: int) -> Path:
        base = next(line for line in self.lines()[1:] if line.startswith(f"{uid} ")).partition(":")[2]
        (found,) = self.root.glob(f"cur/{base}:*")
        return found


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path)


@pytest.fixture
def client(ward: Ward) -> Iterator[imaplib.IMAP4]:
    """Has the INBOX open when the test begins."""
    settings = ImapConfig(host="127.0.0.1", port=0, ssl_port=-1, mailbox_path=str(ward.mail), users={"alice": "pass"})
    with ImapServer(settings) as server:
        found = imaplib.IMAP4("127.0.0.1", server.port, timeout=30)
        found.login("alice", "pass")
        found.select()
        yield found
        found.logout()


def texts(client: imaplib.IMAP4) -> dict[int, bytes]:
    client.noop()
    found: dict[int, bytes] = {}
    for part in client.fetch("1:*", "(UID FLAGS BODY.PEEK[])")[1]:
        if isinstance(part, tuple):
            uid = re.search(rb"UID (\d+)", part[0])
            assert uid is not None
            assert b"work" in part[0]
            assert int(uid[1]) not in found
            found[int(uid[1])] = part[1]
    return found


def settled(client: imaplib.IMAP4, done: Callable[[dict[int, bytes]], bool]) -> dict[int, bytes]:
    """What the client sees when its server has looked, which it does now and then."""
    deadline = time.monotonic() + 20
    while not done(found := texts(client)) and time.monotonic() < deadline:
        pass
    return found


def all_texts() -> list[bytes]:
    return [Ward.text(number) for number in range(COUNT)]


@pytest.mark.parametrize("index", [True, False])
def test_two_messages_of_one_uid(
    ward: Ward, client: imaplib.IMAP4, capsys: pytest.CaptureFixture[str], index: bool
) -> None:
    before = texts(client)
    assert sorted(before.values()) == all_texts()
    if not index:
        for path in ward.root.glob("mailserver.sqlite*"):
            path.unlink()
    lines = ward.lines()
    doubled = re.sub(r"^4 ", "2 ", lines[4])
    place = ward.root / "dovecot-uidlist"
    (place.with_name("new-list")).write_text("\n".join([*lines[:3], doubled, lines[3], lines[5], ""]))
    place.with_name("new-list").rename(place)
    ward.cured(capsys, "files", *["index"] * index)
    after = settled(client, lambda found: 4 not in found)
    assert sorted(after.values()) == all_texts()
    assert {uid: text for uid, text in after.items() if uid in (1, 3, 5)} == {uid: before[uid] for uid in (1, 3, 5)}
    assert after.get(2, before[2]) == before[2]  # it means what it meant, or nothing any more
    if index:
        assert after.keys() == {1, 2, 3, 5, 6}


def test_two_files_of_one_message(ward: Ward, client: imaplib.IMAP4, capsys: pytest.CaptureFixture[str]) -> None:
    """A backup was played back over a Maildir in use."""
    before = texts(client)
    file = ward.file(2)
    os.utime(file, (1_300_000_000, 1_300_000_000))
    file.with_name(filename.base_of("cur/" + file.name) + ":2,FTa").write_bytes(file.read_bytes())
    ward.cured(capsys, "files")
    assert texts(client) == before
    assert ward.file(2).name.endswith(":2,Fa")  # not what would have it removed
    assert int(ward.file(2).stat().st_mtime) == 1_300_000_000


def test_two_messages_in_files_of_one_name(
    ward: Ward, client: imaplib.IMAP4, capsys: pytest.CaptureFixture[str]
) -> None:
    before = texts(client)
    other = b"Subject: other\r\n\r\n"
    file = ward.file(2)
    file.with_name(file.name.replace(":2,a", ":2,Sa")).write_bytes(other)
    assert ward.doctor(capsys)
    assert ("files", True) in ward.doctor(capsys, "--fix")
    after = settled(client, lambda found: other in found.values())
    assert sorted(after.values()) == sorted([*all_texts(), other])
    assert after.get(2, before[2]) == before[2]


def test_flags_in_disorder_and_half_a_line(
    ward: Ward, client: imaplib.IMAP4, capsys: pytest.CaptureFixture[str]
) -> None:
    before = texts(client)
    file = ward.file(3)
    file.rename(file.with_name(file.name.replace(":2,a", ":2,aSFS")))
    ward.cured(capsys, "files")
    assert texts(client) == before
    assert ward.file(3).name.endswith(":2,FSa")
    with (ward.root / "dovecot-uidlist").open("a") as f:
        f.write("6 :17000")
    ward.cured(capsys, "files")
    assert texts(client) == before


@pytest.mark.parametrize("name", ["dovecot-uidlist.lock", "dovecot-keywords.lock", "subscriptions.lock"])
def test_a_lock_of_a_process_that_is_gone(ward: Ward, capsys: pytest.CaptureFixture[str], name: str) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    lock = ward.root / name
    lock.write_text(f"{int(gone.stdout)}:{socket.gethostname()}")
    ward.cured(capsys, "lock")
    assert not lock.exists()
    lock.write_text(f"{os.getpid()}:{socket.gethostname()}")
    assert ward.doctor(capsys, "--fix") == []
    os.utime(lock, (1, 1))
    assert ward.doctor(capsys, "--fix") == [("lock", False)]
    assert lock.exists()
    assert list(ward.root.glob("*.stale")) == []


def test_a_lock_that_is_taken_while_it_is_removed(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = ward.root / "dovecot-uidlist.lock"
    lock.write_text("mine")
    monkeypatch.setattr(repair, "_owner", lambda path: (0, True))  # the one that was judged is gone already
    repair.remove_lock(str(lock))
    assert lock.read_text() == "mine"
    assert list(ward.root.glob("*.stale")) == []


def test_an_index_that_lies(ward: Ward, client: imaplib.IMAP4, capsys: pytest.CaptureFixture[str]) -> None:
    before = texts(client)
    for path in ward.root.glob("mailserver.sqlite"):
        path.write_bytes(b"no database" * 1000)
    for path in ward.root.glob("mailserver.sqlite-*"):
        path.unlink()
    assert ("index", True) in ward.doctor(capsys, "--fix")
    assert texts(client) == before
    client.select()
    assert texts(client) == before
    assert ward.doctor(capsys) == []


def test_abandoned_deliveries_in_nested_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "m.toml"
    config.write_text(f"[storage]\nmailbox_path = '{tmp_path}/mail'\nlayout = 'fs'\n")
    with Store(str(tmp_path / "mail"), layout="fs") as store:
        store.account("alice").create("Work/2024")
    path = tmp_path / "mail" / "alice" / "Work" / "2024" / "tmp" / "1.abandoned"
    path.touch()
    later = os.stat(path).st_mtime + 40 * 3600
    monkeypatch.setattr("mailserver.store.tidy.time.time", lambda: later)
    for fixed in (False, True):
        assert main(["doctor", "alice", "--config", str(config), "--json", *["--fix"] * fixed]) == 0
        assert [(row["kind"], row["fixed"]) for row in json.loads(capsys.readouterr().out)] == [("tmp", fixed)]
    assert not path.exists()


def test_the_machine_in_json(
    tmp_path: Path, certificate: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clock, descriptors, inotify, certificate, rights: each has its kind."""
    users = tmp_path / "users"
    users.write_text("alice:{PLAIN}x\n")
    users.chmod(0o644)
    for name in ("max_user_watches", "max_user_instances"):
        (tmp_path / name).write_text("1\n")
    config = tmp_path / "m.toml"
    config.write_text(
        f"[auth]\nusers_file = '{users}'\n[storage]\nmailbox_path = '{tmp_path}/mail'\n"
        f"[tls]\ncertificate = '{certificate[0]}'\nprivate_key = '{certificate[1]}'\n"
    )
    monkeypatch.setattr(machine, "_INOTIFY", tmp_path)
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: (256, 256))
    monkeypatch.setattr(machine.time, "time", lambda: 1_000_000_000.0)
    assert main(["doctor", "--config", str(config), "--json"]) == os.EX_DATAERR
    rows = json.loads(capsys.readouterr().out)
    assert {"clock", "descriptors", "inotify", "tls", "permissions"} <= {row["kind"] for row in rows}
    assert all(row.keys() == {"place", "kind", "text", "serious", "fixed"} for row in rows)
    assert not any(row["fixed"] for row in rows)
