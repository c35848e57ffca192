"""An import from our own servers and from files: what comes along, that it can be cut short, that twice is once."""

from __future__ import annotations

import json
import mailbox
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailserver.__main__ import main
from mailserver.app import App
from mailserver.store import account as accounts
from mailserver.store.account import Account
from mailserver.store.check import check_account
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from mailserver.transfer import engine
from mailserver.transfer.engine import Import
from mailserver.transfer.model import LostError
from mailserver.transfer.naming import Mapping
from mailserver.transfer.record import NAME, Record
from mailserver.transfer.sources import url
from mailserver.transfer.sources.imap import ImapOrigin
from tests.messages import corpus
from tests.unit.store.conftest import put


@pytest.fixture(params=["maildir", "mbox"])
def here(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The settings of the server that mail is brought to."""
    path = tmp_path / "here.toml"
    mail = tmp_path / "here"
    path.write_text(f"[storage]\nmailbox_path = '{mail}'\nformat = '{request.param}'\ndurability = 'relaxed'\n")
    return path


def state(account: Account) -> dict[str, object]:
    """All that a client remembers of an account, and the octets."""
    found: dict[str, object] = {"subscribed": sorted(account.subscriptions())}
    for info in account.mailboxes():
        if info.selectable:
            mailbox_ = account.mailbox(info.name)
            snapshot = mailbox_.rescan()
            rows = [(m.uid, m.flags, sorted(m.keywords), m.internaldate, mailbox_.read(m)) for m in snapshot.messages]
            found[info.name] = (snapshot.uidvalidity if rows else 0, snapshot.uidnext if rows else 0, rows)
    return found


def state_at(config: Path) -> dict[str, object]:
    text = dict(line.split(" = ") for line in config.read_text().splitlines() if " = " in line)
    with Store(text["mailbox_path"].strip("'"), format=text["format"].strip("'"), durability="relaxed") as store:
        found = state(store.account("bob"))
        root = store.directory("bob")
    assert check_account(root) == []
    return found


def years(account: Account) -> None:
    """What an account looks like after some time."""
    for name in ("Work/2024", "Entwürfe", 'A "b" (c)'):
        account.create(name)
        account.subscribe(name)
    for number, octets in enumerate(corpus()[:90]):
        mailbox_ = account.mailbox(["INBOX", "Work/2024", "Entwürfe"][number % 3])
        flags = [0, Flag.SEEN, Flag.FLAGGED | Flag.ANSWERED, Flag.DRAFT | Flag.DELETED][number % 4]
        put(mailbox_, octets, flags, ("work", "$Forwarded")[: number % 3], 1_300_000_000 + number)
    for name in ("INBOX", "Work/2024"):
        account.mailbox(name).expunge([2, 5, 30])


def imap_url(app: App) -> str:
    return f"imap://alice:secret@127.0.0.1:{app.ports['imap']}"


def bring(config: Path, *words: str, status: int = 0) -> None:
    assert main(["import", "bob", "--config", str(config), *words]) == status


def results(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {folder["name"]: folder for folder in json.loads(capsys.readouterr().out)["folders"]}


def without_books(found: dict[str, object]) -> dict[str, object]:
    """The messages that have no field in which an mbox keeps its books."""
    kept = dict(found)
    for name, value in found.items():
        if name != "subscribed":
            validity, uidnext, rows = value  # type: ignore[misc]
            kept[name] = (validity, uidnext, [row[:4] for row in rows])
    return kept


def test_everything_comes_along(server: App, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = server.services.store.account("alice")
    years(account)
    before = state(account)
    bring(here, "--from-imap", imap_url(server), "--dry-run", "--json")
    assert {name: row["messages"] for name, row in results(capsys).items()}["INBOX"] == 27
    assert not (here.parent / "here").exists() or not (here.parent / "here" / "bob").exists()
    bring(here, "--from-imap", imap_url(server), "--json")
    counts = results(capsys)
    assert {name: row["imported"] for name, row in counts.items() if row["imported"]} == {
        "INBOX": 27,
        "Work/2024": 27,
        "Entwürfe": 30,
    }
    assert all(row["numbers"] for row in counts.values())
    after = state_at(here)
    if "'mbox'" in here.read_text():
        assert without_books(after) == without_books(before)
    else:
        assert after == before
    bring(here, "--from-imap", imap_url(server), "--json")
    assert not any(row["imported"] for row in results(capsys).values())
    assert state_at(here) == after
    bring(here, "--from-imap", imap_url(server), "--json", "--again")
    assert not any(row["imported"] for row in results(capsys).values())
    assert state_at(here) == after
    put(account.inbox, date=1_400_000_000)
    bring(here, "--from-imap", imap_url(server))
    assert "INBOX: 1 imported" in capsys.readouterr().out


def test_names(server: App, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = server.services.store.account("alice")
    years(account)
    words = ["--map", "Work=Job/Old", "--skip", "Entwürfe", "--map", "INBOX=Was Inbox"]
    bring(here, "--from-imap", imap_url(server), "--json", "--jobs", "1", *words)
    found = {name for name, row in results(capsys).items() if row["imported"]}
    assert found == {"Job/Old/2024", "Was Inbox"}
    assert "Job/Old/2024" in state_at(here)["subscribed"]  # type: ignore[operator]


def cut_short(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """The n-th call of a method of Record ends the import, as a crash at that point would."""
    real: Callable[..., None] = getattr(Record, name)
    calls = iter(range(after))

    def die(self: Record, *words: Any, **more: Any) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        real(self, *words, **more)

    monkeypatch.setattr(Record, name, die)


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9])
def test_it_goes_on_where_it_was_cut_short(
    server: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    account = server.services.store.account("alice")
    years(account)
    monkeypatch.setattr(engine, "_UNIT_MESSAGES", 7)
    with Store(str(tmp_path / "here"), durability="relaxed") as store:
        bob = store.account("bob")
        for attempt in range(2):
            with monkeypatch.context() as patch:
                if not attempt:
                    cut_short(patch, "note", after)
                origin = ImapOrigin(url.parse(imap_url(server), "imap"))
                record = Record(bob.root, origin.identity, writing=True)
                try:
                    Import(bob, origin, record, Mapping(), 3).run()
                except KeyboardInterrupt:
                    assert not attempt
                finally:
                    record.close()
                    origin.close()
        assert state(bob) == state(account)
        assert not os.listdir(f"{bob.root}/tmp")
        (Path(bob.root) / NAME).unlink()  # what is here is found again without it
        origin = ImapOrigin(url.parse(imap_url(server), "imap"))
        record = Record(bob.root, origin.identity, writing=True)
        assert not any(result.imported for result in Import(bob, origin, record, Mapping(), 2).run())
        record.close()
        origin.close()
        assert state(bob) == state(account)


def test_mail_that_came_meanwhile_gets_no_uid_of_another(server: App, tmp_path: Path) -> None:
    account = server.services.store.account("alice")
    first = [put(account.inbox, b"Subject: %d\r\n\r\n" % n, date=n) for n in range(3)]
    with Store(str(tmp_path / "here"), durability="relaxed") as store:
        bob = store.account("bob")
        for _ in range(2):
            origin = ImapOrigin(url.parse(imap_url(server), "imap"))
            record = Record(bob.root, origin.identity, writing=True)
            Import(bob, origin, record, Mapping(), 2).run()
            record.close()
            origin.close()
            if bob.inbox.rescan().uidvalidity == account.inbox.snapshot().uidvalidity:
                assert [m.uid for m in bob.inbox.snapshot().messages] == first
                put(bob.inbox, b"Subject: delivered here\r\n\r\n")
                put(account.inbox, b"Subject: delivered there\r\n\r\n", date=77)
        assert bob.inbox.rescan().uidvalidity != account.inbox.snapshot().uidvalidity
        subjects = [bob.inbox.read(m).split(b"\r\n")[0] for m in bob.inbox.rescan().messages]
        assert subjects == [
            b"Subject: 0",
            b"Subject: 1",
            b"Subject: 2",
            b"Subject: delivered here",
            b"Subject: delivered there",
        ]


def test_a_broken_connection_is_made_again(server: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = server.services.store.account("alice")
    years(account)
    monkeypatch.setattr(engine, "_UNIT_MESSAGES", 7)
    from mailserver.transfer.sources import imap

    real, broken = imap._ImapSession.fetch, []

    def fetch(self: Any, folder: Any, items: Any) -> Any:
        for i, found in enumerate(real(self, folder, items)):
            if i == 3 and len(broken) < 5:
                broken.append(folder)
                raise LostError("cut")
            yield found

    monkeypatch.setattr(imap._ImapSession, "fetch", fetch)
    with Store(str(tmp_path / "here"), durability="relaxed") as store:
        bob = store.account("bob")
        origin = ImapOrigin(url.parse(imap_url(server), "imap"))
        record = Record(bob.root, origin.identity, writing=True)
        Import(bob, origin, record, Mapping(), 1).run()
        record.close()
        origin.close()
        assert len(broken) == 5
        assert state(bob) == state(account)


def test_two_at_a_time_are_one_too_many(server: App, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(server.services.store.account("alice").inbox)
    bring(here, "--from-imap", imap_url(server))
    record = Record(str(here.parent / "here" / "bob"), "x", writing=True)
    bring(here, "--from-imap", imap_url(server), status=os.EX_TEMPFAIL)
    assert "another import" in capsys.readouterr().err
    record.close()


def test_pop3(server: App, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inbox = server.services.store.account("alice").inbox
    for number in range(12):
        head = b"Received: by x; Fri, 11 Mar 2011 07:06:%02d +0000\r\n" % number
        put(inbox, head + b"Subject: %d\r\n\r\n.dots\r\n..\r\n%s\r\n" % (number, b"x" * 5000))
    inbox.expunge([3])
    server_url = f"pop3://alice:secret@127.0.0.1:{server.ports['pop3']}"
    for expected in (11, 0):
        bring(here, "--from-pop3", server_url, "--json")
        assert results(capsys)["INBOX"]["imported"] == expected
    rows = state_at(here)["INBOX"][2]  # type: ignore[index]
    assert [row[4] for row in rows] == [inbox.read(m) for m in inbox.rescan().messages]
    assert [row[3] for row in rows][:2] == [1299827160, 1299827161]
    if "'mbox'" not in here.read_text():
        with Store(str(here.parent / "here")) as store:
            theirs = [f"{m.uid:08X}{inbox.snapshot().uidvalidity:08X}" for m in inbox.snapshot().messages]
            found = [m.saved for m in store.account("bob").inbox.maildrop()[1]]
            assert [uidl.lower() for uidl in found] == [uidl.lower() for uidl in theirs]


def test_mbox_files(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = tmp_path / "Mail"
    (top / "Work.sbd").mkdir(parents=True)
    for name in ("Inbox", "Work", "Work.sbd/2024"):
        box = mailbox.mbox(top / name)
        for number in range(5):
            message = mailbox.mboxMessage(
                f"Subject: {name} {number % 4}\nDate: Fri, 11 Mar 2011 07:06:0{number % 4} +0000\n\nFrom me\n"
            )
            message.set_flags("RF")
            message.set_from("a@b", (2011, 3, 11, 7, 6, number % 4, 4, 70, 0))
            box.add(message)
        box.close()
    (top / "Work.msf").write_text("// no mail")
    for expected in (5, 0):
        bring(here, "--from-mbox", str(top), "--json")
        counts = results(capsys)
        assert {name: row["imported"] for name, row in counts.items()} == dict.fromkeys(
            ("INBOX", "Work", "Work/2024"), expected
        )
    rows = state_at(here)["Work/2024"][2]  # type: ignore[index]
    assert rows[0][1] == Flag.SEEN | Flag.FLAGGED
    assert rows[0][3] == 1299827160
    assert rows[0][4].endswith(b"\r\n\r\nFrom me\r\n")
    bring(here, "--from-mbox", str(top / "Work"), "--map", "INBOX=One", "--json")
    assert results(capsys)["One"]["imported"] == 5


@pytest.mark.parametrize("kind", ["maildir", "mbox"])
@pytest.mark.parametrize("layout", ["maildir++", "fs"])
def test_maildirs(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, layout: str) -> None:
    if kind == "mbox" and layout == "fs":
        layout = "maildir++"  # plain files anywhere may be anything
    with Store(str(tmp_path / "there"), format=kind, layout=layout, durability="relaxed") as store:
        account = store.account("alice")
        years(account)
        before = state(account)
    for expected in (84, 0):
        bring(here, "--from-maildir", str(tmp_path / "there" / "alice"), "--json")
        assert sum(row["imported"] for row in results(capsys).values()) == expected
    assert without_books(state_at(here)) == without_books(before)


def test_files_with_a_message_each(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = tmp_path / "letters"
    (top / "Friends").mkdir(parents=True)
    (top / "b.eml").write_bytes(b"Date: Fri, 11 Mar 2011 08:06:00 +0100\nSubject: b\n\nb\n")
    (top / "Friends" / "a.EML").write_bytes(b"Subject: a\r\n\r\na\r\n")
    (top / "Friends" / "notes.txt").write_bytes(b"no mail")
    for expected in (1, 0):
        bring(here, "--from-eml", str(top), "--json")
        assert {name: row["imported"] for name, row in results(capsys).items()} == {
            "INBOX": expected,
            "Friends": expected,
        }
    ((_, _, _, date, octets),) = state_at(here)["INBOX"][2]  # type: ignore[index]
    assert (date, octets) == (1299827160, b"Date: Fri, 11 Mar 2011 08:06:00 +0100\r\nSubject: b\r\n\r\nb\r\n")
    bring(here, "--from-eml", str(top / "b.eml"), "--json", "--map", "INBOX=Single")
    assert results(capsys)["Single"]["imported"] == 1


def test_what_cannot_be_done_is_said(
    server: App, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = server.ports["imap"]
    (here.parent / "empty").mkdir()
    cases = [
        (["--from-imap", f"imap://alice:wrong@127.0.0.1:{port}"], os.EX_UNAVAILABLE, "imap://alice@127.0.0.1"),
        (["--from-imap", "http://x"], os.EX_UNAVAILABLE, "imaps://user@host"),
        (["--from-imap", "imap://a@h:99999999"], os.EX_UNAVAILABLE, ""),
        (["--from-imap", f"imap://alice:x@127.0.0.1:{port}", "--map", "nonsense"], os.EX_USAGE, "OLD=NEW"),
        (["--from-imap", f"imap://alice:x@127.0.0.1:{port}", "--jobs", "0"], os.EX_USAGE, "1 to 32"),
        (["--from-pop3", f"pop3://alice:wrong@127.0.0.1:{server.ports['pop3']}"], os.EX_UNAVAILABLE, "pop3://alice@"),
        (["--from-mbox", str(tmp_path / "none")], os.EX_UNAVAILABLE, "no such file"),
        (["--from-maildir", str(here.parent / "empty")], os.EX_UNAVAILABLE, "no Maildir"),
        (["--from-eml", str(tmp_path / "none")], os.EX_UNAVAILABLE, "no such file"),
    ]
    for words, status, text in cases:
        bring(here, *words, status=status)
        error = capsys.readouterr().err
        assert text in error
        assert "wrong" not in error


def test_a_full_mailbox(server: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = server.services.store.account("alice")
    years(account)
    config = tmp_path / "m.toml"
    config.write_text(f"[storage]\nmailbox_path = '{tmp_path}/here'\nquota_messages = 60\ndurability = 'relaxed'\n")
    bring(config, "--from-imap", imap_url(server), status=os.EX_TEMPFAIL)
    assert "the mailbox is full" in capsys.readouterr().err
    config.write_text(f"[storage]\nmailbox_path = '{tmp_path}/here'\nformat = 'maildir'\nquota_messages = 90\n")
    bring(config, "--from-imap", imap_url(server))
    assert state_at(config) == state(account)


def test_the_index_is_not_needed(tmp_path: Path, here: Path) -> None:
    with Store(str(tmp_path / "there"), durability="relaxed") as store:
        put(store.account("alice").inbox, keywords=("work",))
    for path in (tmp_path / "there" / "alice").glob(accounts.INDEX_NAME + "*"):
        path.unlink()
    bring(here, "--from-maildir", str(tmp_path / "there" / "alice"))
    assert state_at(here)["INBOX"][2][0][2] == ["work"]  # type: ignore[index]
