"""Access lists of real mailboxes, the record of who shares what, and messages that go from account to account."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.mailbox import Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.model.rights import ALL, NONE, Identifier, Rank, Rights, Settable, Who
from mailserver.store.quota import Limits
from mailserver.store.sharing import aclfile, shares
from mailserver.store.store import Store
from tests.unit.store.conftest import put

BOB = Who("bob")
USER_BOB = Identifier(Rank.USER, "bob")


def share(account: Account, name: str, given: str, identifier: Identifier = USER_BOB) -> None:
    account.change_access(name, lambda old: old.with_rights(identifier, frozenset(given)))


def rights(store: Store, name: str, who: Who = BOB, owner: str = "alice") -> Rights:
    return store.account(owner).access.rights(name, who, look=True)


def place(account: Account, name: str) -> Path:
    """Where the list of a mailbox is, or would be."""
    path = Path(account.tree.path(name))
    return (Path(account.root) / ".imap" / path.name if path.is_file() else path) / "dovecot-acl"


def known(store: Store, who: Who = BOB) -> dict[str, set[str]]:
    assert store.shares is not None
    return store.shares.given_to(who)


def test_a_list_is_a_file_as_dovecot_has_it(store: Store, account: Account) -> None:
    account.create("Work")
    share(account, "Work", "lrs")
    share(account, "Work", "w", Identifier(Rank.USER, "bob", negative=True))
    assert place(account, "Work").read_text() == "user=bob lrs\n-user=bob w\n"
    assert place(account, "Work").stat().st_mode & 0o777 == 0o600
    assert rights(store, "Work") == frozenset("lrs")
    assert rights(store, "Work", Who("fred")) == NONE
    assert rights(store, "Work", Who("alice")) == ALL
    account.change_access("Work", lambda old: old.without(USER_BOB))
    assert place(account, "Work").read_text() == "-user=bob w\n"
    account.change_access("Work", lambda old: aclfile.AccessList())
    assert not place(account, "Work").exists()


def test_a_list_goes_with_its_mailbox(store: Store, account: Account) -> None:
    account.create("Work/Sub")
    share(account, "Work", "lr")
    assert rights(store, "Work/Sub") == NONE
    account.create("Work/New/Deep")  # it has that of the parent, which was made with it
    assert rights(store, "Work/New") == rights(store, "Work/New/Deep") == frozenset("lr")
    share(account, "Work/New", "lri")
    account.rename("Work", "Play")
    assert rights(store, "Play") == rights(store, "Play/New/Deep") == frozenset("lr")
    assert rights(store, "Play/New") == frozenset("lri")
    assert rights(store, "Play/Sub") == NONE
    assert known(store) == {"alice": {"Play", "Play/New", "Play/New/Deep"}}
    account.delete("Play/New")
    account.create("Work")
    account.rename("Work", "Play/New")
    assert rights(store, "Play/New") == NONE
    account.create("Top")
    assert rights(store, "Top") == NONE
    assert known(store) == {"alice": {"Play", "Play/New/Deep"}}


def test_a_mailbox_made_again_is_nobody_elses(store: Store, account: Account) -> None:
    account.create("Work")
    share(account, "Work", "lr")
    account.delete("Work")
    account.create("Work")
    assert rights(store, "Work") == NONE
    assert known(store) == {}


@pytest.mark.mbox
def test_what_is_left_of_an_mbox_that_another_program_removed(store: Store, account: Account) -> None:
    account.create("Work")
    share(account, "Work", "lr")
    os.unlink(account.tree.path("Work"))
    account.create("Work")
    assert rights(store, "Work") == NONE


def test_conversion_keeps_it(store: Store, account: Account, mailbox_format: str) -> None:
    other = {"maildir": "mbox", "mbox": "maildir"}[mailbox_format]
    account.create("Work")
    for name in ("Work", "INBOX"):
        put(account.mailbox(name))
        share(account, name, "lr")
        for format in (other, mailbox_format):
            assert account.convert(name, format)
            assert rights(store, name) == frozenset("lr")
            assert place(account, name).read_text() == "user=bob lr\n"


def test_an_empty_list_of_a_converted_mailbox_stays_empty(store: Store, account: Account, mailbox_format: str) -> None:
    other = {"maildir": "mbox", "mbox": "maildir"}[mailbox_format]
    account.create("Work")
    share(account, "Work", "lr")
    account.convert("Work", other)
    account.change_access("Work", lambda old: aclfile.AccessList())
    account.convert("Work", mailbox_format)
    assert rights(store, "Work") == NONE


def test_what_is_not_understood_gives_nothing_and_is_kept(store: Store, account: Account) -> None:
    account.create("Work")
    share(account, "Work", "lr")
    file = place(account, "Work")
    file.write_text("user=bob lr\nsomebody=else lr\n")
    assert rights(store, "Work") == NONE
    assert rights(store, "Work", Who("alice")) == ALL
    with pytest.raises(StoreError) as error:
        share(account, "Work", "lrs")
    assert error.value.kind is Kind.CORRUPT
    with pytest.raises(StoreError):
        account.access.list_of("Work")
    assert file.read_text() == "user=bob lr\nsomebody=else lr\n"


def test_a_list_that_is_too_long_gives_nothing_and_is_kept(store: Store, account: Account) -> None:
    account.create("Work")
    share(account, "Work", "lr")
    text = "user=bob lr\n" + f"# {'x' * 1000}\n" * 1100 + "-user=bob lr\n"
    place(account, "Work").write_text(text)
    assert rights(store, "Work") == NONE
    with pytest.raises(StoreError) as error:
        share(account, "Work", "lrs", Identifier(Rank.USER, "fred"))
    assert error.value.kind is Kind.CORRUPT
    assert place(account, "Work").read_text() == text


def test_a_pipe_in_its_place_is_not_waited_for(store: Store, account: Account) -> None:
    account.create("Work")
    share(account, "Work", "lr")
    place(account, "Work").unlink()
    os.mkfifo(place(account, "Work"))
    assert rights(store, "Work") == NONE
    assert rights(store, "Work", Who("alice")) == ALL


def test_nothing_is_made_below_what_cannot_be_asked(account: Account) -> None:
    account.create("Work")
    share(account, "Work", "lr")
    place(account, "Work").unlink()
    place(account, "Work").mkdir()
    with pytest.raises(StoreError) as error:
        account.create("Work/Sub")
    assert error.value.kind is Kind.TEMPORARY
    assert not account.exists("Work/Sub")


@pytest.mark.maildir
def test_a_folder_where_the_lists_of_mboxes_are(store: Store, account: Account) -> None:
    """In Maildir++ ``imap`` is ``.imap``, and beside mboxes that is Dovecot's."""
    for name in ("imap", "Box"):
        account.create(name)
        put(account.mailbox(name))
    account.convert("Box", "mbox")
    share(account, "Box", "lr")
    account.rename("imap", "other")
    assert rights(store, "Box") == frozenset("lr")
    account.rename("other", "imap")
    assert len(account.mailbox("imap").rescan().messages) == 1
    with pytest.raises(StoreError) as error:
        account.convert("imap", "mbox")
    assert error.value.kind is Kind.CANNOT
    account.delete("imap")
    assert not account.exists("imap")
    assert rights(store, "Box") == frozenset("lr")


