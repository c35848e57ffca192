"""An account is written out: the same mail with the same numbers, in each form, and once only."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mailserver.__main__ import main
from mailserver.pop3.uidl import unique_ids
from mailserver.store.check import check_account
from mailserver.store.formats.maildir import courier
from mailserver.store.store import Store
from tests.unit.store.conftest import put
from tests.unit.transfer.test_import import state, years


@pytest.fixture(params=["maildir", "mbox"])
def config(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "m.toml"
    path.write_text(
        f"[storage]\nmailbox_path = '{tmp_path}/mail'\nformat = '{request.param}'\ndurability = 'relaxed'\n"
    )
    with Store(str(tmp_path / "mail"), format=request.param, durability="relaxed") as store:
        years(store.account("alice"))
    return path


def run(config: Path, *words: str, status: int = 0) -> None:
    assert main(["export", "alice", str(config.parent / "out"), "--config", str(config), *words]) == status


def of_alice(config: Path) -> dict[str, object]:
    kind = "mbox" if "'mbox'" in config.read_text() else "maildir"
    with Store(str(config.parent / "mail"), format=kind, durability="relaxed") as store:
        return state(store.account("alice"))


def of_export(config: Path, layout: str = "maildir++") -> dict[str, object]:
    with Store(str(config.parent) + "/{user}", layout=layout, durability="relaxed") as store:
        return state(store.account("out"))


@pytest.mark.parametrize(("form", "layout"), [("maildir", "maildir++"), ("maildir", "fs"), ("mbox", "maildir++")])
def test_it_is_the_same_mail(config: Path, form: str, layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--format", form, "--layout", layout]
    run(config, *words, "--json")
    rows = json.loads(capsys.readouterr().out)["folders"]
    assert sum(row["imported"] for row in rows) == 84
    before = of_alice(config)
    assert of_export(config, layout) == before or "mbox" in (form, config.read_text().split("format = '")[1][:4])
    assert _without_octets(of_export(config, layout)) == _without_octets(before)
    if layout == "maildir++":
        assert check_account(str(config.parent / "out")) == []
    kind = "mbox" if "'mbox'" in config.read_text() else "maildir"
    with Store(str(config.parent / "mail"), format=kind, durability="relaxed") as store:
        put(store.account("alice").inbox, b"Subject: new\r\n\r\n")
    run(config, *words)
    assert "INBOX: 1 exported, 27 there already" in capsys.readouterr().out
    assert _without_octets(of_export(config, layout)) == _without_octets(of_alice(config))


def _without_octets(found: dict[str, object]) -> dict[str, object]:
    """An mbox leaves out the fields in which it keeps its books."""
    return {
        name: value if name == "subscribed" else (value[0], value[1], [row[:4] for row in value[2]])  # type: ignore[index]
        for name, value in found.items()
    }


def test_for_courier(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _without_octets(of_alice(config))
    for _ in range(2):
        run(config, "--format", "courier")
        assert not capsys.readouterr().err
        out = config.parent / "out"
        assert (out / ".Entwürfe" / courier.UIDDB).exists()
        lines = (out / "courierpop3dsizelist").read_text().splitlines()
        assert len(lines) == 28
        assert all(line.endswith(" 0:0:0") and len(line.split(":")[0]) == 16 for line in lines[1:])
    for path in [*out.rglob("dovecot-*"), *out.rglob("mailserver*"), out / "subscriptions"]:
        path.unlink()  # Courier's books alone say as much
    assert _without_octets(of_export(config)) == before


def test_what_courier_cannot_have_is_said(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = "mbox" if "'mbox'" in config.read_text() else "maildir"
    with Store(str(config.parent / "mail"), format=kind, durability="relaxed") as store:
        account = store.account("alice")
        account.create("with.dot")
    run(config, "--format", "courier")
    assert "1 folders have names" in capsys.readouterr().err


def test_folders_can_be_chosen(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(config, "--skip", "Work", "--map", "INBOX=Inbox of alice")
    assert set(of_export(config)) == {*of_alice(config), "Inbox of alice"} - {"Work/2024", "Work"}


def test_what_cannot_be_done(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (config.parent / "out").mkdir()
    (config.parent / "out" / "mine").touch()
    run(config, status=os.EX_CANTCREAT)
    assert "not empty" in capsys.readouterr().err
    assert main(["export", "nobody", str(config.parent / "x"), "--config", str(config)]) == os.EX_NOUSER
    run(config, "--format", "courier", "--layout", "fs", status=os.EX_USAGE)
    (config.parent / "out" / "mine").unlink()
    run(config, "--format", "mbox")
    run(config, "--format", "maildir", status=os.EX_CANTCREAT)
    assert "mbox files are there" in capsys.readouterr().err
    run(config, "--format", "mbox", "--layout", "fs", status=os.EX_CANTCREAT)
    assert "laid out otherwise" in capsys.readouterr().err


def test_nested_mboxes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file has no children: folders that are both get another name, or are left out and said."""
    words = ["--format", "mbox", "--layout", "fs"]
    run(config, *words, status=os.EX_DATAERR)
    assert "can have no inferior names" in capsys.readouterr().err
    run(config, *words, "--map", "Work/2024=Old/2024")
    out = config.parent / "out"
    assert {"inbox", "Work", "Old"} <= {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert not [path for path in out.iterdir() if path.name.startswith("mailserver")]
    assert check_account(str(out)) == []
    with Store(str(config.parent) + "/{user}", layout="fs", format="mbox", durability="relaxed") as store:
        there = store.account("out")
        found, before = _without_octets(state(there)), _without_octets(of_alice(config))
        assert found["INBOX"] == before["INBOX"]
        assert found["Old/2024"] == before["Work/2024"]
        assert "Old/2024" in there.subscriptions()
        subscribed = set(there.subscriptions())
        ids = [m.saved for m in there.inbox.maildrop()[1]]
    kind = "mbox" if "'mbox'" in config.read_text() else "maildir"
    with Store(str(config.parent / "mail"), format=kind, durability="relaxed") as store:
        snapshot, messages = store.account("alice").inbox.maildrop()
        assert ids == unique_ids("dovecot", snapshot.uidvalidity, messages)
    back = ["import", "bob", "--from-mbox", str(out), "--config", str(config)]
    assert main(back) == 0
    with Store(str(config.parent / "mail"), format=kind, durability="relaxed") as store:
        bob = store.account("bob")
        assert [m.saved for m in bob.inbox.maildrop()[1]] == ids
        assert "Old/2024" in [info.name for info in bob.mailboxes()]
        assert subscribed <= set(bob.subscriptions())
