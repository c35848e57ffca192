"""What Courier and older Dovecots left beside a Maildir is taken over when it is first seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.store.formats.maildir import courier
from mailserver.store.mailbox import Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from mailserver.store.tree import subscriptions

pytestmark = pytest.mark.maildir  # Courier has no other format


def maildir(path: Path, *files: str, uiddb: str = "", lists: str = "", changes: dict[str, str] | None = None) -> Path:
    for part in ("cur", "new", "tmp"):
        (path / part).mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        (path / file).write_bytes(b"Subject: %d\r\n\r\n" % number)
    if uiddb:
        (path / courier.UIDDB).write_text(uiddb)
    if lists or changes:
        (path / courier.KEYWORDS).mkdir()
        (path / courier.KEYWORDS / courier.LIST).write_text(lists)
        for name, text in (changes or {}).items():
            (path / courier.KEYWORDS / name).write_text(text)
    return path


@pytest.fixture
def root(mail_root: Path) -> Path:
    return mail_root / "alice"


@pytest.fixture
def opened(mail_root: Path, root: Path) -> Iterator[Store]:
    with Store(str(mail_root), durability="relaxed") as store:
        yield store


def seen(mailbox: Mailbox) -> list[tuple[int, int, list[str]]]:
    return [(m.uid, m.flags, sorted(m.keywords)) for m in mailbox.rescan().messages]


LISTS = "$Label1\nfoo\n\n1.a:0 1\n2.b,S=14:1\n3.c:7 x\nnonsense\n"
CHANGES = {
    ".10.2.b,S=14": "old\n",
    ".20.2.b,S=14": "late\n$Label1\n",
    ".30.3.c": "early\n",
    "3.c": "latest\nnot an atom\n",
    ".99.gone": "nobody\n",
}


def test_uids_and_keywords_of_courier(opened: Store, root: Path) -> None:
    files = ("cur/1.a:2,S", "cur/2.b,S=14:2,FS", "new/3.c", "new/4.d")
    maildir(root, *files, uiddb="1 795417176 9\n2 1.a\n5 2.b,S=14\n7 3.c\n", lists=LISTS, changes=CHANGES)
    inbox = opened.account("alice").inbox
    assert inbox.rescan().uidvalidity == 795417176
    assert seen(inbox) == [
        (2, Flag.SEEN, ["$Label1", "foo"]),
        (5, Flag.SEEN | Flag.FLAGGED, ["$Label1", "late"]),
        (7, 0, ["latest"]),
        (9, 0, []),
    ]
    assert inbox.snapshot().uidnext == 10
    (root / courier.UIDDB).write_text("1 1 1\n")  # what it says later does not count
    assert inbox.rescan().uidvalidity == 795417176


def test_it_may_die_between_keywords_and_uids(mail_root: Path, root: Path) -> None:
    maildir(root, "cur/1.a:2,S", "new/3.c", uiddb="1 77 9\n2 1.a\n7 3.c\n", lists=LISTS, changes=CHANGES)
    for _ in range(2):
        with Store(str(mail_root), durability="relaxed") as store:
            assert seen(store.account("alice").inbox) == [(2, Flag.SEEN, ["$Label1", "foo"]), (7, 0, ["latest"])]
        for path in root.glob("mailserver.sqlite*"):
            path.unlink()
        (root / "dovecot-uidlist").unlink()


def test_keywords_that_get_no_letter(opened: Store, root: Path) -> None:
    words = [f"k{number:02}" for number in range(30)]
    lists = "\n".join(words) + "\n\n1.a:" + " ".join(str(n) for n in range(30)) + "\n"
    maildir(root, "cur/1.a:2,", uiddb="1 77 2\n1 1.a\n", lists=lists)
    assert seen(opened.account("alice").inbox) == [(1, 0, words)]


@pytest.mark.parametrize("text", ["", "nonsense\n", "1 0 5\n1 1.a\n", "1 4294967296 5\n", "3 V5\n"])
def test_a_list_that_makes_no_sense_is_left_alone(opened: Store, root: Path, text: str) -> None:
    maildir(root, "cur/1.a:2,S")
    (root / courier.UIDDB).write_text(text)
    inbox = opened.account("alice").inbox
    assert [m.uid for m in inbox.rescan().messages] == [1]
    assert 0 < inbox.snapshot().uidvalidity < 2**32


def test_uids_out_of_range(opened: Store, root: Path) -> None:
    maildir(root, "cur/1.a:2,S", "cur/2.b:2,", uiddb="1 5 4294967295\n3 1.a\n4294967290 2.b\n")
    assert [m.uid for m in opened.account("alice").inbox.rescan().messages] == [3, 4]


def test_names_and_subscriptions(opened: Store, root: Path) -> None:
    maildir(root, uiddb="1 1 1\n")
    for name in (".Entwürfe", ".Entw&APw-rfe.Alt", ".Work.2024", ".Ö", ".&ANY-", ".R&D"):
        maildir(root / name, f"cur/1{name}:2,", uiddb=f"1 {len(name)} 6\n5 1{name}\n")
    lines = "INBOX.Work.2024\nINBOX.Entwürfe\ninbox\nINBOX.Entw&APw-rfe.Alt\n#shared.x\nINBOX..bad\nINBOX.a/b\n"
    (root / "courierimapsubscribed").write_text(lines)
    account = opened.account("alice")
    expected = ["Work/2024", "Entwürfe", "INBOX", "Entwürfe/Alt"]
    assert list(account.subscriptions()) == expected
    found = [info.name for info in account.mailboxes() if info.selectable]
    assert found == ["INBOX", "Entwürfe", "Entwürfe/Alt", "R&D", "Work/2024", "Ö"]
    for name in ("Entwürfe", "R&D"):
        assert [m.uid for m in account.mailbox(name).rescan().messages] == [5]
    assert (root / ".Ö").is_dir()  # its other name is taken
    account.unsubscribe("INBOX")
    assert "INBOX" not in opened.account("alice").subscriptions()


def test_subscriptions_of_older_dovecots(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions"
    path.write_text("INBOX\nA.B\nEntw&APw-rfe\nA.B\n")
    assert subscriptions.read(str(path)) == ["INBOX", "A/B", "Entwürfe"]
    path.write_text("INBOX\nA/B.c\nEntw&APw-rfe\n")
    assert subscriptions.read(str(path), "/") == ["INBOX", "A/B.c", "Entwürfe"]
    path.write_text("V\t2\n\nA\tB\nC.d\n")
    assert subscriptions.read(str(path), "/") == subscriptions.read(str(path)) == ["A/B", "C.d"]


def test_version_one_of_the_uidlist_and_nested_folders(mail_root: Path, root: Path) -> None:
    maildir(root)
    maildir(root / "A" / "B", "cur/1.a:2,Sa", "new/2.b")
    (root / "A/B/dovecot-uidlist").write_text("1 1234 9\n3 1.a\n8 2.b\n")
    (root / "A/B/dovecot-keywords").write_text("0 work\n")
    (root / "subscriptions").write_text("A/B\n")
    with Store(str(mail_root), durability="relaxed", layout="fs") as store:
        account = store.account("alice")
        assert list(account.subscriptions()) == ["A/B"]
        mailbox = account.mailbox("A/B")
        assert seen(mailbox) == [(3, Flag.SEEN, ["work"]), (8, 0, [])]
        assert (mailbox.snapshot().uidvalidity, mailbox.snapshot().uidnext) == (1234, 9)
