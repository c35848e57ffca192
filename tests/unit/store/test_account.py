from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.store import Store
from mailserver.store.tree import names, subscriptions
from tests.unit.store.conftest import open_store, put


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("INBOX", ""),
        ("inbox", ""),
        ("Work", ".Work"),
        ("A/B/C", ".A.B.C"),
        ("Entwürfe/été", ".Entw&APw-rfe.&AOk-t&AOk-"),
        ("v1.2/x", ".v1\\2e2.x"),
        ("back\\slash", ".back\\5cslash"),
        ("a & b", ".a &- b"),
        ("InBox/sub", ".INBOX.sub"),
        ("~tilde", ".~tilde"),
    ],
)
def test_names_on_disk_and_back(name: str, directory: str) -> None:
    assert names.to_directory(names.check(name)) == directory
    if directory:
        assert names.from_directory(directory) == names.canonical(name)


@pytest.mark.parametrize("name", ["", "/", "a//b", "/a", "a/../b", ".", "a\nb", "x" * 300, "a/" * 60 + "b", "\ud800"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(StoreError) as error:
        names.check(name)
    assert error.value.kind is Kind.BAD_NAME


def listed(account: Account) -> list[str]:
    return [i.name for i in account.mailboxes() if i.name not in ("Archive", "Drafts", "Junk", "Sent", "Trash")]


def test_create_makes_the_parents(account: Account) -> None:
    account.create("a/b/c")
    assert listed(account) == ["INBOX", "a", "a/b", "a/b/c"]
    with pytest.raises(StoreError) as error:
        account.create("a/b")
    assert error.value.kind is Kind.EXISTS
    assert [i.has_children for i in account.mailboxes() if i.name.startswith("a")] == [True, True, False]


def test_delete_leaves_children(account: Account) -> None:
    account.create("a/b")
    account.delete("a")
    infos = {i.name: i for i in account.mailboxes()}
    assert not infos["a"].selectable
    assert infos["a/b"].selectable
    with pytest.raises(StoreError) as error:
        account.delete("a")
    assert error.value.kind is Kind.HAS_CHILDREN
    for name, kind in (("INBOX", Kind.CANNOT), ("none", Kind.NOT_FOUND)):
        with pytest.raises(StoreError) as error:
            account.delete(name)
        assert error.value.kind is kind


@pytest.mark.tree
def test_a_mailbox_made_again_has_another_uidvalidity(account: Account) -> None:
    seen = set()
    for _ in range(4):
        account.create("x")
        seen.add(account.mailbox("x").snapshot().uidvalidity)
        account.delete("x")
    assert len(seen) == 4


def test_rename_takes_children_messages_and_uids(account: Account) -> None:
    account.create("a/b")
    put(account.mailbox("a"))
    put(account.mailbox("a/b"))
    before = account.mailbox("a/b").snapshot()
    account.rename("a", "z/y")
    assert listed(account) == ["INBOX", "z", "z/y", "z/y/b"]
    after = account.mailbox("z/y/b").snapshot()
    assert (after.uidvalidity, [m.uid for m in after.messages]) == (before.uidvalidity, [1])
    for old, new, kind in (
        ("none", "n", Kind.NOT_FOUND),
        ("z/y", "Sent", Kind.EXISTS),
        ("z", "z/q", Kind.CANNOT),
        ("z", "INBOX", Kind.EXISTS),
        ("z", "bad//name", Kind.BAD_NAME),
    ):
        with pytest.raises(StoreError) as error:
            account.rename(old, new)
        assert error.value.kind is kind


@pytest.mark.tree
def test_rename_of_inbox_moves_its_messages(account: Account) -> None:
    put(account.inbox)
    account.rename("inbox", "old")
    assert account.inbox.snapshot().messages == []
    assert len(account.mailbox("old").snapshot().messages) == 1
    assert put(account.inbox) == 2


@pytest.mark.tree
def test_subscriptions(account: Account, mail_root: Path, mailbox_format: str) -> None:
    account.subscribe("not/there")
    account.subscribe("not/there")
    account.unsubscribe("Drafts")
    account.unsubscribe("Drafts")
    assert list(account.subscriptions()) == ["Sent", "Junk", "Trash", "Archive", "not/there"]
    text = (mail_root / "alice" / (".subscriptions" if mailbox_format == "mbox-fs" else "subscriptions")).read_text()
    assert text == "V\t2\n\nSent\nJunk\nTrash\nArchive\nnot\tthere\n"


def test_subscriptions_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("A.B\nEntw&APw-rfe\n")
    assert subscriptions.read(str(tmp_path / "s")) == ["A/B", "Entwürfe"]


@pytest.mark.parametrize("user", ["", "a/b", "../x", "..", ".hidden", "a\0b", "x@../y", "x@", "a@.."])
def test_users_that_would_leave_the_mail_directory(store: Store, user: str) -> None:
    if user == "x@":
        return
    with pytest.raises(StoreError) as error:
        store.account(user)
    assert error.value.kind is Kind.BAD_NAME


def test_template_with_local_part_and_domain(tmp_path: Path) -> None:
    with Store(str(tmp_path / "{domain}/{local}/Maildir"), durability="relaxed") as store:
        assert store.account("ann@example.org").root == str(tmp_path / "example.org/ann/Maildir")


def test_index_elsewhere(tmp_path: Path) -> None:
    with Store(str(tmp_path / "mail"), index_path=str(tmp_path / "index"), durability="relaxed") as store:
        put(store.account("ann").inbox)
    assert (tmp_path / "index/ann/mailserver.sqlite").exists()
    assert not (tmp_path / "mail/ann/mailserver.sqlite").exists()


@pytest.mark.tree
def test_a_mailbox_made_anew_by_another_process_is_served_at_once(
    account: Account, mail_root: Path, mailbox_format: str
) -> None:
    account.create("Work")
    put(account.mailbox("Work"))
    assert len(account.mailbox("Work").rescan().messages) == 1
    with open_store(mail_root, mailbox_format) as elsewhere:
        other = elsewhere.account("alice")
        other.delete("Work")
        other.create("Work")
        put(other.mailbox("Work"))
        put(other.mailbox("Work"))
    assert len(account.mailbox("Work").rescan().messages) == 2
