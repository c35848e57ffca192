"""What is remembered of commands: never a password, never too many."""

from __future__ import annotations

import pytest

from mailserver.imap import understood
from mailserver.imap.framer import Command, Literal
from mailserver.imap.grammar import syntax
from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.table import TABLE
from mailserver.imap.understood import Understood, recall, remember


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(understood, "_known", {})


def hear(line: bytes, *literals: Literal) -> Command:
    command = Command(line, literals)
    cursor = Cursor.of(command)
    head = syntax.head(cursor)
    spec = TABLE[head.name]
    remember(command, head.tag, Understood(head.name, spec, spec.parse(cursor)))
    return command


def test_the_same_words_mean_the_same_under_another_tag() -> None:
    hear(b"a1 STATUS box (MESSAGES)")
    known = recall(Command(b"zz STATUS box (MESSAGES)"), "zz")
    assert known is not None
    assert known.name == "STATUS"
    assert known.args.items == ("MESSAGES",)
    assert recall(Command(b"a1 STATUS Box (MESSAGES)"), "a1") is None


@pytest.mark.parametrize("line", [b"a LOGIN alice secret", b"a AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA=="])
def test_passwords_are_not_remembered(line: bytes) -> None:
    hear(line)
    assert understood._known == {}


def test_long_lines_are_not_remembered() -> None:
    hear(b"a SEARCH SUBJECT " + b"x" * 300)
    assert understood._known == {}


def test_the_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(understood, "_MOST", 10)
    for number in range(1, 100):
        hear(b"a FETCH %d FLAGS" % number)
        assert len(understood._known) <= 10
