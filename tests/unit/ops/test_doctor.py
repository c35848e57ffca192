"""``doctor``: each thing that can be wrong is found, what is safe is put right, everything else is left alone."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from mailserver.__main__ import main
from mailserver.ops.doctor import machine
from mailserver.store import conversion
from mailserver.store.locks import MaildropLock
from mailserver.store.model.rights import Who
from mailserver.store.store import Store
from mailserver.store.tree.layout import OWN
from tests.unit.store.conftest import put


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "users").write_text("alice:{PLAIN}x\n")
    (tmp_path / "users").chmod(0o600)
    (tmp_path / "m.toml").write_text(
        f"[auth]\nusers_file = 'users'\n[storage]\nmailbox_path = '{tmp_path}/mail'\ndurability = 'relaxed'\n"
    )
    with Store(str(tmp_path / "mail"), durability="relaxed") as store:
        account = store.account("alice")
        account.create("Work")
        for name in ("INBOX", "Work"):
            for _ in range(3):
                put(account.mailbox(name), keywords=("work",))
    return tmp_path / "m.toml"


def found(config: Path, capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, bool]:
    """Kind -> whether it was fixed, of all that concerns the account."""
    assert main(["doctor", "alice", "--config", str(config), "--json", *words]) == status
    return {row["kind"]: row["fixed"] for row in json.loads(capsys.readouterr().out)}


def files(root: Path) -> dict[str, tuple[int, int]]:
    listed = {str(p): (p.stat().st_mode, p.stat().st_mtime_ns) for p in root.rglob("*")}
    return {path: seen for path, seen in listed.items() if "sqlite-" not in path}


def test_all_is_well(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(config.parent / "mail" / "alice")
    assert found(config, capsys) == {}
    assert files(config.parent / "mail" / "alice") == before
    assert main(["doctor", "--config", str(config)]) in (0, os.EX_DATAERR)
    assert "findings" in capsys.readouterr().out


def test_what_can_be_put_right(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = config.parent / "mail" / "alice"
    (root / ".Work" / "cur").chmod(0o555)
    (root / ".Sent").chmod(0o777)
    (root / ".Junk" / "tmp").rmdir()
    (root / "maildirsize").write_text("1000000S\n1 1\n")
    with sqlite3.connect(root / "mailserver.sqlite") as db:
        db.execute("UPDATE message SET flags = 31")
    db.close()
    kinds = {"permissions", "quota", "index"}
    before = files(root)
    assert found(config, capsys, status=os.EX_DATAERR) == dict.fromkeys(kinds, False)
    assert files(root) == before
    assert found(config, capsys, "--fix") == dict.fromkeys(kinds, True)
    assert found(config, capsys) == {}
    with Store(str(config.parent / "mail"), durability="relaxed") as store:
        assert [(m.uid, sorted(m.keywords)) for m in store.account("alice").inbox.rescan().messages] == [
            (uid, ["work"]) for uid in (1, 2, 3)
        ]
    assert found(config, capsys) == {}


def test_what_a_person_must_look_at(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = config.parent / "mail" / "alice"
    with (root / "dovecot-keywords").open("a") as f:
        f.write("1 Work\n")
    for part in ("cur", "new", "tmp"):
        (root / ".R&D" / part).mkdir(parents=True)
    for number, name in enumerate(("dovecot-uidlist.lock", "dovecot-keywords.lock")):
        lock = root / ".Work" / name
        lock.write_text(("", f"1:{socket.gethostname()}x")[number])  # whose it is, nobody knows: another machine's
        os.utime(lock, (1, 1))
    before = files(root)
    kinds = {"files", "name", "lock"}
    assert found(config, capsys, "--fix", status=os.EX_DATAERR) == dict.fromkeys(kinds, False)
    assert files(root) == before


def test_a_conversion_that_was_cut_short(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = config.parent / "mail" / "alice"
    (root / "mailserver-convert.json").write_text("{}")
    assert found(config, capsys) == {"conversion": False}
    with MaildropLock(f"{root}/{conversion.LOCK_NAME}"):  # it is running
        assert found(config, capsys, "--fix") == {"conversion": False}
    assert (root / "mailserver-convert.json").exists()
    assert found(config, capsys, "--fix") == {"conversion": True}
    assert not (root / "mailserver-convert.json").exists()


def test_abandoned_deliveries(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config.parent / "mail" / "alice" / "tmp" / "1.abandoned"
    path.touch()
    assert found(config, capsys, "--fix") == {}
    later = time.time() + 40 * 3600
    monkeypatch.setattr("mailserver.store.tree.tidy.time.time", lambda: later)
    assert found(config, capsys) == {"tmp": False}
    assert found(config, capsys, "--fix") == {"tmp": True}
    assert not path.exists()


def test_keywords_in_the_index_only(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(str(config.parent / "mail"), durability="relaxed") as store:
        put(store.account("alice").inbox, keywords=tuple(f"k{n}" for n in range(30)))
    assert found(config, capsys) == {"keywords": False}
    with sqlite3.connect(config.parent / "mail" / "alice" / "mailserver.sqlite") as db:
        db.execute("UPDATE message SET flags = 31")
    db.close()
    assert found(config, capsys, "--fix", status=os.EX_DATAERR) == {"keywords": False, "index": False}


def test_nobody(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "nobody", "--config", str(config)]) == 0
    assert "there is no mail" in capsys.readouterr().out


def test_the_users_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = config.parent / "users"
    users.chmod(0o644)
    main(["doctor", "--config", str(config)])
    assert "everybody on this machine may read it" in capsys.readouterr().out
    main(["doctor", "--fix", "--config", str(config)])
    assert users.stat().st_mode & 0o777 == 0o640


def test_certificates(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    path, now = str(certificate[0]), time.time()
    day = 86400.0
    assert ["expires in 2 days" in f.text for f in machine.certificate(path, now)] == [True]
    assert ["has expired" in f.text for f in machine.certificate(path, now + 30 * day)] == [True]
    assert ["not valid yet" in f.text for f in machine.certificate(path, now - 30 * day)] == [True]
    assert not list(machine.certificate(str(tmp_path / "none"), now))


def test_clock_and_kernel(tmp_path: Path, config: Path) -> None:
    assert not list(machine.clock(str(tmp_path), time.time()))
    assert [f.kind for f in machine.clock(str(tmp_path), 1000.0)] == ["clock", "clock"]
    (tmp_path / "max_user_watches").write_text("1\n")
    (tmp_path / "max_user_instances").write_text("128\n")
    from mailserver.config.load import load

    assert ["max_user_watches is 1" in f.text for f in machine.inotify(load(config), tmp_path)] == [True]
    assert not list(machine.inotify(load(config), tmp_path / "none"))


def test_nested_mboxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What belongs to others there is none of its business; an INBOX that is not there is not made as a Maildir."""
    config, root, spool = tmp_path / "m.toml", tmp_path / "mail" / "alice", tmp_path / "spool"
    config.write_text(
        f"[storage]\nmailbox_path = '{tmp_path}/mail'\nmbox_inbox = '{spool}/{{user}}'\n"
        "format = 'mbox'\nlayout = 'fs'\ndurability = 'relaxed'\n"
    )
    with Store(
        f"{tmp_path}/mail", durability="relaxed", format="mbox", layout="fs", mbox_inbox=f"{spool}/{{user}}"
    ) as store:
        account = store.account("alice")
        account.create("Work/2024")
        put(account.mailbox("Work/2024"))
    (root / "notes.txt").write_bytes(b"Hello\n")
    (root / ".hidden").write_bytes(b"x\n")
    assert found(config, capsys) == {}
    (spool / "alice").unlink()
    (root / "Work/2024").chmod(0o400)
    assert found(config, capsys, "--fix") == {"permissions": True}
    assert not (spool / "alice").exists()
    (root / OWN / "mailserver.sqlite").write_bytes(b"damaged" * 100)
    assert found(config, capsys, "--fix") == {"index": True}
    assert (root / "notes.txt").read_bytes() == b"Hello\n"


