"""An import is done again: what changed there comes, what changed here stays, and without a change nothing happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailserver.__main__ import main
from mailserver.app import App
from mailserver.store.account import Account
from mailserver.store.check import check_account
from mailserver.store.mailbox import FlagOp, Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from mailserver.transfer.record import NAME
from mailserver.transfer.sources import imap
from tests.unit.store.conftest import put

Row = tuple[int, frozenset[str], bytes]


class Ground:
    """Mail ``there``, and how it is brought ``here``."""

    def __init__(self, there: Account, words: list[str], root: Path, form: str, name: str = "INBOX") -> None:
        self.there = there
        self.words = words
        self.root = root
        self.form = form
        self.name = name

    def bring(self, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main([*self.words, "--json", *words]) == 0
        return next(f for f in json.loads(capsys.readouterr().out)["folders"] if f["name"] == "INBOX")

    def here(self) -> dict[int, Row]:
        found: dict[int, Row] = {}

        def look(inbox: Mailbox) -> None:
            for m in inbox.rescan().messages:
                found[int(m.uid)] = (m.flags, m.keywords, inbox.read(m))

        self.act(look)
        assert check_account(str(self.root)) == []
        return found

    def act(self, act: Callable[[Mailbox], object]) -> None:
        with Store(str(self.root.parent) + "/{user}", format=self.form, durability="relaxed") as store:
            act(store.account(self.root.name).inbox)

    def files(self) -> dict[str, bytes | int]:
        """Everything that an import could have touched."""
        found: dict[str, bytes | int] = {}
        for path in self.root.rglob("*"):
            if "sqlite" not in path.name and not path.name.endswith(".lock"):
                found[str(path)] = path.stat().st_mtime_ns if path.is_dir() else path.read_bytes()
        return found


@pytest.fixture(params=["maildir", "mbox"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config(tmp_path: Path, form: str, mail: Path) -> str:
    path = tmp_path / f"{mail.name}.toml"
    path.write_text(f"[storage]\nmailbox_path = '{mail}'\nformat = '{form}'\ndurability = 'relaxed'\n")
    return str(path)


@pytest.fixture(params=["imap", "imap without states", "maildir", "mbox", "export"])
def ground(
    request: pytest.FixtureRequest, server: App, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ground]:
    there, here = server.services.store.account("alice"), tmp_path / "here"
    words = ["import", "bob", "--config", config(tmp_path, form, here)]
    if request.param.startswith("imap"):
        if request.param != "imap":
            monkeypatch.setattr(imap._Client, "modseq", lambda self: 0)
        url = f"imap://alice:secret@127.0.0.1:{server.ports['imap']}"
        yield Ground(there, [*words, "--from-imap", url], here / "bob", form)
    elif request.param == "maildir":
        yield Ground(there, [*words, "--from-maildir", there.root], here / "bob", form)
    elif request.param == "mbox":
        with Store(str(tmp_path / "there"), format="mbox", durability="relaxed") as store:
            account = store.account("alice")
            path = f"{account.root}/.INBOX"
            yield Ground(account, [*words, "--from-mbox", path], here / "bob", form)
    else:
        settings = config(tmp_path, "maildir", Path(there.root).parent)
        out = ["export", "alice", str(here / "out"), "--config", settings, "--format", form]
        yield Ground(there, out, here / "out", form)


def text(number: int) -> bytes:
    return b"Message-ID: <%d@example.com>\r\nSubject: %d\r\n\r\ntext\r\n" % (number, number)


def flags(mailbox: Mailbox, uid: int, op: FlagOp, bits: int, *words: str) -> None:
    mailbox.store_flags([uid], op, bits, words)


def test_the_day_of_the_change(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    inbox = ground.there.inbox
    for number in range(1, 11):
        put(inbox, text(number), Flag.SEEN * (number % 2), ("work", "$Forwarded")[: number % 3], 1_300_000_000 + number)
    assert ground.bring(capsys)["imported"] == 10
    first = ground.here()
    assert {uid: row[:2] for uid, row in first.items()} == {
        int(m.uid): (m.flags, m.keywords) for m in inbox.snapshot().messages
    }

    flags(inbox, 1, FlagOp.REMOVE, Flag.SEEN, "work")
    flags(inbox, 2, FlagOp.ADD, Flag.ANSWERED | Flag.DELETED, "late")
    flags(inbox, 3, FlagOp.ADD, Flag.FLAGGED)
    flags(inbox, 8, FlagOp.ADD, Flag.SEEN)
    inbox.expunge([4, 5])
    put(inbox, text(11), Flag.FLAGGED, ("late",), 1_300_000_011)

    def by_the_user(mine: Mailbox) -> None:
        flags(mine, 1, FlagOp.ADD, Flag.FLAGGED, "mine")
        flags(mine, 3, FlagOp.REMOVE, Flag.SEEN)
        flags(mine, 5, FlagOp.ADD, 0, "mine")
        flags(mine, 6, FlagOp.ADD, Flag.SEEN)
        flags(mine, 8, FlagOp.ADD, Flag.SEEN)
        mine.expunge([7, 9])

    ground.act(by_the_user)
    flags(inbox, 9, FlagOp.ADD, Flag.FLAGGED)
    planned = ground.bring(capsys, "--dry-run")
    assert (planned["messages"], planned["changed"], planned["gone"]) == (1, 5, 2)
    done = ground.bring(capsys)
    assert (done["imported"], done["changed"], done["removed"], done["kept"]) == (1, 4, 0, 0)
    now = ground.here()
    work = {number: set(("work", "$Forwarded")[: number % 3]) for number in range(1, 11)}
    assert {uid: (row[0], set(row[1])) for uid, row in now.items()} == {
        1: (Flag.FLAGGED, {"mine"}),
        2: (Flag.ANSWERED | Flag.DELETED, {"late", *work[2]}),
        3: (Flag.FLAGGED, work[3]),
        4: (0, work[4]),
        5: (Flag.SEEN, {"mine", *work[5]}),
        6: (Flag.SEEN, work[6]),
        8: (Flag.SEEN, work[8]),
        10: (0, work[10]),
        11: (Flag.FLAGGED, {"late"}),
    }
    assert {uid: row[2] for uid, row in now.items() if uid < 11} == {uid: first[uid][2] for uid in now if uid < 11}

    before = ground.files()
    done = ground.bring(capsys)
    assert [done[word] for word in ("imported", "changed", "removed")] == [0, 0, 0]
    assert ground.files() == before

    done = ground.bring(capsys, "--mirror")
    assert (done["removed"], done["kept"]) == (1, 1)
    assert ground.here().keys() == now.keys() - {4}
    before = ground.files()
    assert not ground.bring(capsys, "--mirror")["removed"]
    assert ground.files() == before


def test_all_is_looked_at_again(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    inbox = ground.there.inbox
    for number in range(1, 8):
        put(inbox, b"Status: O\r\n" * (number == 3) + text(number) * number, date=1_300_000_000 + number)
    ground.bring(capsys)
    (ground.root / NAME).write_bytes(b"")
    flags(inbox, 2, FlagOp.ADD, Flag.SEEN)
    if ground.words[0] == "import":
        assert ground.bring(capsys, "--again")["imported"] == 0
    assert ground.bring(capsys)["imported"] == 0
    assert len(ground.here()) == 7
    flags(inbox, 3, FlagOp.ADD, Flag.SEEN)
    words = ["--again"] if ground.words[0] == "import" else []
    assert ground.bring(capsys, *words)["changed"] == 1
    assert ground.here()[3][0] == Flag.SEEN


def test_a_folder_that_is_gone_there_stays(server: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = server.services.store.account("alice")
    there.create("Old")
    put(there.mailbox("Old"))
    url = f"imap://alice:secret@127.0.0.1:{server.ports['imap']}"
    words = ["import", "bob", "--config", config(tmp_path, "maildir", tmp_path / "here"), "--from-imap", url]
    assert main(words) == 0
    there.delete("Old")
    capsys.readouterr()
    assert main([*words, "--mirror", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vanished"] == ["Old"]
    assert main([*words, "--mirror"]) == 0
    assert "Old: it is not there any more; what came from it stays here" in capsys.readouterr().out
    with Store(str(tmp_path / "here")) as store:
        assert len(store.account("bob").mailbox("Old").rescan().messages) == 1


def test_subscriptions(server: App, tmp_path: Path) -> None:
    there = server.services.store.account("alice")
    url = f"imap://alice:secret@127.0.0.1:{server.ports['imap']}"
    words = ["import", "bob", "--config", config(tmp_path, "maildir", tmp_path / "here"), "--from-imap", url]
    for name in ("A", "B", "C"):
        there.create(name)
        there.subscribe(name)
    assert main(words) == 0
    with Store(str(tmp_path / "here")) as store:
        account = store.account("bob")
        account.unsubscribe("A")
        account.subscribe("mine")
    there.unsubscribe("B")
    there.create("D")
    there.subscribe("D")
    assert main(words) == 0
    with Store(str(tmp_path / "here")) as store:
        found = set(store.account("bob").subscriptions())
    assert found & {"A", "B", "C", "D", "mine"} == {"C", "D", "mine"}


def test_a_message_that_is_moved_there(server: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is nowhere missing meanwhile, and here it is in the new folder only, in the end."""
    there = server.services.store.account("alice")
    there.create("Work")
    put(there.inbox, text(1))
    put(there.inbox, text(2))
    url = f"imap://alice:secret@127.0.0.1:{server.ports['imap']}"
    words = ["import", "bob", "--config", config(tmp_path, "maildir", tmp_path / "here"), "--from-imap", url]
    assert main(words) == 0
    there.inbox.move([1], there.mailbox("Work"))
    assert main([*words, "--mirror"]) == 0
    assert "INBOX: 0 imported, 1 here already, 1 removed" in capsys.readouterr().out
    with Store(str(tmp_path / "here")) as store:
        account = store.account("bob")
        texts = [[account.mailbox(n).read(m) for m in account.mailbox(n).rescan().messages] for n in ("INBOX", "Work")]
    assert texts == [[text(2)], [text(1)]]


