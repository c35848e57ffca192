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
from tests.unit.store.conftest import open_store, put

OTHER = {"maildir": "mbox", "mbox": "maildir", "mbox-fs": "maildir"}


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


@pytest.mark.tree
@pytest.mark.parametrize("name", ["INBOX", "Work/2024"])
def test_there_and_back(store: Store, account: Account, mailbox_format: str, name: str) -> None:
    if name != "INBOX":
        account.create(name)
    mailbox = account.mailbox(name)
    fill(mailbox)
    before, modseq = seen(mailbox), mailbox.snapshot().highestmodseq
    for format in (OTHER[mailbox_format], mailbox_format.removesuffix("-fs")):
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


@pytest.mark.tree
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


@pytest.mark.tree
@pytest.mark.parametrize("step", ["fill", "catch_up", "swap", "exchange", "clear"])
def test_an_error_leaves_it_whole(
    store: Store, account: Account, mail_root: Path, mailbox_format: str, step: str, monkeypatch: pytest.MonkeyPatch
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
    with open_store(mail_root, mailbox_format) as again:
        assert seen(again.account("alice").mailbox("Work")) == before
        assert not left(again.account("alice"))


@pytest.mark.tree
def test_another_process_sees_it(store: Store, account: Account, mail_root: Path, mailbox_format: str) -> None:
    account.create("Work")
    for name in ("INBOX", "Work"):
        fill(account.mailbox(name))
    with open_store(mail_root, mailbox_format) as other:
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


@pytest.mark.tree
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


def test_among_nested_maildirs(tmp_path: Path) -> None:
    """A file is an mbox when it begins like one; what the Maildirs keep beside it is none."""
    with Store(str(tmp_path / "mail"), durability="relaxed", layout="fs") as store:
        account = store.account("alice")
        for name in ("A/B", "A/dovecot-devel", "C"):
            account.create(name)
        for name, kind in (("A", Kind.HAS_CHILDREN), ("A/dovecot-devel", Kind.CANNOT)):
            with pytest.raises(StoreError) as refused:
                account.convert(name, "mbox")
            assert refused.value.kind is kind
        expected = [i.name for i in account.mailboxes()]
        for name in ("A/B", "C", "INBOX"):
            fill(account.mailbox(name))
            before = seen(account.mailbox(name))
            assert account.convert(name, "mbox")
            assert seen(account.mailbox(name)) == before
        assert [i.name for i in account.mailboxes()] == expected
        assert [i.name for i in account.mailboxes() if not i.inferiors] == ["A/B", "C"]
        with pytest.raises(StoreError) as refused:
            account.create("C/D")
        assert refused.value.kind is Kind.CANNOT
        before = seen(account.mailbox("A/B"))
        account.rename("A", "N/A")
        assert seen(account.mailbox("N/A/B")) == before
        account.delete("N/A")  # the Maildir; the mbox of its child, beside its lists, stays
        assert seen(account.mailbox("N/A/B")) == before
        assert account.convert("N/A/B", "maildir")
        assert seen(account.mailbox("N/A/B")) == before
        account.create("N/A/B/below")
        for book in ("mailserver.sqlite", "subscriptions"):
            with pytest.raises(StoreError) as refused:
                account.mailbox(book)
            assert refused.value.kind is Kind.BAD_NAME
    with Store(str(tmp_path / "mail"), durability="relaxed", layout="fs", format="mbox") as store:
        again = store.account("alice")  # new mailboxes become mboxes; what is there stays what it is, and where
        assert again.root == account.root
        assert seen(again.mailbox("N/A/B")) == before
        again.create("N/A/B/new mbox")
        assert again.mailbox("N/A/B/new mbox").files.format == "mbox"


@pytest.mark.mbox
@pytest.mark.parametrize("mailbox_format", ["mbox-fs"])
def test_among_nested_mboxes(account: Account) -> None:
    account.create("A/B")
    fill(account.mailbox("A/B"))
    before = seen(account.mailbox("A/B"))
    with pytest.raises(StoreError) as refused:
        account.create("A/B/C")
    assert refused.value.kind is Kind.CANNOT
    account.convert("A/B", "maildir")
    account.create("A/B/C")
    fill(account.mailbox("A/B/C"))
    assert [(i.name, i.selectable, i.inferiors) for i in account.mailboxes() if i.name.startswith("A/")] == [
        ("A/B", True, True),
        ("A/B/C", True, False),
    ]
    with pytest.raises(StoreError) as refused:
        account.convert("A/B", "mbox")
    assert refused.value.kind is Kind.HAS_CHILDREN
    with pytest.raises(StoreError) as refused:
        account.create("A/B/new")  # where the Maildir has a directory
    assert refused.value.kind is Kind.BAD_NAME
    assert seen(account.mailbox("A/B")) == before
    account.rename("A", "Z")
    assert seen(account.mailbox("Z/B")) == before
    assert seen(account.mailbox("Z/B/C"))[2] == before[2]
    account.delete("Z/B")
    assert seen(account.mailbox("Z/B/C"))[2] == before[2]
    assert [i.name for i in account.mailboxes() if i.name.startswith("Z")] == ["Z", "Z/B", "Z/B/C"]
    account.delete("Z/B/C")
    account.create("Z/B/C")
    account.convert("Z/B/C", "maildir")
    account.delete("Z/B/C")


@pytest.mark.tree
def test_unique_ids_of_pop3_come_along(account: Account, inbox: Mailbox, mailbox_format: str) -> None:
    from tests.unit.store.test_renumber import put_at

    put_at(inbox, 3, 8, uidl="theirs-")
    put(inbox)
    before = seen(inbox)
    for format in (OTHER[mailbox_format], mailbox_format.removesuffix("-fs")):
        assert not any(conversion.lost(account.inbox, format))
        account.convert("INBOX", format)
        assert [m.saved for m in account.inbox.maildrop()[1]] == ["theirs-3", "theirs-8", ""]
        assert seen(account.inbox) == before


@pytest.mark.maildir
def test_what_the_other_format_cannot_hold(inbox: Mailbox) -> None:
    """An id that no header field can hold; an order that is not that of the UIDs."""
    path = Path(inbox.files.path, "dovecot-uidlist")
    for _ in range(3):
        put(inbox)
    first, *lines = path.read_text().splitlines()
    fields = ["P\u00e9", f"P{'x' * 256} O2", "Pplain O1"]
    lines = [line.replace(" :", f" {more} :") for line, more in zip(lines, fields, strict=True)]
    path.write_text("\n".join([first, *lines, ""]))
    inbox.rescan()
    assert conversion.lost(inbox, "mbox") == conversion.Lost(2, True)
    assert conversion.lost(inbox, "maildir") == conversion.Lost(0, False)
