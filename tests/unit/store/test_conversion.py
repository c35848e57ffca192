"""A mailbox changes its format while it is used: nothing is lost, and clients download nothing."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from mailserver.store import conversion
from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.mailbox import FlagOp, Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from tests.unit.store.conftest import put

OTHER = {"maildir": "mbox", "mbox": "maildir"}


def fill(mailbox: Mailbox) -> None:
    for number in range(9):
        flags = [0, Flag.SEEN, Flag.FLAGGED | Flag.ANSWERED | Flag.DRAFT][number % 3]
        put(
            mailbox,
            b"Subject: %d\r\n\r\nFrom me\r\n>From you\r\n" % number,
            flags,
            ("work", "$x")[: number % 3],
            1_300_000_000 + number,
        )
    mailbox.expunge([2, 9])


def seen(mailbox: Mailbox) -> tuple[object, ...]:
    s = mailbox.rescan()
    rows = [(m.uid, m.flags, sorted(m.keywords), m.internaldate, mailbox.read(m)) for m in s.messages]
    return s.uidvalidity, s.uidnext, rows


def left(account: Account) -> list[str]:
    return [name for name in os.listdir(account.root) if "convert" in name and not name.endswith(".lock")]


@pytest.mark.parametrize("name", ["INBOX", "Work/2024"])
def test_there_and_back(store: Store, account: Account, mailbox_format: str, name: str) -> None:
    if name != "INBOX":
        account.create(name)
    mailbox = account.mailbox(name)
    fill(mailbox)
    before, modseq = seen(mailbox), mailbox.snapshot().highestmodseq
    for format in (OTHER[mailbox_format], mailbox_format):
        mailbox = account.mailbox(name)
        woken = threading.Event()
        with mailbox.subscribe_changes(woken.set):
            assert account.convert(name, format)
        assert woken.is_set()
        assert mailbox.gone
        assert not account.convert(name, format)
        after = account.mailbox(name)
        assert after.files.format == format
        assert seen(after) == before
        assert after.snapshot().highestmodseq > modseq
        modseq = after.snapshot().highestmodseq
        assert not left(account)
    assert put(account.mailbox(name)) == 10
    assert account.inbox.rescan() is not None


def test_what_happens_meanwhile_is_done_too(
    account: Account, inbox: Mailbox, mailbox_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(inbox)
    real = conversion.catch_up

    def busy(old: Mailbox, new: Mailbox) -> None:
        put(old, b"Subject: late\r\n\r\n", Flag.SEEN, ("late",))
        old.expunge([3])
        old.store_flags([4], FlagOp.REPLACE, Flag.DELETED, ["other"])
        old.store_flags([5], FlagOp.ADD, Flag.FLAGGED)
        expected.append(seen(old))
        real(old, new)

    expected: list[tuple[object, ...]] = []
    monkeypatch.setattr(conversion, "catch_up", busy)
    assert account.convert("INBOX", OTHER[mailbox_format])
    assert seen(account.inbox) == expected[0]


@pytest.mark.parametrize("name", ["INBOX", "Work"])
@pytest.mark.maildir
def test_a_program_that_knows_no_locks(account: Account, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "Work":
        account.create(name)
    mailbox = account.mailbox(name)
    fill(mailbox)
    real = conversion.swap

    def late(places: conversion.Places, format: str) -> None:
        Path(places.maildir, "new", "1.late").write_bytes(b"Subject: late\n\n")
        real(places, format)

    monkeypatch.setattr(conversion, "swap", late)
    assert account.convert(name, "mbox")
    after = account.mailbox(name)
    assert after.read(after.rescan().messages[-1]) == b"Subject: late\r\n\r\n"
    assert len(after.snapshot().messages) == 8


@pytest.mark.parametrize("step", ["fill", "catch_up", "swap", "exchange", "clear"])
def test_an_error_leaves_it_whole(
    store: Store, account: Account, mailbox_format: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.create("Work")
    fill(account.mailbox("Work"))
    before = seen(account.mailbox("Work"))

    def fail(*words: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(conversion, step, fail)
        with pytest.raises(StoreError) as refused:
            account.convert("Work", OTHER[mailbox_format])
        assert refused.value.kind is Kind.TEMPORARY
    assert seen(account.mailbox("Work")) == before
    store.close()
    with Store(os.path.dirname(account.root), durability="relaxed", format=mailbox_format) as again:
        assert seen(again.account("alice").mailbox("Work")) == before
        assert not left(again.account("alice"))


def test_another_process_sees_it(store: Store, account: Account, mailbox_format: str) -> None:
    account.create("Work")
    for name in ("INBOX", "Work"):
        fill(account.mailbox(name))
    with Store(os.path.dirname(account.root), durability="relaxed", format=mailbox_format) as other:
        theirs = other.account("alice")
        for name in ("INBOX", "Work"):
            before = seen(account.mailbox(name))
            mailbox = theirs.mailbox(name)
            assert seen(mailbox) == before
            account.convert(name, OTHER[mailbox_format])
            with pytest.raises(StoreError) as refused:
                put(mailbox)
            assert refused.value.kind is Kind.NOT_FOUND
            again = theirs.mailbox(name)
            assert again is not mailbox
            assert seen(again) == before
            assert put(again) == 10
            assert len(account.mailbox(name).rescan().messages) == 8


def test_what_cannot_be_converted(account: Account, mailbox_format: str, mail_root: Path) -> None:
    for name, kind in (("none", Kind.NOT_FOUND), ("", Kind.BAD_NAME)):
        with pytest.raises(StoreError) as refused:
            account.convert(name, OTHER[mailbox_format])
        assert refused.value.kind is kind
    lock = account._converting()
    with pytest.raises(StoreError) as refused:
        account.convert("INBOX", OTHER[mailbox_format])
    assert refused.value.kind is Kind.IN_USE
    lock.release()
    if mailbox_format == "maildir":
        (mail_root / "alice" / ".INBOX").write_bytes(b"")
        with pytest.raises(StoreError) as refused:
            account.convert("INBOX", "mbox")
        assert refused.value.kind is Kind.CANNOT
        (mail_root / "alice" / ".INBOX").unlink()


def test_nested_folders(tmp_path: Path) -> None:
    with Store(str(tmp_path / "mail"), durability="relaxed", layout="fs") as store:
        account = store.account("alice")
        account.create("A/B")
        with pytest.raises(StoreError) as refused:
            account.convert("A/B", "mbox")
        assert refused.value.kind is Kind.CANNOT
        fill(account.inbox)
        before = seen(account.inbox)
        account.convert("INBOX", "mbox")
        assert seen(account.inbox) == before
        assert [i.name for i in account.mailboxes() if i.selectable and i.name.startswith("A")] == [
            "A",
            "A/B",
            "Archive",
        ]


def test_what_the_other_format_cannot_hold(account: Account, inbox: Mailbox, mailbox_format: str) -> None:
    from tests.unit.store.test_renumber import put_at

    put_at(inbox, 3, 8, uidl="theirs-")
    expected = conversion.Lost(2, False) if mailbox_format == "maildir" else conversion.Lost(0, False)
    assert conversion.lost(inbox, "mbox") == expected
    assert conversion.lost(inbox, "maildir") == conversion.Lost(0, False)