def _cut(root: Path, *, octets: int) -> None:
    """As whoever dies while he writes to an mbox leaves it: so many octets short, and nothing noted of the messages."""
    lines = (root / NAME).read_bytes().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if b'"begun"' in line)
    (root / NAME).write_bytes(b"".join(lines[: last + 1]))
    for path in root.glob("mailserver.sqlite*"):
        path.unlink()
    data = (root / ".INBOX").read_bytes()
    (root / ".INBOX").write_bytes(data[: len(data) - octets])


@pytest.mark.parametrize("octets", [1, 2, 3, 9, 60])
def test_half_a_message_in_an_mbox(server: App, tmp_path: Path, octets: int) -> None:
    inbox = server.services.store.account("alice").inbox
    for number in range(1, 4):
        put(inbox, text(number) + b"x" * 50 + b"\r\n", date=1_300_000_000 + number)
    url = f"imap://alice:secret@127.0.0.1:{server.ports['imap']}"
    words = ["import", "bob", "--config", config(tmp_path, "mbox", tmp_path / "here"), "--from-imap", url]
    assert main(words) == 0
    expected = [inbox.read(m) for m in inbox.rescan().messages]
    _cut(tmp_path / "here" / "bob", octets=octets)
    assert main(words) == 0
    with Store(str(tmp_path / "here"), format="mbox") as store:
        mine = store.account("bob").inbox
        assert [mine.read(m) for m in mine.rescan().messages] == expected
    assert check_account(str(tmp_path / "here" / "bob")) == []


