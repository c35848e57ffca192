"""The forms of unique-ids."""

from __future__ import annotations

import pytest

from mailserver.config.schema import Pop3Config
from mailserver.pop3.uidl import unique_ids
from mailserver.store.model.message import Message
from mailserver.store.model.numbers import ModSeq, Uid
from mailserver.store.model.pop import PopMessage


def entry(uid: int, base: str, saved: str = "") -> PopMessage:
    message = Message(Uid(uid), f"cur/{base}:2,", 0, frozenset(), ModSeq(1), 0, 1, 1)
    return PopMessage(message, saved, base)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("dovecot", "0000000c6553f100"),
        ("cyrus", "1700000000.12"),
        ("courier", "UID12-1700000000"),
        ("uidvalidity-uid", "1700000000-12"),
        ("filename", "17.M1+27+2B+C3+A9,S=4"),
    ],
)
def test_forms(form: str, expected: str) -> None:
    messages = [entry(12, "17.M1'+é,S=4"), entry(13, "x", "kept")]
    assert unique_ids(form, 1700000000, messages) == [expected, "kept"]


def test_an_mbox_has_no_names() -> None:
    assert unique_ids("filename", 1700000000, [entry(12, "")]) == ["0000000c6553f100"]


def test_every_choice_of_the_setting_is_a_form() -> None:
    choices = Pop3Config.__dataclass_fields__["uidl_format"].metadata["choices"]
    for form in choices:
        (made,) = unique_ids(form, 1, [entry(1, "a")])
        assert 1 <= len(made) <= 70
