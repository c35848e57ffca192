"""mboxes in nested directories that other programs use too: ``mbox:~/mail`` of Dovecot and c-client."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.store.account import Account
from mailserver.store.check import check_account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.mailbox import FlagOp, Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from mailserver.store.tree.layout import OWN, lock_name
from mailserver.store.tree.tidy import sweep_locks
from tests.unit.store.conftest import open_store, put

FOREIGN = b"From a Mon Jan  1 10:00:00 2024\nSubject: foreign\n\nx\n\n"
NO_MAIL = {"notes.txt": b"Hello\n", "letter": b"From here on\n", "late": b"\n\n" + FOREIGN, "bin": b"\0\1\2"}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A user's mail directory."""
    root = tmp_path / "mail" / "alice"
    root.mkdir(parents=True)
    yield root
    assert check_account(str(root)) == []


@pytest.fixture
def opened(root: Path) -> Iterator[Store]:
    with open_store(root.parent, "mbox-fs") as store:
        yield store


@pytest.fixture
def nested(opened: Store) -> Account:
    return opened.account("alice")


def names(account: Account) -> list[str]:
    return [i.name for i in account.mailboxes() if not i.special_use]


def numbers(mailbox: Mailbox) -> tuple[int, list[tuple[int, int, set[str]]]]:
    snapshot = mailbox.rescan()
    return int(snapshot.uidvalidity), [(int(m.uid), m.flags, set(m.keywords)) for m in snapshot.messages]


def refusal(call: object, *words: object) -> Kind:
    assert callable(call)
    with pytest.raises(StoreError) as refused:
        call(*words)
    return refused.value.kind


def test_where_everything_lies(nested: Account, root: Path) -> None:
    nested.create("Work/Süd")
    put(nested.mailbox("Work/Süd"))
    put(nested.inbox)
    nested.subscribe("Work/Süd")
    nested.create("Sale", "\\Flagged")
    shown = {str(p.relative_to(root)) for p in root.rglob("*") if OWN not in p.parts and ".imap" not in p.parts}
    usual = {"Drafts", "Sent", "Junk", "Trash", "Archive"}
    assert shown == usual | {"inbox", "Work", "Work/S&APw-d", "Sale", ".subscriptions"}
    assert "Work\tS&APw-d\n" in (root / ".subscriptions").read_text()
    assert len((root / ".imap/dovecot-uidvalidity").read_text()) == 8
    assert names(nested) == ["INBOX", "Work", "Work/Süd"]


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o2770])
def test_rights_are_those_of_the_directory(root: Path, mode: int) -> None:
    """Dovecot renames nothing whose rights are not those that it would have given."""
    root.chmod(mode)
    with open_store(root.parent, "mbox-fs") as store:
        store.account("alice").create("A/B")
    assert (root / "A").stat().st_mode & 0o7777 == mode
    assert (root / "A/B").stat().st_mode & 0o7777 == mode & 0o666
    assert (root / OWN).stat().st_mode & 0o777 == 0o700
    assert (root / "inbox").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", [b"F", b"From ", b"From a@b.example Mon J"])
def test_a_first_line_that_a_crash_cut_short(nested: Account, root: Path, left: bytes) -> None:
    """The mailbox goes on behind it; a second crash changes nothing."""
    nested.create("Work")
    work = nested.mailbox("Work")
    validity = numbers(work)[0]
    for _ in range(2):
        put(work)
        (root / "Work").write_bytes(left)
    assert numbers(work) == (validity, [])
    (root / "Work").write_bytes(left + b"\n" + left)
    assert put(work) == 3
    with open_store(root.parent, "mbox-fs") as second:
        again = second.account("alice").mailbox("Work")
        assert [m.uid for m in again.rescan().messages] == [3]
        assert again.read(again.snapshot().messages[0]) == work.read(work.snapshot().messages[0])
    assert (root / "Work").read_bytes().startswith(left + b"\n" + left + b"\nFrom ")


