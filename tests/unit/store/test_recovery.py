"""What is known after something went wrong: torn lists, an index that could not be written, abandoned files."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from mailserver.store.account import Account
from mailserver.store.content import Content
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir import syncing, uidlist
from mailserver.store.mailbox import FlagOp, Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.model.message import Message
from mailserver.store.store import Store
from mailserver.store.tree import tidy
from mailserver.store.tree.tidy import sweep
from tests.unit.store.conftest import put


def flags_of(mailbox: Mailbox) -> dict[int, int]:
    return {m.uid: m.flags for m in mailbox.rescan().messages}


def test_half_a_line_in_the_list_of_uids(inbox: Mailbox, store: Store, mail_root: Path) -> None:
    put(inbox)
    store.close()
    path = mail_root / "alice/dovecot-uidlist"
    with path.open("ab") as f:
        f.write(b"2 :17000")
    with Store(str(mail_root), durability="relaxed") as again:
        assert put(again.account("alice").inbox) == 2
    os.unlink(mail_root / "alice/mailserver.sqlite")
    with Store(str(mail_root), durability="relaxed") as again:
        assert [m.uid for m in again.account("alice").inbox.rescan().messages] == [1, 2]


def test_an_index_that_missed_a_write_is_given_everything(inbox: Mailbox, store: Store, mail_root: Path) -> None:
    put(inbox)
    other = sqlite3.connect(mail_root / "alice/mailserver.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    put(inbox)
    inbox.store_flags([1], FlagOp.ADD, Flag.SEEN)
    other.execute("ROLLBACK")
    other.close()
    put(inbox)
    expected = flags_of(inbox)
    modseq = inbox.snapshot().highestmodseq
    store.close()
    with Store(str(mail_root), durability="relaxed") as again:
        found = again.account("alice").inbox.snapshot()
        assert {m.uid: m.flags for m in found.messages} == expected
        assert found.highestmodseq == modseq


def test_a_process_that_saw_the_failed_write_otherwise(inbox: Mailbox, mail_root: Path) -> None:
    """Two processes: one could not write its change, the other finds it in the files and writes it."""
    put(inbox)
    with Store(str(mail_root), durability="relaxed") as second:
        theirs = second.account("alice").inbox
        theirs.rescan()
        lock = sqlite3.connect(mail_root / "alice/mailserver.sqlite", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        put(inbox)
        lock.execute("ROLLBACK")
        lock.close()
        assert len(theirs.rescan().messages) == 2
        theirs.store_flags([2], FlagOp.ADD, Flag.FLAGGED)
        assert inbox.snapshot().messages[1].flags == Flag.FLAGGED
        assert inbox.snapshot().highestmodseq == theirs.snapshot().highestmodseq


def test_a_full_disk_keeps_the_index(inbox: Mailbox, mail_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(inbox)
    index = mail_root / "alice/mailserver.sqlite"
    before = index.stat().st_ino
    connection = inbox._context.index._db
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages}")
    for n in range(300):
        put(inbox, keywords=(f"keyword{n:050d}",))
    assert index.stat().st_ino == before
    assert len(inbox.rescan().messages) == 301


def test_expunge_spares_what_is_deleted_no_more(inbox: Mailbox) -> None:
    put(inbox, flags=Flag.DELETED)
    put(inbox, flags=Flag.DELETED)
    inbox.store_flags([1], FlagOp.REMOVE, Flag.DELETED)
    assert inbox.expunge(None, deleted=True)[1] == [2]


def test_copy_of_every_message_or_none(inbox: Mailbox, account: Account) -> None:
    put(inbox)
    put(inbox)
    inbox.expunge([1])
    with pytest.raises(StoreError) as error:
        inbox.copy([1, 2], account.mailbox("Trash"), every=True)
    assert error.value.kind is Kind.EXPUNGED
    assert account.mailbox("Trash").rescan().messages == []


@pytest.mark.maildir  # an mbox that is replaced stays the mailbox, with another UIDVALIDITY: test_mbox.py
def test_another_folder_of_the_same_name(inbox: Mailbox, account: Account, mail_root: Path) -> None:
    """Whoever had the mailbox open before another process replaced it does not go on with the new one."""
    account.create("Work")
    work = account.mailbox("Work")
    put(work)
    with Store(str(mail_root), durability="relaxed") as second:
        theirs = second.account("alice")
        theirs.rename("Work", "Old")
        theirs.create("Work")
        put(theirs.mailbox("Work"))
        with pytest.raises(StoreError) as error:
            work.snapshot()
        assert error.value.kind is Kind.NOT_FOUND
        validity = theirs.mailbox("Work").snapshot().uidvalidity
        assert account.mailbox("Work").snapshot().uidvalidity == validity
        assert theirs.mailbox("Old").snapshot().uidvalidity != validity


@pytest.mark.maildir  # times of directories; of an mbox: formats/mbox/test_folder.py
def test_a_foreign_delivery_hidden_by_our_own(inbox: Mailbox, mail_root: Path) -> None:
    """It bears no later time than our change; a look after things came to rest finds it."""
    put(inbox)
    inbox.rescan()
    put(inbox)
    folder = mail_root / "alice"
    (folder / "tmp/x").write_bytes(b"A: b\r\n\r\n")
    times = os.stat(folder / "new")
    os.rename(folder / "tmp/x", folder / "new/1.x")
    os.utime(folder / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
    deadline = time.monotonic() + 10
    while len(inbox.poll().messages) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_mailbox_that_the_index_lost(account: Account, inbox: Mailbox, mail_root: Path, mailbox_format: str) -> None:
    """A RENAME that was killed between files and index leaves no row; whoever still knows the mailbox writes it all."""
    for _ in range(3):
        put(inbox)
    inbox.keeper.context.index.forget("")
    put(inbox)
    with Store(str(mail_root), durability="relaxed", format=mailbox_format) as other:
        assert [m.uid for m in other.account("alice").inbox.rescan().messages] == [1, 2, 3, 4]


def test_missing_levels_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mkdir alone is forgotten by a power loss, with all that was put below since."""
    synced: list[str] = []
    monkeypatch.setattr(syncing, "sync_path", synced.append)
    syncing.make_directories(f"{tmp_path}/a/b/c", sync=True)
    assert synced == [str(tmp_path), f"{tmp_path}/a", f"{tmp_path}/a/b"]
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o700
    syncing.make_directories(f"{tmp_path}/a/b/c", sync=True)
    assert len(synced) == 3
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        syncing.make_directories(f"{tmp_path}/file", sync=True)


