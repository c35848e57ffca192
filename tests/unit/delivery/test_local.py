"""Delivery into mailboxes: one write, links, what fails for one user only."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.delivery.local import LocalTarget, status_of
from mailserver.delivery.target import Envelope, Recipient, Refused
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.mailbox import Mailbox
from mailserver.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(str(tmp_path / "mail"), durability="relaxed") as made:
        yield made


def read(store: Store, user: str) -> list[bytes]:
    box = store.account(user).mailbox("INBOX")
    return [box.read(message) for message in box.rescan().messages]


def deliver(store: Store, *users: str) -> dict[str, str]:
    delivery = LocalTarget(lambda: store).start(Envelope("id", "from@x.example"))
    for user in users:
        delivery.recipient(Recipient(f"{user}@here.example", user))
    delivery.write(b"A: b\r\n\r\n")
    delivery.write(b"text\r\n")
    failed = delivery.commit()
    delivery.abort()
    return {recipient.user: status.enhanced for recipient, status in failed.items()}


def test_one_user(store: Store) -> None:
    assert deliver(store, "alice") == {}
    wanted = b"Return-Path: <from@x.example>\r\nDelivered-To: alice@here.example\r\nA: b\r\n\r\ntext\r\n"
    assert read(store, "alice") == [wanted]


def test_abort_leaves_nothing(store: Store, tmp_path: Path) -> None:
    delivery = LocalTarget(lambda: store).start(Envelope("id", ""))
    delivery.recipient(Recipient("a@b", "alice"))
    delivery.write(b"x" * 1000000)
    assert list(tmp_path.rglob("tmp/*"))
    delivery.abort()
    delivery.abort()
    assert not list(tmp_path.rglob("tmp/*"))


@pytest.mark.parametrize("broken", ["alice", "bob", "carol"])
def test_one_user_fails(store: Store, tmp_path: Path, broken: str) -> None:
    (tmp_path / "mail").mkdir(exist_ok=True)
    (tmp_path / "mail" / broken).write_text("in the way")
    failed = deliver(store, "alice", "bob", "carol")
    assert list(failed) == [broken]
    assert failed[broken].startswith("4.")
    assert [user for user in ("alice", "bob", "carol") if user != broken and len(read(store, user)) == 1] == sorted(
        {"alice", "bob", "carol"} - {broken}
    )


def test_all_fail(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir(exist_ok=True)
    (tmp_path / "mail" / "alice").write_text("in the way")
    with pytest.raises(Refused):
        deliver(store, "alice")


def test_other_file_system(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(self: Mailbox, incoming: Incoming, *_: object) -> None:
        incoming.finish()
        raise StoreError(Kind.TEMPORARY) from OSError(errno.EXDEV, "cross-device")

    monkeypatch.setattr(Mailbox, "link", link)
    assert deliver(store, "alice", "bob") == {}
    assert read(store, "alice") == read(store, "bob") != []


def test_statuses() -> None:
    assert status_of(StoreError(Kind.NO_QUOTA)).enhanced == "4.2.2"
    assert all(status_of(StoreError(kind)).code >= 450 for kind in Kind)
    assert status_of(StoreError(Kind.CORRUPT)).temporary


def test_a_full_disk_while_a_binary_message_is_converted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = LocalTarget(lambda: store).start(Envelope("id", "from@x.example", body="BINARYMIME"))
    for user in ("alice", "bob"):
        delivery.recipient(Recipient(f"{user}@here.example", user))
    message = b"Content-Type: x/y\r\nContent-Transfer-Encoding: binary\r\nMIME-Version: 1.0\r\n\r\n\0\n"
    delivery.write(message)
    write = Incoming.write

    def full(this: Incoming, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Incoming, "write", full)
    failed = delivery.commit()
    monkeypatch.setattr(Incoming, "write", write)
    assert {status.code for status in failed.values()} == {451}
    assert len(failed) == 2
    assert b"".join(delivery.octets()) == message  # for the queue
    delivery.abort()
    assert read(store, "alice") == []