@pytest.mark.mbox
def test_no_mbox_where_the_lists_of_mboxes_will_be(account: Account) -> None:
    for name in ("imap", "imap/Sub"):
        with pytest.raises(StoreError) as error:
            account.create(name)
        assert error.value.kind is Kind.BAD_NAME
    share(account, "INBOX", "lr")
    (Path(account.root) / ".imap.Sub").touch()  # another program's, and it is in nobody's way
    put(account.mailbox("imap/Sub"))


def test_what_others_wrote_stays(account: Account) -> None:
    account.create("Work")
    share(account, "Work", "lr")
    place(account, "Work").write_bytes(b"# office\n\nanyone l :special\nuser=j\xf6rg lr\n")
    share(account, "Work", "w")
    assert place(account, "Work").read_bytes() == b"# office\n\nanyone l :special\nuser=j\xf6rg lr\nuser=bob w\n"


def test_dovecots_own_cache_is_made_anew(account: Account) -> None:
    cache = Path(account.root) / "dovecot-acl-list"
    cache.write_text("1795424574 INBOX\n")
    share(account, "INBOX", "lr")
    assert not cache.exists()


def test_a_mailbox_that_is_not_there(account: Account) -> None:
    with pytest.raises(StoreError) as error:
        share(account, "Nowhere", "lr")
    assert error.value.kind is Kind.NOT_FOUND