@pytest.mark.maildir  # a tmp of its own; of an mbox the account has it, as the INBOX here
def test_abandoned_files_are_swept(inbox: Mailbox, account: Account, mail_root: Path) -> None:
    account.create("Work")
    old, young = mail_root / "alice/.Work/tmp/old", mail_root / "alice/tmp/young"
    grave = mail_root / "alice/tmp/9.x.deleted"
    for path in (old, young):
        path.write_bytes(b"half")
    (grave / "cur").mkdir(parents=True)
    sweep(str(mail_root / "alice"))
    assert old.exists()
    sweep(str(mail_root / "alice"), now=time.time() + 37 * 3600)
    assert not old.exists()
    assert not grave.exists()
    assert not young.exists()


def test_abandoned_files_go_when_an_account_is_opened(
    account: Account, store: Store, mail_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = mail_root / "alice/tmp/1.half.host"
    left.write_bytes(b"half")
    store.close()
    for hours in (35, 37):
        later = time.time() + hours * 3600
        with monkeypatch.context() as clock, Store(str(mail_root), durability="relaxed") as again:
            clock.setattr(tidy.time, "time", lambda later=later: later)
            again.account("alice")
        assert left.exists() == (hours < 36)


@pytest.mark.maildir
def test_a_line_that_is_written_in_half(inbox: Mailbox, mail_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the midst of it: the message is refused, and the list is as before."""
    put(inbox)
    path = mail_root / "alice/dovecot-uidlist"
    before, write = path.read_bytes(), os.write

    def half(fd: int, data: bytes) -> int:
        mine = os.path.samestat(os.fstat(fd), path.stat())
        return write(fd, data[: len(data) // 2] if mine else data)

    with monkeypatch.context() as full:
        full.setattr(os, "write", half)
        with pytest.raises(StoreError, match="full"):
            put(inbox)
    assert path.read_bytes() == before
    assert [m.uid for m in inbox.rescan().messages] == [1]
    assert put(inbox) == 2


@pytest.mark.maildir
@pytest.mark.parametrize("index", [True, False])
def test_a_list_of_version_1_grows(inbox: Mailbox, store: Store, mail_root: Path, index: bool) -> None:
    """Dovecot 1.0 wrote it; a line of version 3 behind its lines would name another file."""
    path = mail_root / "alice/dovecot-uidlist"
    for _ in range(3):
        put(inbox)
    inbox.expunge([1])
    validity = inbox.snapshot().uidvalidity
    store.close()
    lines = path.read_text().splitlines()[1:]
    path.write_text("".join([f"1 {validity} 4\n", *(line.replace(" :", " ") + "\n" for line in lines)]))
    if not index:
        os.unlink(mail_root / "alice/mailserver.sqlite")
    for uid in (4, 5):
        with Store(str(mail_root), durability="relaxed") as again:
            inbox = again.account("alice").inbox
            before = inbox.files.object_id if inbox.rescan() else ""
            assert put(inbox) == uid
            assert [m.uid for m in inbox.rescan().messages] == [2, 3, *range(4, uid + 1)]
            assert inbox.snapshot().uidvalidity == validity
    with Store(str(mail_root), durability="relaxed") as again:
        inbox = again.account("alice").inbox
        assert [m.uid for m in inbox.rescan().messages] == [2, 3, 4, 5]
        assert inbox.files.object_id == before


def test_a_list_of_version_1_that_another_program_writes(tmp_path: Path) -> None:
    path = str(tmp_path / "dovecot-uidlist")
    Path(path).write_text("1 7 3\n1 a\n2 b\n")
    known = uidlist.read(path)
    assert known is not None
    with open(path, "a") as f:
        f.write("3 c\n")
    followed = uidlist.follow(path, known)
    assert followed is not None
    assert {base: entry.uid for base, entry in followed.entries.items()} == {"a": 1, "b": 2, "c": 3}
    followed.entries.clear()
    uidlist.append(path, followed, [("d", uidlist.Entry(4))])
    again = uidlist.read(path)
    assert again is not None
    assert {base: entry.uid for base, entry in again.entries.items()} == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert (again.uidvalidity, again.next_uid, again.old, again.guid) == (7, 5, False, followed.guid)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_message_without_a_line_end_can_be_read_when_another_follows(tmp_path: Path, cut: int) -> None:
    """The index knows it as the end of the file; then it got its line end."""
    with Store(str(tmp_path), format="mbox") as store:
        inbox = store.account("alice").inbox
        put(inbox, b"Subject: 1\r\n\r\ntext\r\n")
    path = tmp_path / "alice/.INBOX"
    path.write_bytes(path.read_bytes()[:-cut])
    with Store(str(tmp_path), format="mbox") as store:
        inbox = store.account("alice").inbox
        inbox.rescan()
        put(inbox, b"Subject: 2\r\n\r\n")
    with Store(str(tmp_path), format="mbox") as store:
        inbox = store.account("alice").inbox
        texts = [inbox.read(m) for m in inbox.rescan().messages]
        assert texts == [b"Subject: 1\r\n\r\ntext", b"Subject: 2\r\n\r\n"]


@pytest.mark.maildir  # an mbox is read as a whole anyway, and sizes are known from then on
def test_flags_that_change_while_a_size_is_counted(inbox: Mailbox, mail_root: Path) -> None:
    """Lines that end with LF: the file has to be read, and meanwhile somebody changes flags to and fro."""
    (mail_root / "alice/cur/1.foreign:2,").write_bytes(b"Subject: x\n\nbody\n")
    (message,) = inbox.rescan().messages
    assert message.vsize == -1
    opened = inbox.open

    def meanwhile(m: Message) -> Content:
        inbox.store_flags([m.uid], FlagOp.ADD, Flag.SEEN)
        inbox.store_flags([m.uid], FlagOp.REMOVE, Flag.SEEN)
        return opened(m)

    inbox.open = meanwhile  # type: ignore[method-assign]
    assert inbox.sizes([message]) == [20]
    snapshot = inbox.snapshot()
    assert snapshot.messages[0].vsize == 20
    assert snapshot.messages[0].modseq == snapshot.highestmodseq > message.modseq