def test_what_is_shared(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = config.parent / "mail" / "alice"
    assert found(config, capsys) == {}
    (root / ".Work" / "dovecot-acl").write_text("user=bob lr\n")
    with Store(str(config.parent / "mail"), durability="relaxed") as store:
        assert store.shares is not None
        store.shares.note("carol", {"INBOX": []})  # so that the record is not just made
        assert store.shares.given_to(Who("bob")) == {"alice": {"Work"}}
        (root / "dovecot-acl").write_text("anyone l\n")
        assert found(config, capsys) == {"shared": False}
        assert found(config, capsys, "--fix") == {"shared": True}
        assert found(config, capsys) == {}
        assert store.shares.given_to(Who("bob")) == {"alice": {"Work", "INBOX"}}
    (root / ".Work" / "dovecot-acl").write_text("user=bob lr\nanybody lr\n")
    for part in ("cur", "new", "tmp"):
        (root / ".Other Users.x" / part).mkdir(parents=True)
    assert found(config, capsys, status=os.EX_DATAERR) == {"acl": False, "name": False}
    (root / ".Work" / "dovecot-acl").write_text("user=bob lr\n")
    assert found(config, capsys) == {"name": False}
    (root / ".Trash" / "dovecot-acl").mkdir()  # what cannot be read stops none of the other checks
    assert found(config, capsys, status=os.EX_DATAERR) == {"acl": False, "name": False}