def test_what_is_no_mailbox(nested: Account, root: Path) -> None:
    """Other programs' files are shown, for nobody knows what they will be, and stay as they are."""
    nested.create("Work")
    for name, octets in NO_MAIL.items():
        (root / name).write_bytes(octets)
        os.utime(root / name, ns=(1, 1_700_000_000_000_000_000))
    (root / ".hidden").write_bytes(FOREIGN)
    (root / ".imap/Work").mkdir(parents=True)
    for name in ("Work.lock", "Old.lock"):
        (root / name).write_bytes(b"1:elsewhere.example")
    os.mkfifo(root / "fifo")
    (root / "nowhere").symlink_to("missing")
    (root / "itself").symlink_to("itself")
    (root / "inbox.d").mkdir()
    (root / "a&b").write_bytes(b"")
    (root / "INBOX").mkdir()
    (root / "Inbox").mkdir()
    (root / "Inbox/k").write_bytes(b"")
    assert set(names(nested)) == {"INBOX", "Work", "inbox.d", *NO_MAIL}
    (root / "Work.lock").unlink()
    messages = [m.uid for m in nested.inbox.rescan().messages] or [put(nested.inbox)]
    for name, octets in NO_MAIL.items():
        mailbox = nested.mailbox(name)
        assert refusal(mailbox.rescan) is Kind.CANNOT
        assert refusal(put, mailbox) is Kind.CANNOT
        assert refusal(nested.inbox.copy, messages, mailbox) is Kind.CANNOT
        assert refusal(nested.glance, name) is Kind.CANNOT
        assert refusal(nested.delete, name) is Kind.CANNOT
        assert refusal(nested.rename, name, "other") is Kind.CANNOT
        assert refusal(nested.convert, name, "maildir") is Kind.CANNOT
        assert refusal(nested.create, name) is Kind.EXISTS
        assert refusal(nested.create, f"{name}/below") is Kind.CANNOT
        assert (root / name).read_bytes() == octets
        assert (root / name).stat().st_mtime_ns == 1_700_000_000_000_000_000
    assert {str(root / "Work"), str(root / "inbox")} <= set(nested.tree.weighty())
    assert not set(nested.tree.weighty()) & {str(root / name) for name in NO_MAIL}
    for name in (".hidden", "Work.lock", "x.lock/y", ".imap/x", OWN, "cur/x", "Work/.x"):
        assert refusal(nested.mailbox, name) is Kind.BAD_NAME


def test_an_mbox_that_becomes_something_else_is_left_alone(nested: Account, root: Path) -> None:
    nested.create("Work")
    mailbox = nested.mailbox("Work")
    uid = put(mailbox)
    (root / "Work").write_bytes(b"somebody's notes\n")
    assert refusal(mailbox.store_flags, [uid], FlagOp.ADD, Flag.SEEN) is Kind.CANNOT
    assert refusal(mailbox.expunge, [uid]) is Kind.CANNOT
    assert refusal(put, mailbox) is Kind.CANNOT
    assert (root / "Work").read_bytes() == b"somebody's notes\n"