@pytest.mark.maildir
def test_nested_folders(mail_root: Path, mailbox_format: str) -> None:
    with Store(str(mail_root), durability="relaxed", layout="fs") as store:
        account = store.account("alice")
        account.create("Work/Sub")
        share(account, "Work/Sub", "lr")
        assert (mail_root / "alice/Work/Sub/dovecot-acl").read_text() == "user=bob lr\n"
        account.rename("Work", "Play")
        assert rights(store, "Play/Sub") == frozenset("lr")
        account.delete("Play/Sub")
        account.create("Play/Sub")
        assert rights(store, "Play/Sub") == NONE


def test_switched_off(mail_root: Path, mailbox_format: str) -> None:
    with Store(str(mail_root), durability="relaxed", format=mailbox_format) as store:
        store.account("alice").create("Work")
        share(store.account("alice"), "Work", "lr")
    with Store(str(mail_root), durability="relaxed", format=mailbox_format, shared=False) as store:
        assert rights(store, "Work") == NONE
        store.account("alice").create("Work/New")
    with Store(str(mail_root), durability="relaxed", format=mailbox_format) as store:
        assert rights(store, "Work") == frozenset("lr")
        assert rights(store, "Work/New") == NONE


# -- the record


def test_nothing_is_written_as_long_as_nobody_shares(store: Store, account: Account, mail_root: Path) -> None:
    account.create("Work")
    assert known(store) == {}
    assert [p.name for p in mail_root.iterdir()] == ["alice"]


def test_the_record_is_a_cache(mail_root: Path, mailbox_format: str) -> None:
    with Store(str(mail_root), durability="relaxed", format=mailbox_format) as store:
        account = store.account("alice")
        account.create("Work")
        share(account, "Work", "lr")
        share(store.account("carol"), "INBOX", "l", Identifier(Rank.GROUP, "staff"))
        share(store.account("carol"), "Trash", "l", Identifier(Rank.ANYONE))
    record = mail_root / shares.NAME
    staff = Who("bob", frozenset({"staff"}))
    for harm in (record.unlink, lambda: record.write_text("{"), lambda: record.write_text('{"alice": 5}')):
        harm()
        with Store(str(mail_root), durability="relaxed", format=mailbox_format) as store:
            assert known(store) == {"alice": {"Work"}, "carol": {"Trash"}}
            assert known(store, staff) == {"alice": {"Work"}, "carol": {"Trash", "INBOX"}}
            assert known(store, Who("carol")) == {}
        assert json.loads(record.read_text())["alice"] == {"Work": ["user=bob"]}


def test_another_process_changes_it(store: Store, account: Account, mail_root: Path, mailbox_format: str) -> None:
    assert known(store) == {}
    with Store(str(mail_root), durability="relaxed", format=mailbox_format) as other:
        share(other.account("alice"), "INBOX", "lr")
        assert known(store) == {"alice": {"INBOX"}}
        assert store.shares is not None
        before = store.shares.tick()
        share(other.account("alice"), "INBOX", "l")
        assert store.shares.tick() != before  # whoever has it selected looks again


def test_what_another_program_wrote(store: Store, account: Account, mail_root: Path, mailbox_format: str) -> None:
    account.create("Work")
    assert known(store) == {}
    file = place(account, "Work")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("user=bob lr\n")
    assert known(store) == {}
    assert rights(store, "Work") == frozenset("lr")  # at once
    assert known(store) == {"alice": {"Work"}}  # and now it is known
    account.create("Play")
    file = place(account, "Play")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("user=bob lr\n")
    with Store(str(mail_root), durability="relaxed", format=mailbox_format) as other:
        other.account("alice")  # opened anew
        assert known(other) == {"alice": {"Work", "Play"}}
    assert known(store) == {"alice": {"Work", "Play"}}


def test_a_list_of_many_is_recorded_as_one_of_everybody(store: Store, account: Account, mail_root: Path) -> None:
    for number in range(21):
        share(account, "INBOX", "lr", Identifier(Rank.USER, f"user{number}"))
    assert json.loads((mail_root / shares.NAME).read_text()) == {"alice": {"INBOX": ["anyone", "owner"]}}
    assert known(store) == {"alice": {"INBOX"}}  # whoever asks looks into the list
    assert rights(store, "INBOX") == NONE
    assert rights(store, "INBOX", Who("user7")) == frozenset("lr")
    before = (mail_root / shares.NAME).stat().st_ino
    assert account.access.rights("INBOX", Who("alice")) == ALL
    assert (mail_root / shares.NAME).stat().st_ino == before


