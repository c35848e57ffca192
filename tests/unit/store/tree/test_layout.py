"""Nested directories (Dovecot's LAYOUT=fs): the same account by other places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.store import Store
from mailserver.store.tree.layout import Nested
from tests.unit.store.conftest import put


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[Account]:
    with Store(str(tmp_path / "mail"), durability="relaxed", layout="fs") as store:
        yield store.account("alice")


def names(account: Account) -> list[str]:
    return [i.name for i in account.mailboxes() if not i.special_use]


def test_places(nested: Account) -> None:
    nested.create("Work/Süd/x.y")
    root = Path(nested.root)
    for place in ("cur", "Work/cur", "Work/S&APw-d/cur", "Work/S&APw-d/x.y/cur"):
        assert (root / place).is_dir(), place
    assert names(nested) == ["INBOX", "Work", "Work/Süd", "Work/Süd/x.y"]


@pytest.mark.parametrize("name", ["cur", "Work/new", "tmp/x", ".hidden", "Work/.x"])
def test_parts_of_a_maildir_are_no_names(nested: Account, name: str) -> None:
    with pytest.raises(StoreError) as error:
        nested.create(name)
    assert error.value.kind is Kind.BAD_NAME


_BOOKS = ["dovecot-acl", "dovecot-keywords", "dovecot-uidlist.lock", "dovecot.index.log", "mailserver.lock"]


@pytest.mark.parametrize("name", [*_BOOKS, "courierimapkeywords", "maildirfolder"])
def test_no_folder_stands_where_a_book_will_be(nested: Account, name: str) -> None:
    nested.create("Work")
    for above in ("", "Work/"):
        with pytest.raises(StoreError) as error:
            nested.create(above + name)
        assert error.value.kind is Kind.BAD_NAME
        with pytest.raises(StoreError):
            nested.rename("Work", above + name)


@pytest.mark.parametrize("name", ["maildirsize", "subscriptions.tmp", "mailserver-special", "dovecot-acl-list"])
def test_some_are_only_in_the_directory_of_the_account(nested: Account, name: str) -> None:
    nested.create(f"Work/{name}")
    with pytest.raises(StoreError) as error:
        nested.create(name)
    assert error.value.kind is Kind.BAD_NAME


@pytest.mark.parametrize("name", ["dovecot", "dovecot-users", "mailserver", "courier", "Work/subscriptions"])
def test_folders_that_are_called_nearly_so(nested: Account, name: str) -> None:
    nested.create(name)
    put(nested.mailbox(name), keywords=("Later",))
    assert len(nested.mailbox(name).rescan().messages) == 1


def test_a_parent_is_deleted_and_its_child_stays(nested: Account) -> None:
    nested.create("Work/Sub")
    uid = put(nested.mailbox("Work/Sub"))
    put(nested.mailbox("Work"))
    nested.delete("Work")
    assert [(i.name, i.selectable) for i in nested.mailboxes() if i.name.startswith("Work")] == [
        ("Work", False),
        ("Work/Sub", True),
    ]
    assert [m.uid for m in nested.mailbox("Work/Sub").rescan().messages] == [uid]
    nested.delete("Work/Sub")
    assert names(nested) == ["INBOX"]
    assert not list(Path(nested.root, "tmp").iterdir())


def test_children_move_with_their_parent(nested: Account) -> None:
    nested.create("Work/Sub/Deep")
    validity = nested.mailbox("Work/Sub").snapshot().uidvalidity
    uid = put(nested.mailbox("Work/Sub"), keywords=("Later",))
    nested.rename("Work", "Old/Job")
    assert names(nested) == ["INBOX", "Old", "Old/Job", "Old/Job/Sub", "Old/Job/Sub/Deep"]
    moved = nested.mailbox("Old/Job/Sub").rescan()
    assert [(m.uid, set(m.keywords)) for m in moved.messages] == [(uid, {"Later"})]
    assert moved.uidvalidity == validity
    assert not Path(nested.root, "Work").exists()


def test_what_others_make_is_seen(nested: Account) -> None:
    assert names(nested) == ["INBOX"]
    for part in ("tmp", "new", "cur"):
        Path(nested.root, "Lists/python", part).mkdir(parents=True)
    assert names(nested) == ["INBOX", "Lists", "Lists/python"]
    for part in ("tmp", "new", "cur"):
        Path(nested.root, "Lists/rust", part).mkdir(parents=True)
    assert names(nested) == ["INBOX", "Lists", "Lists/python", "Lists/rust"]
    Path(nested.root, "Lists/python/cur").rename(Path(nested.root, "Lists/python/gone"))
    assert names(nested) == ["INBOX", "Lists", "Lists/rust"]


def test_names_that_others_could_not_have_meant() -> None:
    layout = Nested()
    assert layout.name("a&b") is None
    assert layout.name("INBOX") is None
    assert layout.name("A/B") == "A/B"