def test_links(nested: Account, root: Path, tmp_path: Path) -> None:
    """As Dovecot: followed, to files and to directories; round and round nobody goes."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "Shared").write_bytes(FOREIGN)
    (root / "team").symlink_to(tmp_path / "other")
    (root / "one").symlink_to(tmp_path / "other" / "Shared")
    (tmp_path / "other" / "up").symlink_to(root)
    (tmp_path / "other" / "again").symlink_to(tmp_path / "other")
    assert names(nested) == ["INBOX", "one", "team", "team/Shared"]
    put(nested.mailbox("team/Shared"))
    assert [m.uid for m in nested.mailbox("one").rescan().messages] == [1, 2]
    nested.delete("one")
    assert [m.uid for m in nested.mailbox("team/Shared").rescan().messages] == [1, 2]
    assert (tmp_path / "other" / "Shared").exists()


def test_an_account_that_dovecot_served(root: Path) -> None:
    """INBOX was emptied and removed by another program: nothing but INBOX is made, and nothing is forgotten."""
    (root / ".imap/Lists").mkdir(parents=True)
    (root / ".imap/dovecot-uidvalidity").write_text("7fffff00")
    (root / ".imap/dovecot-uidvalidity.7fffff00").touch()
    (root / ".subscriptions").write_text("V\t2\n\nLists\tpython\n")
    (root / "Lists").mkdir()
    text = b"From a Mon Jan  1 10:00:00 2024\nX-IMAPbase: 77 0000000009 work\nX-UID: 9\nX-Keywords: work\n\nx\n\n"
    (root / "Lists/python").write_bytes(text)
    with open_store(root.parent, "mbox-fs") as store:
        account = store.account("alice")
        assert [i.name for i in account.mailboxes()] == ["INBOX", "Lists", "Lists/python"]
        assert list(account.subscriptions()) == ["Lists/python"]
        assert numbers(account.mailbox("Lists/python")) == (77, [(9, 0, {"work"})])
        account.create("Lists/rust")
        assert account.mailbox("Lists/rust").snapshot().uidvalidity == 0x7FFFFF01
        before = numbers(account.mailbox("Lists/python"))
    for index in (root / OWN).glob("mailserver.sqlite*"):
        index.unlink()
    with Store(str(root.parent), durability="relaxed", layout="fs") as store:  # the setting was changed
        account = store.account("alice")
        assert numbers(account.mailbox("Lists/python")) == before
        assert account.inbox.files.format == "mbox"
        account.create("Lists/ada")
        assert account.mailbox("Lists/ada").files.format == "maildir"
        assert names(account) == ["INBOX", "Lists", "Lists/ada", "Lists/python", "Lists/rust"]


def test_a_level_is_renamed_with_all_that_is_in_it(nested: Account, root: Path) -> None:
    nested.create("A/B/C")
    nested.create("A/D/")
    nested.create("A/E")
    for name in ("A/B/C", "A/E"):
        put(nested.mailbox(name), keywords=("Later",))
    (root / "A/notes.txt").write_bytes(b"Hello\n")
    (root / "A/B/.imap/C").mkdir(parents=True)
    before = {name: numbers(nested.mailbox(f"A/{name}")) for name in ("B/C", "E")}
    held = nested.mailbox("A/B/C")
    woken = threading.Event()
    with open_store(root.parent, "mbox-fs") as elsewhere, held.subscribe_changes(woken.set):
        theirs = elsewhere.account("alice").mailbox("A/E")
        assert numbers(theirs) == before["E"]
        nested.rename("A", "X/Y")
        assert refusal(put, theirs) is Kind.NOT_FOUND
        assert numbers(elsewhere.account("alice").mailbox("X/Y/E")) == before["E"]
    assert woken.is_set()
    assert held.gone
    assert not (root / "A").exists()
    assert (root / "X/Y/notes.txt").read_bytes() == b"Hello\n"
    assert (root / "X/Y/B/.imap/C").is_dir()
    assert {name: numbers(nested.mailbox(f"X/Y/{name}")) for name in ("B/C", "E")} == before
    assert put(nested.mailbox("X/Y/B/C")) == 2
    assert not list(root.rglob("*.lock/*.lock.lock"))
    assert not (root / "X/Y/E.lock").exists()


def test_what_dovecot_knows_of_an_mbox_goes_with_it(nested: Account, root: Path) -> None:
    nested.create("A/B")
    (root / "A/.imap/B").mkdir(parents=True)
    (root / "A/.imap/B/dovecot-acl").write_text("anyone l\n")
    nested.rename("A/B", "C/D")
    assert (root / "C/.imap/D/dovecot-acl").read_text() == "anyone l\n"
    nested.delete("C/D")
    assert not (root / "C/.imap/D").exists()
    nested.delete("C")
    assert not (root / "C").exists()


def test_a_directory_with_something_else_in_it_stays(nested: Account, root: Path) -> None:
    nested.create("A/B")
    (root / "A/.procmailrc").write_bytes(b"x\n")
    nested.delete("A/B")
    assert refusal(nested.delete, "A") is Kind.CANNOT
    assert (root / "A/.procmailrc").exists()
    (root / "A/.procmailrc").unlink()
    nested.delete("A")
    assert refusal(nested.delete, "A") is Kind.NOT_FOUND
    assert refusal(nested.rename, "A", "B") is Kind.NOT_FOUND


def test_what_others_make_is_seen(nested: Account, root: Path) -> None:
    assert names(nested) == ["INBOX"]
    (root / "Lists/deep").mkdir(parents=True)
    (root / "Lists/deep/python").write_bytes(FOREIGN)
    assert names(nested) == ["INBOX", "Lists", "Lists/deep", "Lists/deep/python"]
    mailbox = nested.mailbox("Lists/deep/python")
    assert len(mailbox.rescan().messages) == 1
    woken = threading.Event()
    with mailbox.subscribe_changes(woken.set), (root / "Lists/deep/python").open("ab") as file:
        file.write(FOREIGN)
        file.flush()
        assert woken.wait(10)
    assert [m.uid for m in mailbox.rescan().messages] == [1, 2]
    (root / "Lists/deep/python").rename(root / "Lists/rust")
    assert names(nested) == ["INBOX", "Lists", "Lists/deep", "Lists/rust"]
    (root / "Lists/deep").rmdir()
    assert names(nested) == ["INBOX", "Lists", "Lists/rust"]


def test_special_uses_move_with_a_level(nested: Account) -> None:
    nested.create("A/Sale", "\\Flagged")
    nested.rename("A", "B")
    assert [(i.name, i.special_use) for i in nested.mailboxes() if i.special_use == "\\Flagged"] == [
        ("B/Sale", "\\Flagged")
    ]


def test_the_lock_of_a_former_name_is_swept(nested: Account, root: Path) -> None:
    nested.create("A/Work")
    kept, old, other = root / "A/Work.lock", root / "A/Gone.lock", root / "A/yarn.lock"
    for path, octets in ((kept, b"1:elsewhere.example"), (old, b"1:elsewhere.example"), (other, b"x" * 1000)):
        path.write_bytes(octets)
    sweep_locks(nested.tree.levels())
    assert old.exists()
    sweep_locks(nested.tree.levels(), now=time.time() + 37 * 3600)
    assert not old.exists()
    assert kept.exists()
    assert other.exists()
    kept.unlink()


def test_names_that_look_alike_have_locks_of_their_own(nested: Account) -> None:
    for name in ("A/B", "A^sB", "-account"):
        nested.create(name)
    put(nested.mailbox("A/B"))
    nested.mailbox("A/B").copy([1], nested.mailbox("A^sB"))
    nested.mailbox("A^sB").copy([1], nested.mailbox("-account"))
    assert len(nested.mailbox("-account").rescan().messages) == 1
    long = "/".join(["x" * 5] * 40)
    assert len(lock_name(long)) < 100
    assert lock_name(long) != lock_name(long.replace("/", "^"))
