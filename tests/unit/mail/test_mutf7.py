from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import mutf7

PAIRS = [
    ("", ""),
    ("INBOX", "INBOX"),
    ("A&B", "A&-B"),
    ("&&", "&-&-"),
    ("Entwürfe", "Entw&APw-rfe"),
    ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 section 5.1.3
    ("☺", "&Jjo-"),
    ("☺&☺", "&Jjo-&-&Jjo-"),
    ("😀", "&2D3eAA-"),
    ("a\tb\x7f", "a&AAk-b&AH8-"),
]


@pytest.mark.parametrize(("text", "encoded"), PAIRS)
def test_pairs(text: str, encoded: str) -> None:
    assert mutf7.encode(text) == encoded
    assert mutf7.decode(encoded) == text
    assert mutf7.decode(encoded.encode()) == text


@pytest.mark.parametrize(
    "bad",
    [
        "&",
        "a&b",
        "&Jjo",  # must end in US-ASCII
        "&Jjo!",
        "&U,BTFw-&ZeVnLIqe-",  # null shift
        "&AGE-",  # a printable character in base64
        "&Jjp-",  # bits that are left over and not zero
        "&Jj-",  # half a character
        "&J-",
        "&2D0-",  # half a surrogate pair
        "&3gDYPQ-",
        "&Jjo=-",
        "&U/BTFw-",
        "Entwürfe",
        "tab\t",
        b"\xff",
    ],
)
def test_refused(bad: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - every kind of it
        mutf7.decode(bad)


def test_lone_surrogate() -> None:
    with pytest.raises(UnicodeEncodeError):
        mutf7.encode("\ud800")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_round_trip(text: str) -> None:
    encoded = mutf7.encode(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert mutf7.decode(encoded) == text


@given(st.text(st.sampled_from("&-,+/Jjo3gDYPQABw= a")))
def test_one_encoding_only(encoded: str) -> None:
    try:
        text = mutf7.decode(encoded)
    except ValueError:
        return
    assert mutf7.encode(text) == encoded
