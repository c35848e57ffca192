"""SASLprep: the examples of RFC 4013 section 3, what is refused, and logging in with what another keyboard typed."""

from __future__ import annotations

import hashlib

import pytest

from mailserver.auth.saslprep import Prohibited, prepare, spellings
from mailserver.auth.secret import Secret
from mailserver.auth.service import Authenticator, AuthFailed, AuthRules, Origin
from mailserver.auth.users import StaticUsers

ORIGIN = Origin("pop3", "192.0.2.1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I\u00adX", "IX"),  # SOFT HYPHEN mapped to nothing
        ("user", "user"),
        ("USER", "USER"),  # case is kept
        ("\u00aa", "a"),  # NFKC
        ("\u2168", "IX"),
        ("a\u00a0b\u2003c", "a b c"),
        ("a\u200bb", "ab"),
        ("e\u0301", "\u00e9"),
        ("\u05d3\u05d5\u05d3", "\u05d3\u05d5\u05d3"),
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
        ("", ""),
        ("two  words ", "two  words "),
    ],
)
def test_prepared(text: str, expected: str) -> None:
    assert prepare(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "\x07",
        "a\tb",
        "\x7f",
        "\u0627\u0031",
        "\u0627a\u0628",
        "\ue000",
        "\ufdd0",
        "\ufffd",
        "\u2ff0",
        "\u200e",
        "\U000e0001",
    ],
)
def test_prohibited(text: str) -> None:
    with pytest.raises(Prohibited):
        prepare(text)


def test_unassigned_characters_are_prohibited_in_stored_strings_only() -> None:
    assert prepare("\u0221") == "\u0221"
    with pytest.raises(Prohibited):
        prepare("\u0221", stored=True)


def test_spellings() -> None:
    assert spellings(b"plain") == [b"plain"]
    assert spellings("\ufb01".encode()) == [b"fi", "\ufb01".encode()]
    assert spellings(b"\xe9") == [b"\xe9"]
    assert spellings("\u00ad".encode()) == ["\u00ad".encode()]


def test_login() -> None:
    auth = Authenticator(StaticUsers({"j\u00f6rg": "p\u00e4ss", "old": "p\ufb01"}), AuthRules(delay_failures=False))
    assert auth.login("jo\u0308rg", Secret("pa\u0308ss".encode()), ORIGIN).user == "j\u00f6rg"
    assert auth.login("old", Secret("p\ufb01".encode()), ORIGIN).user == "old"  # stored by who did not prepare
    with pytest.raises(AuthFailed):
        auth.login("old", Secret(b"pfi"), ORIGIN)


def test_apop_takes_the_prepared_password() -> None:
    auth = Authenticator(StaticUsers({"a": "p\ufb01"}), AuthRules(delay_failures=False))
    for password in (b"pfi", "p\ufb01".encode()):
        digest = hashlib.md5(b"<1@x>" + password).hexdigest()
        assert auth.apop("a", digest, "<1@x>", ORIGIN).user == "a"
    with pytest.raises(AuthFailed):
        auth.apop("a", hashlib.md5(b"<1@x>pf").hexdigest(), "<1@x>", ORIGIN)
