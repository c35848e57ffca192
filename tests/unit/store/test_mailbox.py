from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.mailbox import Append, FlagOp, Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from tests.unit.store.conftest import put


def flags_of(mailbox: Mailbox) -> list[tuple[int, int, list[str]]]:
    return [(m.uid, m.flags, sorted(m.keywords)) for m in mailbox.snapshot().messages]


def test_new_account_has_the_usual_folders(account: Account) -> None:
    infos = {i.name: i for i in account.mailboxes()}
    assert list(infos) == ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
    assert infos["Sent"].special_use == "\\Sent"
    assert all(i.subscribed for i in infos.values() if i.name != "INBOX")


def test_append_gives_ascending_uids_and_keeps_octets(inbox: Mailbox) -> None:
    data = b"Subject: a\r\n\r\nbare\nlf, bare\rcr, nul \0 and \xff\r\n"
    assert [put(inbox), put(inbox, data)] == [1, 2]
    message = inbox.snapshot().messages[1]
    stored = data.replace(b"bare\nlf", b"bare\r\nlf")
    assert inbox.read(message) == stored
    assert message.vsize == message.size == len(stored)


def test_append_of_several_is_all_or_none(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    received = []
    for _ in range(3):
        incoming = inbox.receive()
        incoming.write(b"A: b\r\n\r\n")
        incoming.finish()
        received.append(incoming)
    os.unlink(received[2].path)
    with pytest.raises(StoreError):
        inbox.append([Append(incoming) for incoming in received])
    assert inbox.rescan().messages == []
    for incoming in received:
        incoming.discard()
    assert put(inbox) == 1


@pytest.mark.maildir  # file names; of an mbox: test_mbox.py
def test_flags_and_keywords_live_in_the_file_name(inbox: Mailbox, mail_root: Path) -> None:
    put(inbox, flags=Flag.SEEN, keywords=("$Junk",))
    inbox.store_flags([1], FlagOp.ADD, Flag.FLAGGED | Flag.DRAFT, ["Work"])
    inbox.store_flags([1], FlagOp.ADD, 0, ["WORK"])  # the first spelling stays
    assert flags_of(inbox) == [(1, Flag.SEEN | Flag.FLAGGED | Flag.DRAFT, ["$Junk", "Work"])]
    (name,) = os.listdir(mail_root / "alice/cur")
    assert name.endswith(":2,DFSab")
    inbox.store_flags([1], FlagOp.REMOVE, Flag.SEEN, ["work", "unknown"])
    assert flags_of(inbox) == [(1, Flag.FLAGGED | Flag.DRAFT, ["$Junk"])]
    inbox.store_flags([1], FlagOp.REPLACE, Flag.ANSWERED)
    assert flags_of(inbox) == [(1, Flag.ANSWERED, [])]
    assert (mail_root / "alice/dovecot-keywords").read_text() == "0 $Junk\n1 Work\n"


def test_every_change_has_a_higher_modseq(inbox: Mailbox) -> None:
    put(inbox)
    put(inbox)
    seen = [inbox.snapshot().highestmodseq]
    inbox.store_flags([2], FlagOp.ADD, Flag.SEEN)
    seen.append(inbox.snapshot().highestmodseq)
    inbox.store_flags([2], FlagOp.ADD, Flag.SEEN)  # nothing changes
    assert inbox.snapshot().highestmodseq == seen[-1]
    inbox.expunge([1])
    seen.append(inbox.snapshot().highestmodseq)
    assert seen == sorted(set(seen))
    assert inbox.snapshot().messages[0].modseq == seen[1]


def test_unchanged_since(inbox: Mailbox) -> None:
    put(inbox)
    put(inbox)
    before = inbox.snapshot().highestmodseq
    inbox.store_flags([1], FlagOp.ADD, Flag.SEEN)
    result = inbox.store_flags([1, 2], FlagOp.ADD, Flag.FLAGGED, unchanged_since=before)
    assert result.modified == [1]
    assert flags_of(inbox) == [(1, Flag.SEEN, []), (2, Flag.FLAGGED, [])]


def test_uids_are_never_used_again(inbox: Mailbox, store: Store, mail_root: Path) -> None:
    for _ in range(3):
        put(inbox)
    assert inbox.expunge([2, 3, 99])[1] == [2, 3]
    assert put(inbox) == 4
    inbox.expunge([1, 4])
    store.close()
    os.unlink(mail_root / "alice/mailserver.sqlite")
    with Store(str(mail_root), durability="relaxed") as again:
        assert put(again.account("alice").inbox) == 5


def test_everything_but_modseq_survives_the_loss_of_the_index(inbox: Mailbox, store: Store, mail_root: Path) -> None:
    put(inbox, flags=Flag.SEEN, keywords=("a", "b"), date=1_000_000_000)
    put(inbox)
    inbox.expunge([2])
    before, facts = inbox.snapshot(), flags_of(inbox)
    uidls = inbox.maildrop()[1]
    store.close()
    for suffix in ("", "-wal", "-shm"):
        (mail_root / f"alice/mailserver.sqlite{suffix}").unlink(missing_ok=True)
    with Store(str(mail_root), durability="relaxed") as again:
        inbox = again.account("alice").inbox
        after = inbox.snapshot()
        assert (after.uidvalidity, after.uidnext) == (before.uidvalidity, before.uidnext)
        assert flags_of(inbox) == facts
        assert [m.base for m in inbox.maildrop()[1]] == [m.base for m in uidls]
        assert after.messages[0].internaldate == 1_000_000_000
        assert after.highestmodseq > before.highestmodseq


def test_index_removed_under_a_running_store(inbox: Mailbox, mail_root: Path) -> None:
    put(inbox)
    before = inbox.snapshot()
    os.unlink(mail_root / "alice/mailserver.sqlite")
    put(inbox)
    inbox.store_flags([1], FlagOp.ADD, Flag.SEEN)
    assert flags_of(inbox) == [(1, Flag.SEEN, []), (2, 0, [])]
    assert inbox.snapshot().uidvalidity == before.uidvalidity
    with Store(str(mail_root), durability="relaxed") as other:
        assert flags_of(other.account("alice").inbox) == [(1, Flag.SEEN, []), (2, 0, [])]


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_damaged_index_is_rebuilt(inbox: Mailbox, store: Store, mail_root: Path, damage: bytes) -> None:
    put(inbox, flags=Flag.SEEN)
    store.close()
    for suffix in ("-wal", "-shm"):
        (mail_root / f"alice/mailserver.sqlite{suffix}").unlink(missing_ok=True)
    (mail_root / "alice/mailserver.sqlite").write_bytes(damage)
    with Store(str(mail_root), durability="relaxed") as again:
        inbox = again.account("alice").inbox
        assert flags_of(inbox) == [(1, Flag.SEEN, [])]
        assert put(inbox) == 2


@pytest.mark.maildir  # file names; of an mbox: test_mbox.py
def test_foreign_delivery_rename_and_removal(inbox: Mailbox, mail_root: Path) -> None:
    put(inbox)
    (mail_root / "alice/new/1.foreign").write_bytes(b"A: b\n\nlines\nof lf\n")
    message = inbox.rescan().messages[1]
    assert (message.uid, message.flags) == (2, 0)
    assert inbox.sizes([message]) == [22]
    assert inbox.read(inbox.snapshot().messages[1]) == b"A: b\r\n\r\nlines\r\nof lf\r\n"
    os.rename(mail_root / "alice/new/1.foreign", mail_root / "alice/cur/1.foreign:2,RS")
    assert flags_of(inbox) == [(1, 0, []), (2, 0, [])]
    inbox.rescan()
    assert flags_of(inbox) == [(1, 0, []), (2, Flag.ANSWERED | Flag.SEEN, [])]
    os.unlink(mail_root / "alice/cur/1.foreign:2,RS")
    inbox.rescan()
    assert flags_of(inbox) == [(1, 0, [])]
    assert put(inbox) == 3


@pytest.mark.maildir  # an mbox has no file of a message
def test_a_lost_file_that_returns_is_a_new_message(inbox: Mailbox, mail_root: Path) -> None:
    put(inbox)
    put(inbox)
    name = inbox.snapshot().messages[0].file[4:]
    os.rename(mail_root / "alice/new" / name, mail_root.parent / "kept")
    assert [m.uid for m in inbox.rescan().messages] == [2]
    os.rename(mail_root.parent / "kept", mail_root / "alice/new" / name)
    assert [m.uid for m in inbox.rescan().messages] == [2, 3]


@pytest.mark.maildir  # an mbox has no file of a message
def test_reading_a_message_that_another_program_renamed(inbox: Mailbox, mail_root: Path) -> None:
    put(inbox)
    message = inbox.snapshot().messages[0]
    name = message.file[4:]
    os.rename(mail_root / "alice/new" / name, mail_root / f"alice/cur/{name}:2,S")
    assert inbox.read(message).startswith(b"Subject")
    inbox.store_flags([1], FlagOp.ADD, Flag.FLAGGED)
    assert flags_of(inbox) == [(1, Flag.SEEN | Flag.FLAGGED, [])]


def test_reading_an_expunged_message(inbox: Mailbox) -> None:
    put(inbox)
    message = inbox.snapshot().messages[0]
    inbox.expunge([1])
    with pytest.raises(StoreError) as error:
        inbox.read(message)
    assert error.value.kind is Kind.EXPUNGED


def test_copy_and_move_keep_flags_dates_and_octets(account: Account, inbox: Mailbox) -> None:
    put(inbox, flags=Flag.SEEN, keywords=("x",), date=1_234_567_890)
    put(inbox, b"A: second\r\n\r\n")
    sent, trash = account.mailbox("Sent"), account.mailbox("Trash")
    put(sent)
    assert inbox.copy([1, 2], sent)[1] == [(1, 2), (2, 3)]
    assert inbox.move([2], trash)[1] == [(2, 1)]
    assert [m.uid for m in inbox.snapshot().messages] == [1]
    copied = sent.snapshot().messages[1]
    assert (copied.flags, sorted(copied.keywords), copied.internaldate) == (Flag.SEEN, ["x"], 1_234_567_890)
    assert trash.read(trash.snapshot().messages[0]) == b"A: second\r\n\r\n"


def test_copy_and_move_within_one_mailbox(inbox: Mailbox) -> None:
    put(inbox)
    assert inbox.copy([1], inbox)[1] == [(1, 2)]
    assert inbox.move([1], inbox)[1] == [(1, 3)]
    assert [m.uid for m in inbox.snapshot().messages] == [2, 3]


def test_recent_is_claimed_once(inbox: Mailbox) -> None:
    put(inbox)
    first, snapshot = inbox.claim_recent()
    assert (first, snapshot.first_recent) == (1, 2)
    assert inbox.files.fresh(snapshot) == []
    assert inbox.claim_recent()[0] == 2
    put(inbox)
    assert inbox.claim_recent()[0] == 2


def test_many_keywords_beyond_the_letters(inbox: Mailbox, mail_root: Path, mailbox_format: str) -> None:
    put(inbox)
    words = [f"k{i}" for i in range(40)]
    inbox.store_flags([1], FlagOp.ADD, 0, words)
    assert flags_of(inbox)[0][2] == sorted(words)
    with Store(str(mail_root), durability="relaxed") as other:
        assert flags_of(other.account("alice").inbox)[0][2] == sorted(words)
    if mailbox_format == "maildir":
        assert len((mail_root / "alice/dovecot-keywords").read_text().splitlines()) == 26
    else:
        assert all(b" %b " % word.encode() in Path(inbox.files.path).read_bytes() for word in words)


@pytest.mark.maildir  # dovecot-keywords; an mbox has whole words
def test_a_keyword_table_changed_by_another_program(inbox: Mailbox, mail_root: Path) -> None:
    put(inbox)
    name = inbox.snapshot().messages[0].file[4:]
    (mail_root / "alice/dovecot-keywords").write_text("0 First\n1 Second\n")
    os.rename(mail_root / "alice/new" / name, mail_root / f"alice/cur/{name}:2,Sb")
    inbox.rescan()
    assert flags_of(inbox) == [(1, Flag.SEEN, ["Second"])]


def test_two_stores_see_each_other_at_once(inbox: Mailbox, mail_root: Path) -> None:
    with Store(str(mail_root), durability="relaxed") as other:
        theirs = other.account("alice").inbox
        for _ in range(5):
            put(inbox)
            put(theirs)
        inbox.store_flags([1, 2], FlagOp.ADD, Flag.SEEN, ["word"])
        theirs.expunge([3])
        assert flags_of(theirs) == flags_of(inbox)
        assert [m.uid for m in inbox.snapshot().messages] == [1, 2, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.maildir  # in an mbox, messages move when another one changes
def test_unchanged_messages_stay_the_same_objects(inbox: Mailbox, mail_root: Path) -> None:
    for _ in range(3):
        put(inbox)
    before = inbox.snapshot().messages
    with Store(str(mail_root), durability="relaxed") as other:
        other.account("alice").inbox.store_flags([2], FlagOp.ADD, Flag.SEEN)
    after = inbox.snapshot().messages
    assert [a is b for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_subscribers_hear_of_changes_by_thread_process_and_file(
    inbox: Mailbox, mail_root: Path, mailbox_format: str
) -> None:
    woken = threading.Event()
    with inbox.subscribe_changes(woken.set):
        put(inbox)
        assert woken.wait(5)
        woken.clear()
        with Store(str(mail_root), durability="relaxed") as other:
            put(other.account("alice").inbox)
            assert woken.wait(5)
        inbox.snapshot()
        woken.clear()
        if mailbox_format == "maildir":
            (mail_root / "alice/tmp/x").write_bytes(b"A: b\n\n")
            os.rename(mail_root / "alice/tmp/x", mail_root / "alice/new/1.x")
        else:
            with open(inbox.files.path, "ab") as file:
                file.write(b"From a Mon Jan  1 10:00:00 2024\nA: b\n\n\n")
        assert woken.wait(5)
        assert len(inbox.snapshot().messages) == 3


def test_uidlist_of_dovecot_is_taken_as_it_is(mail_root: Path) -> None:
    root = mail_root / "bob"
    for part in ("cur", "new", "tmp"):
        (root / part).mkdir(parents=True)
    (root / "cur/10.a,S=6,W=7:2,S").write_bytes(b"A: b\n\n"[:6])
    (root / "cur/11.b:2,F").write_bytes(b"A: b\n\n")
    (root / "new/12.c").write_bytes(b"A: b\n\n")
    (root / "dovecot-uidlist").write_text(
        "3 V1700000000 N30 Gabcdefabcdefabcdefabcdefabcdefab\n7 W99 Pold-uidl O2 :10.a,S=6,W=7\n21 O1 :11.b:2,F\n"
    )
    with Store(str(mail_root), durability="relaxed") as store:
        inbox = store.account("bob").inbox
        snapshot = inbox.rescan()
        assert (snapshot.uidvalidity, snapshot.uidnext) == (1700000000, 31)
        assert flags_of(inbox) == [(7, Flag.SEEN, []), (21, Flag.FLAGGED, []), (30, 0, [])]
        uidls = [(m.message.uid, m.saved, m.name) for m in inbox.maildrop()[1]]
        assert uidls == [(21, "", "11.b"), (7, "old-uidl", "10.a,S=6,W=7"), (30, "", "12.c")]
        assert len(store.account("bob").mailboxes()) == 1
    (root / "cur/10.a,S=6,W=7:2,S").rename(root / "cur/10.a:2,S")  # its W= lied; the check would say so
    (root / "dovecot-uidlist").unlink()
    (root / "mailserver.sqlite").unlink()


@pytest.mark.maildir  # dovecot-uidlist
def test_uidlist_restored_from_the_index(inbox: Mailbox, store: Store, mail_root: Path) -> None:
    put(inbox)
    put(inbox)
    before = inbox.snapshot()
    store.close()
    os.unlink(mail_root / "alice/dovecot-uidlist")
    with Store(str(mail_root), durability="relaxed") as again:
        after = again.account("alice").inbox.snapshot()
        assert (after.uidvalidity, after.uidnext) == (before.uidvalidity, before.uidnext)
        assert [m.uid for m in after.messages] == [1, 2]


@pytest.mark.maildir  # dovecot-uidlist
def test_corrupt_uidlist_is_put_aside(inbox: Mailbox, store: Store, mail_root: Path) -> None:
    put(inbox)
    store.close()
    (mail_root / "alice/dovecot-uidlist").write_bytes(b"garbage\n")
    with Store(str(mail_root), durability="relaxed") as again:
        assert [m.uid for m in again.account("alice").inbox.snapshot().messages] == [1]
    assert list((mail_root / "alice").glob("dovecot-uidlist.corrupt-*"))


@pytest.mark.maildir  # dovecot-uidlist
def test_uidlist_is_trimmed(inbox: Mailbox, mail_root: Path) -> None:
    received = []
    for _ in range(250):
        incoming = inbox.receive()
        incoming.write(b"A: b\r\n\r\n")
        received.append(Append(incoming))
    inbox.append(received)
    inbox.expunge(range(1, 240))
    assert len((mail_root / "alice/dovecot-uidlist").read_text().splitlines()) == 12
    assert put(inbox) == 251


def test_link_delivers_one_file_to_many(store: Store, mail_root: Path, mailbox_format: str) -> None:
    users = ["u1", "u2", "u3"]
    inboxes = [store.account(user).inbox for user in users]
    with inboxes[0].receive() as incoming:
        incoming.write(b"A: b\r\n\r\nx\r\n")
        incoming.finish()
        for target in inboxes:
            assert target.link(incoming) == 1
    for each in inboxes:
        assert each.read(each.rescan().messages[0]) == b"A: b\r\n\r\nx\r\n"
    if mailbox_format == "maildir":
        assert len({next((mail_root / user / "new").iterdir()).stat().st_ino for user in users}) == 1
    assert list((mail_root / "u1/tmp").iterdir()) == []


def test_message_gone_when_the_mailbox_is_deleted(account: Account) -> None:
    account.create("Work")
    work = account.mailbox("Work")
    put(work)
    account.delete("Work")
    with pytest.raises(StoreError) as error:
        work.rescan()
    assert error.value.kind is Kind.NOT_FOUND
    account.create("Work")
    again = account.mailbox("Work").snapshot()
    assert again.messages == []


def test_a_maildrop_lock_excludes_and_ends(account: Account) -> None:
    with account.maildrop_lock():
        with pytest.raises(StoreError) as error:
            account.maildrop_lock()
        assert error.value.kind is Kind.IN_USE
    account.maildrop_lock().release()


def test_threads_lose_nothing(inbox: Mailbox, account: Account) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(20):
                uid = put(inbox, keywords=(f"t{number}",))
                inbox.store_flags([uid], FlagOp.ADD, Flag.SEEN)
                if i % 4 == 0:
                    inbox.move([uid], account.mailbox("Trash"))
                elif i % 4 == 1:
                    inbox.copy([uid], account.mailbox("Sent"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(inbox.rescan().messages) == 90
    assert len(account.mailbox("Trash").rescan().messages) == 30
    assert len(account.mailbox("Sent").rescan().messages) == 30
    assert all(m.flags == Flag.SEEN for m in inbox.snapshot().messages)
