"""A mailbox takes over another server's numbers: UIDVALIDITY, UIDNEXT, and the UID of each message."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.mailbox import Append, FlagOp, Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from tests.unit.store.conftest import open_store, put


def put_at(mailbox: Mailbox, *uids: int, uidl: str = "") -> list[int]:
    items = []
    for uid in uids:
        incoming = mailbox.receive()
        incoming.write(b"Subject: %d\r\n\r\nbody\r\n" % uid)
        items.append(
            Append(incoming, Flag.SEEN, frozenset({"work"}), 1_300_000_000 + uid, uid, uidl and uidl + str(uid))
        )
    return [int(uid) for uid in mailbox.append(items)[1]]


def uids_of(mailbox: Mailbox) -> list[int]:
    return [int(m.uid) for m in mailbox.rescan().messages]


def test_an_empty_mailbox_takes_over_numbers(store: Store, account: Account, inbox: Mailbox) -> None:
    assert inbox.renumber(4711).uidvalidity == 4711
    assert put_at(inbox, 5, 0, 9) == [5, 6, 9]
    assert put_at(inbox, 12) == [12]
    snapshot = inbox.renumber(4711, 40)
    assert (snapshot.uidvalidity, snapshot.uidnext) == (4711, 40)
    assert put(inbox) == 40
    store.close()
    with Store(store.directory("alice").rsplit("/", 1)[0], durability="relaxed") as again:
        found = again.account("alice").inbox
        snapshot = found.rescan()
        assert (snapshot.uidvalidity, snapshot.uidnext) == (4711, 41)
        assert [(m.uid, m.internaldate) for m in snapshot.messages][:2] == [(5, 1_300_000_005), (6, 1_300_000_000)]
        assert uids_of(found) == [5, 6, 9, 12, 40]
        assert snapshot.messages[0].keywords == {"work"}


def test_numbers_outlive_the_index_and_an_empty_mailbox(store: Store, account: Account, inbox: Mailbox) -> None:
    put(inbox)
    inbox.expunge(None)
    inbox.renumber(99, 7)
    store.close()
    root = store.directory("alice")
    for name in ("mailserver.sqlite", "mailserver.sqlite-wal", "mailserver.sqlite-shm"):
        Path(root, name).unlink(missing_ok=True)
    with Store(root.rsplit("/", 1)[0], durability="relaxed") as again:
        found = again.account("alice").inbox
        assert (found.rescan().uidvalidity, found.rescan().uidnext) == (99, 7)
        assert put(found) == 7


def test_the_date_is_that_of_the_file(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two may be read in different seconds; the file's is the one that stays."""
    with inbox.receive() as incoming:
        incoming.write(b"Subject: x\r\n\r\n")
        incoming.finish()
        os.utime(incoming.path, (5, 1_300_000_000))  # nobody saw this: the date was read when it was finished
        assert abs(incoming.date - time.time()) < 60
        monkeypatch.setattr("mailserver.store.formats.maildir.files.time.time", lambda: 1.0)
        inbox.append([Append(incoming)])
    assert inbox.snapshot().messages[0].internaldate == incoming.date


def test_a_uid_is_never_given_twice(inbox: Mailbox) -> None:
    put_at(inbox, 3)
    for wrong in ((3,), (1,), (5, 5), (7, 6)):
        with pytest.raises(StoreError) as refused:
            put_at(inbox, *wrong)
        assert refused.value.kind is Kind.CANNOT
    assert uids_of(inbox) == [3]
    with pytest.raises(StoreError) as refused:
        put_at(inbox, 2**31 - 1)
    assert refused.value.kind is Kind.LIMIT
    for numbers in ((0, 1), (2**32, 1), (5, 2**31)):
        with pytest.raises(StoreError):
            inbox.renumber(*numbers)


def test_messages_keep_their_uids(inbox: Mailbox) -> None:
    put_at(inbox, 3, 8)
    before = [(m.uid, m.flags, m.keywords, m.internaldate) for m in inbox.rescan().messages]
    old = inbox.snapshot().uidvalidity
    snapshot = inbox.renumber(old + 5)
    assert snapshot.uidvalidity == old + 5
    assert [(m.uid, m.flags, m.keywords, m.internaldate) for m in snapshot.messages] == before
    assert snapshot.uidnext == 9
    assert inbox.read(snapshot.messages[1]).startswith(b"Subject: 8\r\n")


@pytest.mark.tree
def test_unique_ids_of_another_server_are_kept(
    store: Store, account: Account, inbox: Mailbox, mail_root: Path, mailbox_format: str
) -> None:
    put_at(inbox, 3, 8, uidl="theirs-")
    assert [m.saved for m in inbox.maildrop()[1]] == ["theirs-3", "theirs-8"]
    inbox.renumber(77)
    assert [m.saved for m in inbox.maildrop()[1]] == ["theirs-3", "theirs-8"]
    inbox.store_flags([3], FlagOp.ADD, Flag.FLAGGED, ["x" * 60])
    inbox.expunge([3])
    put_at(inbox, 9, uidl="theirs-")
    assert put(inbox) == 10
    octets = [inbox.read(m) for m in inbox.rescan().messages]
    assert [m.saved for m in inbox.maildrop()[1]] == ["theirs-8", "theirs-9", ""]
    assert not any(b"theirs" in message for message in octets)
    with open_store(mail_root, mailbox_format) as other:
        theirs = other.account("alice").inbox
        assert [m.saved for m in theirs.maildrop()[1]] == ["theirs-8", "theirs-9", ""]
    store.close()
    for index in Path(account.root).glob("mailserver.sqlite*"):
        index.unlink()
    with open_store(mail_root, mailbox_format) as again:
        found = again.account("alice").inbox
        assert [m.saved for m in found.maildrop()[1]] == ["theirs-8", "theirs-9", ""]
        assert [found.read(m) for m in found.snapshot().messages] == octets
