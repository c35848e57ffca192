"""Unique-ids and the order of POP3: what other servers left in the Maildir stays true for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailserver.store.formats.maildir import sizelist
from mailserver.store.mailbox import Mailbox
from mailserver.store.store import Store
from tests.unit.store.conftest import put

NAMES = ("1500000003.c", "1500000001.a", "1500000002.b")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            b"a.b,S=3:2,S 40\nc+d'e\xe9 f 7\nnonsense\n:2,S 5\n",
            {"a.b,S=3": "a.b,S=3", "c+d'e\udce9 f": "c+2Bd+27e+E9+20f"},
        ),
        (b"/1 9\na:2, 40 7\nb 40 0\nc 40\nd 4 x\n", {"a": "UID7", "b": "b"}),
        (
            b"/2 9 111\na:2,S 40 7:111\nb 40 8:0\nc d 40 0:111\ne 40 5\nf x 5:1\n",
            {"a": "UID7-111", "b": "UID8", "c d": "c+20d"},
        ),
        (b"/3 9 111\na 40 7:111:0\nb:2, 40 8:99:1\n", {"a": "UID7-111", "b": "UID8-99"}),
        (b"/3 9\na 40 7:111:0\n", {"a": "UID7-111"}),
        (b"/9 9 111\na 40 7:111:0\n", {}),
        (b"/x\n", {}),
        (b"", {}),
        (b"/3 9 111\na 40 7:111:0\na 40 8:111:0", {"a": "UID8-111"}),
    ],
)
def test_the_forms_of_couriers_list(data: bytes, expected: dict[str, str]) -> None:
    assert sizelist.parse(data) == expected


def maildir(root: Path, *, lists: str = "") -> Path:
    for part in ("cur", "new", "tmp"):
        (root / part).mkdir(parents=True)
    for name in NAMES:
        (root / "cur" / f"{name}:2,S").write_bytes(b"A: b\n\nx\n")
    if lists:
        (root / "courierpop3dsizelist").write_text(lists)
    return root


def seen(store: Store) -> list[tuple[str, str]]:
    return [(m.base, m.saved) for m in store.account("alice").inbox.maildrop()[1]]


def test_couriers_ids_and_order_outlive_its_list(mail_root: Path) -> None:
    root = maildir(
        mail_root / "alice", lists="/3 9 111\n1500000003.c:2, 11 4:111:0\n1500000002.b 11 7:99:0\n1300.gone 1 1:111:0\n"
    )
    expected = [("1500000002.b", "UID7-99"), ("1500000003.c", "UID4-111"), ("1500000001.a", "")]
    with Store(str(mail_root), durability="relaxed") as store:
        assert seen(store) == expected
        written = (root / "dovecot-uidlist").read_bytes()
        assert b" PUID7-99 O1 :1500000002.b\n" in written
        assert seen(store) == expected
        assert (root / "dovecot-uidlist").read_bytes() == written
        before = store.account("alice").inbox.snapshot()
        put(store.account("alice").inbox)
        assert [m.uid for m in before.messages] == [1, 2, 3]
    (root / "courierpop3dsizelist").unlink()
    for index in root.glob("mailserver.sqlite*"):
        index.unlink()
    with Store(str(mail_root), durability="relaxed") as store:
        assert seen(store)[:3] == expected
        assert len(seen(store)) == 4


def test_what_courier_added_meanwhile_comes_behind(mail_root: Path) -> None:
    root = maildir(mail_root / "alice", lists="/3 9 111\n1500000003.c 11 4:111:0\n")
    with Store(str(mail_root), durability="relaxed") as store:
        assert seen(store)[0] == ("1500000003.c", "UID4-111")
        (root / "courierpop3dsizelist").write_text(
            "/3 11 111\n1500000003.c 11 5:111:0\n1500000002.b 11 9:111:0\n1500000001.a 11 10:111:0\n"
        )
        assert seen(store) == [
            ("1500000003.c", "UID4-111"),
            ("1500000001.a", "UID10-111"),
            ("1500000002.b", "UID9-111"),
        ]


def test_a_list_of_uids_that_was_lost_gets_couriers_ids_again(mail_root: Path) -> None:
    root = maildir(mail_root / "alice", lists="/3 9 111\n1500000003.c 11 4:111:0\n1500000001.a 11 5:111:0\n")
    with Store(str(mail_root), durability="relaxed") as store:
        before = seen(store)
        (root / "dovecot-uidlist").unlink()
        assert (
            seen(store) == before == [("1500000001.a", "UID5-111"), ("1500000003.c", "UID4-111"), ("1500000002.b", "")]
        )


def test_ids_of_dovecot_go_before_couriers(mail_root: Path) -> None:
    root = maildir(
        mail_root / "alice",
        lists="/3 9 111\n1500000001.a 11 4:111:0\n1500000002.b 11 5:111:0\n1500000003.c 11 6:111:0\n",
    )
    (root / "dovecot-uidlist").write_text(
        "3 V1700000000 N30 Gabcdefabcdefabcdefabcdefabcdefab\n7 W11 Pold O2 :1500000001.a\n"
        "8 O1 :1500000003.c\n9 W11 :1500000002.b\n"
    )
    with Store(str(mail_root), durability="relaxed") as store:
        assert seen(store) == [("1500000003.c", "UID6-111"), ("1500000001.a", "old"), ("1500000002.b", "UID5-111")]
        assert store.account("alice").inbox.snapshot().uidnext == 30
    text = (root / "dovecot-uidlist").read_text()
    assert "7 W11 Pold O2 :" in text
    assert "9 W11 PUID5-111 O3 :" in text


@pytest.mark.maildir  # dovecot-uidlist
def test_ids_stay_when_the_list_is_trimmed(inbox: Mailbox, mail_root: Path) -> None:
    uids = [put(inbox) for _ in range(210)]
    path = mail_root / "alice/dovecot-uidlist"
    lines = path.read_text().splitlines()
    lines[-1] = lines[-1].replace(" :", " Pkept O5 :")
    path.write_text("\n".join([*lines, ""]))
    inbox.expunge(uids[:205])
    assert len(path.read_text().splitlines()) < 10
    assert [m.saved for m in inbox.maildrop()[1]] == ["kept", "", "", "", ""]


def test_a_list_that_cannot_be_read_is_an_error_of_the_store(mail_root: Path) -> None:
    root = maildir(mail_root / "alice")
    os.mkdir(root / "courierpop3dsizelist")
    with Store(str(mail_root), durability="relaxed") as store, pytest.raises(Exception, match="problem"):
        seen(store)
