"""mbox behind the store: beside Maildirs, beside other programs, with and without the index."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.mbox.entry import Marks
from mailserver.store.mailbox import Append, FlagOp, Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from mailserver.store.tree.tidy import sweep
from tests.unit.store.conftest import put

BODY = b"Subject: test\r\n\r\nbody\r\nFrom here on\r\n"


pytestmark = pytest.mark.mbox


def path_of(mailbox: Mailbox) -> Path:
    return Path(mailbox.files.path)


def facts(mailbox: Mailbox) -> list[tuple[int, int, set[str]]]:
    return [(int(m.uid), m.flags, set(m.keywords)) for m in mailbox.rescan().messages]


def remove_index(account: Account) -> None:
    for file in Path(account.root).glob("mailserver.sqlite*"):
        file.unlink()


def again(store: Store) -> Store:
    """Another process, as far as the store can tell."""
    return Store(store.directory("x").removesuffix("/x"), durability="relaxed", format="mbox")


def test_everything_but_modseq_lives_in_the_file(store: Store, account: Account, inbox: Mailbox) -> None:
    for number in range(5):
        put(inbox, BODY, keywords=("Later",) if number == 3 else ())
    inbox.store_flags([2, 3], FlagOp.ADD, Flag.SEEN | Flag.FLAGGED, ["$Work"])
    inbox.expunge([1, 5])
    known, validity = facts(inbox), inbox.snapshot().uidvalidity
    remove_index(account)
    with again(store) as other:
        box = other.account("alice").inbox
        assert facts(box) == known
        assert box.rescan().uidvalidity == validity
        assert box.rescan().uidnext == 6
        assert box.read(box.rescan().messages[0]) == BODY


def test_an_unchanged_file_is_not_read(
    store: Store, account: Account, inbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        put(inbox, BODY)
    inbox.claim_recent()
    with again(store) as other:
        box = other.account("alice").inbox

        def refuse(*_: object) -> bytes:
            raise AssertionError("the file was read")

        with monkeypatch.context() as patched:
            patched.setattr(os, "pread", refuse)
            assert len(box.rescan().messages) == 20
            assert sum(box.sizes(box.rescan().messages)) == 20 * len(BODY)
        assert box.read(box.rescan().messages[19]) == BODY
        box.store_flags([7], FlagOp.ADD, Flag.SEEN)
    assert facts(inbox)[6] == (7, int(Flag.SEEN), set())


def test_another_program_delivers_flags_and_empties(inbox: Mailbox) -> None:
    put(inbox, BODY, keywords=("Later",))
    path = path_of(inbox)
    with path.open("ab") as file:
        file.write(b"From me@example.com Mon Jan  1 10:00:00 2024\nSubject: foreign\n\n>From a to b\n\n")
    messages = inbox.rescan().messages
    assert [m.uid for m in messages] == [1, 2]
    assert inbox.read(messages[1]) == b"Subject: foreign\r\n\r\nFrom a to b\r\n"
    before = inbox.snapshot().highestmodseq
    text = path.read_bytes()
    changed = text.replace(b"X-UID: 2", b"X-UID: 2\nX-Status: F", 1)
    path.write_bytes(changed)
    assert facts(inbox) == [(1, 0, {"Later"}), (2, int(Flag.FLAGGED), set())]
    assert inbox.snapshot().highestmodseq > before
    path.write_bytes(b"")
    assert facts(inbox) == []
    assert inbox.expunged_since(1) is None or inbox.expunged_since(before) == [1, 2]
    assert put(inbox) == 3


def test_a_file_put_in_its_place_is_another_mailbox(inbox: Mailbox) -> None:
    put(inbox)
    validity = inbox.snapshot().uidvalidity
    path_of(inbox).write_bytes(
        b"From x Mon Jan  1 10:00:00 2024\nX-IMAPbase: 77 0000000009\nX-UID: 9\nSubject: restored\n\nx\n\n"
    )
    snapshot = inbox.rescan()
    assert (snapshot.uidvalidity, [m.uid for m in snapshot.messages]) == (77, [9])
    assert validity != 77


@pytest.fixture(params=["maildir", "mbox"])
def there(request: pytest.FixtureRequest, account: Account) -> Mailbox:
    """A mailbox of each format in one account."""
    account.create("There")
    if request.param == "maildir":
        path = Path(account.mailbox("There").files.path)
        path.unlink()
        for part in ("tmp", "new", "cur"):
            (path / part).mkdir(parents=True)
    return account.mailbox("There")


@pytest.fixture
def both(inbox: Mailbox, there: Mailbox) -> Iterator[tuple[Mailbox, Mailbox]]:
    put(inbox, BODY, int(Flag.SEEN), ("Later",), 1_700_000_000)
    put(inbox, b"Subject: 2\r\n\r\nx\r\n")
    yield inbox, there
    assert not list(Path(inbox.files.path).parent.joinpath("tmp").iterdir())


def described(mailbox: Mailbox) -> list[tuple[int, set[str], int, bytes]]:
    return [(m.flags, set(m.keywords), m.internaldate, mailbox.read(m)) for m in mailbox.rescan().messages]


def test_copy_between_formats(both: tuple[Mailbox, Mailbox]) -> None:
    inbox, there = both
    _, pairs = inbox.copy([1, 2], there)
    assert pairs == [(1, 1), (2, 2)]
    assert described(there) == described(inbox)
    there.copy([1], inbox)
    assert described(inbox)[2] == described(inbox)[0]


def test_move_between_formats(both: tuple[Mailbox, Mailbox]) -> None:
    inbox, there = both
    known = described(inbox)
    _, pairs = inbox.move([2, 1], there)
    assert pairs == [(1, 1), (2, 2)]
    assert described(there) == known
    assert described(inbox) == []
    there.move([1], inbox)
    assert described(inbox) == known[:1]
    assert described(there) == known[1:]
    assert [m.uid for m in inbox.rescan().messages] == [3]


def test_a_move_between_formats_is_on_the_disk_there_before_it_goes_here(
    both: tuple[Mailbox, Mailbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, there = both
    done: list[str] = []
    for box, name in ((inbox, "remove"), (there, "sync")):
        noted = functools.partial(_noted, done, name, getattr(box.files, name))
        monkeypatch.setattr(box.files, name, noted)
    inbox.move([1], there)
    assert done[:2] == ["sync", "remove"]


def _noted(done: list[str], name: str, call: Callable[..., Any], *args: Any, **kinds: Any) -> Any:
    done.append(name)
    return call(*args, **kinds)


def test_two_processes_on_one_file(store: Store, inbox: Mailbox) -> None:
    put(inbox)
    with again(store) as other:
        box = other.account("alice").inbox
        for number in range(10):
            here, elsewhere = (inbox, box) if number % 2 else (box, inbox)
            put(here, BODY)
            elsewhere.store_flags([number + 1], FlagOp.ADD, Flag.SEEN, [f"w{number}"])
            if number % 3 == 0:
                here.expunge([number + 1])
            assert facts(inbox) == facts(box)
    assert [uid for uid, _, _ in facts(inbox)] == [2, 3, 5, 6, 8, 9, 11]


def test_the_inbox_may_lie_elsewhere(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with Store(str(tmp_path / "mail"), durability="relaxed", format="mbox", mbox_inbox=f"{spool}/{{user}}") as store:
        put(store.account("carol").inbox, BODY)
    assert (spool / "carol").read_bytes().startswith(b"From ")
    assert not (tmp_path / "mail/carol/.INBOX").exists()


def test_an_inbox_that_was_emptied_and_removed_is_back(account: Account, inbox: Mailbox) -> None:
    put(inbox)
    validity = inbox.rescan().uidvalidity
    path_of(inbox).unlink()
    back = account.inbox
    assert back.rescan().messages == []
    assert back.rescan().uidvalidity == validity
    assert put(back) == 2


def test_a_dot_lock_is_no_mailbox(account: Account, mail_root: Path) -> None:
    """It stands where the mbox of a child of that name would."""
    account.create("Work")
    lock = mail_root / "alice/.Work.lock"
    lock.write_bytes(b"1:elsewhere.example")
    assert "Work/lock" not in [info.name for info in account.mailboxes()]
    with pytest.raises(StoreError) as caught:
        account.mailbox("Work/lock")
    assert caught.value.kind is Kind.BAD_NAME
    with pytest.raises(StoreError) as caught:
        account.create("Other/lock")
    assert caught.value.kind is Kind.BAD_NAME
    lock.unlink()
    account.rename("Work", "Place")
    assert account.exists("Place")


def test_the_lock_of_a_former_name_is_swept(account: Account, mail_root: Path) -> None:
    account.create("Work")
    kept, old = mail_root / "alice/.Work.lock", mail_root / "alice/.Gone.lock"
    for path in (kept, old):
        path.write_bytes(b"1:elsewhere.example")
    sweep(str(mail_root / "alice"))
    assert old.exists()
    sweep(str(mail_root / "alice"), now=time.time() + 37 * 3600)
    assert not old.exists()
    assert kept.exists()
    kept.unlink()


def test_two_processes_behind_a_message_that_a_crash_cut_short(inbox: Mailbox, mail_root: Path) -> None:
    """It has no line end until something stands behind it: then it ends elsewhere, and the index need not say so."""
    with Store(str(mail_root), durability="relaxed", format="mbox") as second:
        theirs = second.account("alice").inbox
        put(inbox)
        path = Path(inbox.files.path)
        size = path.stat().st_size
        put(inbox, b"Subject: long\r\n\r\n" + b"x" * 5000 + b"\r\n")
        os.truncate(path, size + 2000)
        begun = b"Subject: long\r\n\r\n" + path.read_bytes().rpartition(b"\n")[2]
        assert len(inbox.rescan().messages) == len(theirs.rescan().messages) == 2
        for number in range(3, 9):
            mailbox = (inbox, theirs)[number % 2]
            assert put(mailbox, b"Subject: m%d\r\n\r\nbody\r\n" % number) == number
        for mailbox in (inbox, theirs):
            messages = mailbox.rescan().messages
            assert [m.uid for m in messages] == list(range(1, 9))
            assert mailbox.read(messages[-1]).startswith(b"Subject: m8\r\n")
            assert mailbox.read(messages[1]) == begun


def test_keywords_for_which_the_base_has_no_room(inbox: Mailbox, mail_root: Path) -> None:
    """Everything behind it stands elsewhere then: for us, and for whoever asks the index."""
    with Store(str(mail_root), durability="relaxed", format="mbox") as second:
        theirs = second.account("alice").inbox
        messages = [b"Subject: m%d\r\n\r\n" % n + b"x" * 300 + b"\r\n" for n in range(1, 7)]
        for message in messages[:5]:
            put(inbox, message)
        theirs.rescan()
        with inbox.receive() as incoming:
            incoming.write(messages[5])
            inbox.append([Append(incoming, 0, frozenset(f"word{n}-{'y' * 30}" for n in range(12)))])
        for mailbox, uid in ((theirs, 3), (inbox, 4)):
            assert [mailbox.read(m) for m in mailbox.rescan().messages] == messages
            mailbox.store_flags([uid], FlagOp.ADD, Flag.SEEN, ["more"])
        for mailbox in (theirs, inbox):
            assert [mailbox.read(m) for m in mailbox.rescan().messages] == messages
            assert [m.uid for m in mailbox.rescan().messages if m.flags] == [3, 4]


def test_what_is_not_what_it_was_believed_to_be(inbox: Mailbox) -> None:
    """No header is written, and none removed, where another one stands."""
    for _ in range(3):
        put(inbox)
    path = Path(inbox.files.path)
    octets = path.read_bytes()
    box = inbox.files._box  # type: ignore[attr-defined]
    shifted = [e._replace(offset=e.offset + 1, header=e.header + 1, body=e.body + 1) for e in box.entries]
    folder = inbox.files._folder  # type: ignore[attr-defined]
    with folder.hold():
        folder.load(box)
        wrong = replace(box, entries=tuple(shifted))
        folder._now(wrong)
        for change in (lambda: folder.set_flags(wrong, {2: Marks(1)}), lambda: folder.expunge(wrong, {2})):
            with pytest.raises(StoreError) as refused:
                change()
            assert refused.value.kind is Kind.TEMPORARY
    assert path.read_bytes() == octets
