"""The index forgets which messages were expunged long ago, and nobody is told anything wrong for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mailserver.store.index import db
from mailserver.store.mailbox import FlagOp, Mailbox
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from tests.unit.store.conftest import put

KEPT = 5


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_KEPT_EXPUNGED", KEPT)
    monkeypatch.setattr(db, "_REVS_UNTIL_PRUNED", 1)


def remembered(root: Path) -> list[int]:
    with sqlite3.connect(root / "alice/mailserver.sqlite") as index:
        found = [uid for (uid,) in index.execute("SELECT uid FROM expunged ORDER BY uid")]
    index.close()
    return found


def uids(mailbox: Mailbox) -> list[int]:
    return [m.uid for m in mailbox.poll().messages]


def test_only_the_last_are_remembered(inbox: Mailbox, mail_root: Path) -> None:
    for _ in range(20):
        inbox.expunge([put(inbox)])
    assert remembered(mail_root) == [16, 17, 18, 19, 20]


def test_who_asks_about_earlier_ones_hears_that_it_is_not_known(inbox: Mailbox) -> None:
    modseqs = []
    for _ in range(12):
        inbox.expunge([put(inbox)])
        modseqs.append(inbox.snapshot().highestmodseq)
    # the MODSEQs after each expunge, and what was expunged later
    assert [inbox.expunged_since(modseq) for modseq in modseqs[:6]] == [None] * 6
    for i in range(6, 12):
        assert inbox.expunged_since(modseqs[i]) == list(range(i + 2, 13))


def test_a_process_far_behind_finds_what_is_left(inbox: Mailbox, mail_root: Path) -> None:
    kept = [put(inbox) for _ in range(3)]
    with Store(str(mail_root), durability="relaxed", format=inbox.files.format) as second:
        theirs = second.account("alice").inbox
        gone = [put(inbox) for _ in range(10)]
        assert uids(theirs) == kept + gone
        before = {m.uid: m for m in theirs.snapshot().messages}
        for uid in gone:
            inbox.expunge([uid])
        inbox.expunge([kept[0]])
        new = put(inbox)
        inbox.store_flags([kept[2]], FlagOp.ADD, Flag.SEEN)
        found = {m.uid: m for m in theirs.poll().messages}
        assert list(found) == [*kept[1:], new]
        assert found[kept[1]].modseq == before[kept[1]].modseq  # nothing new is said of it
        assert found[kept[2]].flags & Flag.SEEN


def test_many_at_once(inbox: Mailbox, mail_root: Path) -> None:
    all_of_them = [put(inbox) for _ in range(12)]
    with Store(str(mail_root), durability="relaxed", format=inbox.files.format) as second:
        theirs = second.account("alice").inbox
        assert uids(theirs) == all_of_them
        inbox.expunge(all_of_them[:11])
        assert remembered(mail_root) == []
        assert uids(theirs) == all_of_them[11:]
