"""Sources that are files, as years, other programs and administrators leave them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mailserver.__main__ import main
from mailserver.store.formats.mbox import scan
from mailserver.store.store import Store
from mailserver.transfer import engine

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


def test_what_lies_among_mboxes(ground: Ground, tmp_path: Path) -> None:
    top = tmp_path / "Mail"
    top.mkdir()
    (top / "old").write_bytes(b"\n\n" + FROM + letter(1) + b"\n")
    (top / "notes").write_bytes(b"no mail\n")
    os.mkfifo(top / "pipe")
    os.symlink("nowhere", top / "link")
    assert list(ground.bring("--from-mbox", str(top))) == ["old"]
    assert ground.octets("old") == [letter(1)]
