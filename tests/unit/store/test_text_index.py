"""The text index answers as reading everything would, whatever happens to it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from mailserver.mail import text
from mailserver.store.account import TEXT_NAME
from mailserver.store.index.text import TextIndex, trigrams
from mailserver.store.mailbox import Mailbox
from mailserver.store.model import search as criteria
from mailserver.store.search.matching import Resolver, search
from mailserver.store.store import Store
from tests.unit.store.conftest import put

WORDS = ["apple pie", "Äpfel und Birnen", "pineapple", 'a "quoted" word', "nul\0inside words", "straße", "x" * 50]


def found(mailbox: Mailbox, needle: str, field: criteria.Field = criteria.Field.BODY) -> list[int]:
    resolver = Resolver(lambda numbers: [], lambda uid: False)
    return search(mailbox, mailbox.snapshot().messages, criteria.Text(field, needle), resolver)


def scanned(mailbox: Mailbox, needle: str) -> list[int]:
    folded = text.fold(needle)
    messages = mailbox.snapshot().messages
    return [i for i, m in enumerate(messages) if folded in text.fold(text.body_text(mailbox.read(m)))]


@pytest.fixture
def filled(inbox: Mailbox) -> Mailbox:
    for number in range(30):
        body = WORDS[number % len(WORDS)]
        head = "Content-Type: text/plain; charset=utf-8\r\nMIME-Version: 1.0\r\nSubject: s\r\n\r\n"
        put(inbox, f"{head}{body} number {number}\r\n".encode())
    return inbox


@pytest.mark.parametrize(
    "needle",
    ["apple", "APPLE", "äpfel", "apfel", '"quoted"', "inside", "number 1", "xxxx", "ß", "ap", "", "nowhere", "\0in"],
)
def test_same_as_scanning(filled: Mailbox, needle: str) -> None:
    for _ in range(2):  # filling the index, and from it
        assert found(filled, needle) == scanned(filled, needle)


def test_expunged_and_new_messages(filled: Mailbox) -> None:
    assert len(found(filled, "pineapple")) == 4
    filled.expunge([3])
    put(filled, b"\r\nanother pineapple\r\n")
    assert len(found(filled, "pineapple")) == 4


def test_filled_in_the_background_once_it_is_used(filled: Mailbox, mail_root: Path) -> None:
    path = mail_root / "alice" / TEXT_NAME
    assert not path.exists()
    found(filled, "apple")
    put(filled, b"\r\nlate words\r\n")
    texts, key = filled.text_index()
    deadline = time.monotonic() + 10
    while texts.missing(key, [31]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert texts.missing(key, [31]) == []


@pytest.mark.parametrize("damage", [None, b"", b"garbage" * 1000])
def test_lost_or_damaged(filled: Mailbox, mail_root: Path, damage: bytes | None) -> None:
    before = found(filled, "apple")
    path = mail_root / "alice" / TEXT_NAME
    with Store(str(mail_root), durability="relaxed") as other:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.unlink()
        if damage is not None:
            path.write_bytes(damage)
        assert found(other.account("alice").inbox, "apple") == before
        assert found(other.account("alice").inbox, "apple") == before
    assert found(filled, "apple") == before


def test_a_very_long_text_is_always_a_candidate(tmp_path: Path) -> None:
    index = TextIndex(str(tmp_path / "t.sqlite"))
    index.add("f", {1: "a" * (1 << 20) + "needle", 2: "short"})
    assert index.candidates("f", "needle") == {1}
    index.forget("f", [1])
    assert index.candidates("f", "needle") == frozenset()
    index.close()


def test_without_fts5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("no such module: fts5")

    index = TextIndex(str(tmp_path / "t.sqlite"))
    monkeypatch.setattr(index, "_open", refuse)
    assert index.missing("f", [1, 2]) == [1, 2]
    index.add("f", {1: "text"})
    assert index.candidates("f", "text") is None
    index.close()


def test_trigrams() -> None:
    assert trigrams("ab") == []
    assert trigrams("abcab") == ["abc", "bca", "cab"]
    assert trigrams("a\0bcd") == ["bcd"]