def test_mail_that_others_left_in_an_mbox_stays(server: App, tmp_path: Path) -> None:
    """It begins like a message that comes, but it is another one."""
    inbox = server.services.store.account("alice").inbox
    put(inbox, text(1) + b"long\r\n", date=1_300_000_001)
    with Store(str(tmp_path / "here"), format="mbox") as store:
        put(store.account("bob").inbox, text(1), date=1_300_000_000)
        put(store.account("bob").inbox, text(2), date=1_300_000_001)
    url = f"imap://alice:secret@127.0.0.1:{server.ports['imap']}"
    words = ["import", "bob", "--config", config(tmp_path, "mbox", tmp_path / "here"), "--from-imap", url]
    assert main(words) == 0
    with Store(str(tmp_path / "here"), format="mbox") as store:
        assert len(store.account("bob").inbox.rescan().messages) == 3


def test_messages_without_a_date_are_known_again(server: App, tmp_path: Path, form: str) -> None:
    """POP3 has none either: their octets tell, whatever the clock says when they come."""
    inbox = server.services.store.account("alice").inbox
    for number in (1, 2):
        put(inbox, b"Subject: %d\r\n\r\n" % number, date=number)
    url = f"pop3://alice:secret@127.0.0.1:{server.ports['pop3']}"
    words = ["import", "bob", "--config", config(tmp_path, form, tmp_path / "here"), "--from-pop3", url]
    for _ in range(2):
        assert main(words) == 0
        (tmp_path / "here" / "bob" / NAME).write_bytes(b"")
        with Store(str(tmp_path / "here"), format=form) as store:
            mine = store.account("bob").inbox
            assert [mine.read(m) for m in mine.rescan().messages] == [b"Subject: 1\r\n\r\n", b"Subject: 2\r\n\r\n"]