def test_the_owner_may_limit_himself(store: Store, account: Account) -> None:
    me = Who("alice")
    account.create("Work")
    share(account, "Work", "lra", Identifier(Rank.OWNER))
    assert account.access.limited() == {"Work"}
    assert account.access.rights("Work", me) == frozenset("lra")
    assert account.access.rights("INBOX", me) == ALL


def test_a_directory_that_cannot_be_written(
    tmp_path: Path, store: Store, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: shares.Shares, record: shares.Record) -> tuple[int, ...]:
        raise PermissionError(13, "no", self.path)

    monkeypatch.setattr(shares.Shares, "_write", fails)
    share(account, "INBOX", "lr")
    assert known(store) == {"alice": {"INBOX"}}
    assert rights(store, "INBOX") == frozenset("lr")


@pytest.mark.parametrize(
    ("template", "made", "users"),
    [
        ("{user}", ["alice", "bob@example.com"], ["alice", "bob@example.com"]),
        ("{domain}/{local}", ["example.com/alice", "example.org/alice"], ["alice@example.com", "alice@example.org"]),
        ("{domain}/users/{local}/Maildir", ["a.b/users/alice/Maildir", "a.b/other"], ["alice@a.b"]),
        ("home-{user}/Maildir", ["home-alice/Maildir", "bob/Maildir", "home-bob"], ["alice"]),
        ("{domain}/{domain}-{local}", ["a.b/a.b-alice", "a.b/c.d-alice"], ["alice@a.b"]),
    ],
)
def test_users_by_the_template(tmp_path: Path, template: str, made: list[str], users: list[str]) -> None:
    for path in made:
        (tmp_path / path).mkdir(parents=True)
    assert sorted(shares.users_of(f"{tmp_path}/{template}")) == users


# -- between accounts


def state(mailbox: Mailbox) -> list[tuple[bytes, int, frozenset[str], int]]:
    return [(mailbox.read(m), int(m.flags), m.keywords, m.internaldate) for m in mailbox.rescan().messages]


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("other_format", ["maildir", "mbox"])
@pytest.mark.parametrize("moves", [False, True])
def test_messages_go_to_another_account(
    mail_root: Path, mailbox_format: str, other_format: str, moves: bool, far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if far:  # as if the other account lay on another file system
        monkeypatch.setattr(Mailbox, "_is_far", lambda self, target: target._context is not self._context)
    limits = {"alice": Limits(100_000, 100), "bob": Limits(100_000, 3)}
    with (
        Store(str(mail_root), durability="relaxed", format=mailbox_format, limits=lambda u: limits[u]) as mine,
        Store(str(mail_root), durability="relaxed", format=other_format, limits=lambda u: limits[u]) as yours,
    ):
        yours.account("bob")  # makes it in its format
        source, target = mine.account("alice").inbox, mine.account("bob").inbox
        put(source, b"Subject: 1\r\n\r\none\r\n", Flag.SEEN | Flag.FLAGGED, ("work",), 1_000_000_000)
        put(source, b"Subject: 2\r\n\r\ntwo\r\n", Flag.DELETED, (), 1_100_000_000)
        put(source, b"Subject: 3\r\n\r\nthree\r\n")
        before = state(source)
        act = source.move if moves else source.copy
        may = Settable(int(Flag.SEEN), False)
        _, pairs = act([1, 2], target, only=may)
        assert pairs == [(1, 1), (2, 2)]
        assert state(target) == [
            (before[0][0], int(Flag.SEEN), frozenset(), 1_000_000_000),
            (before[1][0], 0, frozenset(), 1_100_000_000),
        ]
        assert state(source) == (before[2:] if moves else before)
        assert [mine.account(u).quota.usage().messages for u in ("alice", "bob")] == [1 if moves else 3, 2]
        act([3], target)
        left = state(source)
        with pytest.raises(StoreError) as error:  # it is the other one's quota that counts
            act([m.uid for m in source.rescan().messages] or [put(source)], target)
        assert error.value.kind is Kind.NO_QUOTA
        assert len(state(source)) == len(left) + (1 if moves else 0)
        assert len(state(target)) == 3


def test_no_account_is_made_by_looking(store: Store, mail_root: Path) -> None:
    store.account("alice")
    assert store.account_there("nobody") is None
    (mail_root / "empty").mkdir()
    assert store.account_there("empty") is None
    assert sorted(p.name for p in mail_root.iterdir()) == ["alice", "empty"]
    assert list((mail_root / "empty").iterdir()) == []
    found = store.account_there("alice")
    assert found is not None
    assert found.user == "alice"
    (mail_root / "empty").rmdir()
