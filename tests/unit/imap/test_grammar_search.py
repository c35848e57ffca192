from __future__ import annotations

import datetime

import pytest

from mailserver.imap.grammar import charset
from mailserver.imap.grammar.cursor import BadCharset, BadSyntax
from mailserver.imap.grammar.search import MAX_NESTING, Criteria, Returns, Search, search, uid_search
from mailserver.store.model.flags import Flag
from mailserver.store.model.search import (
    All,
    And,
    Date,
    DateOf,
    Field,
    HasFlag,
    HasKeyword,
    Larger,
    ModifiedSince,
    Not,
    NumberSet,
    Or,
    Recent,
    Relation,
    Smaller,
    Text,
    Within,
)
from tests.unit.imap.feeding import parse

DAY = datetime.date(2026, 2, 1)
SEEN = HasFlag(Flag.SEEN)

KEYS = [
    (b"ALL", All()),
    (b"answered", HasFlag(Flag.ANSWERED)),
    (b"DELETED", HasFlag(Flag.DELETED)),
    (b"DRAFT", HasFlag(Flag.DRAFT)),
    (b"FLAGGED", HasFlag(Flag.FLAGGED)),
    (b"SEEN", SEEN),
    (b"UNANSWERED", Not(HasFlag(Flag.ANSWERED))),
    (b"UNDELETED", Not(HasFlag(Flag.DELETED))),
    (b"UNDRAFT", Not(HasFlag(Flag.DRAFT))),
    (b"UNFLAGGED", Not(HasFlag(Flag.FLAGGED))),
    (b"UNSEEN", Not(SEEN)),
    (b"NEW", And((Recent(), Not(SEEN)))),
    (b"OLD", Not(Recent())),
    (b"RECENT", Recent()),
    (b"SAVEDATESUPPORTED", All()),
    (b"BCC x", Text(Field.ADDRESSES, "x", "bcc")),
    (b'CC "x y"', Text(Field.ADDRESSES, "x y", "cc")),
    (b"FROM {3}\r\na\r\n", Text(Field.ADDRESSES, "a\r\n", "from")),
    (b'SUBJECT ""', Text(Field.HEADER, "", "subject")),
    (b"TO x", Text(Field.ADDRESSES, "x", "to")),
    (b"BODY x", Text(Field.BODY, "x")),
    (b"TEXT x", Text(Field.TEXT, "x")),
    (b"HEADER Message-ID <a@b>", Text(Field.HEADER, "<a@b>", "message-id")),
    (b"KEYWORD $Junk", HasKeyword("$Junk")),
    (b"UNKEYWORD $Junk", Not(HasKeyword("$Junk"))),
    (b"LARGER 5000000000", Larger(5000000000)),
    (b"SMALLER 0", Smaller(0)),
    (b"BEFORE 1-Feb-2026", Date(DateOf.INTERNAL, Relation.BEFORE, DAY)),
    (b'ON "1-Feb-2026"', Date(DateOf.INTERNAL, Relation.ON, DAY)),
    (b"SINCE 01-Feb-2026", Date(DateOf.INTERNAL, Relation.SINCE, DAY)),
    (b"SENTBEFORE 1-Feb-2026", Date(DateOf.SENT, Relation.BEFORE, DAY)),
    (b"SENTON 1-Feb-2026", Date(DateOf.SENT, Relation.ON, DAY)),
    (b"SENTSINCE 1-Feb-2026", Date(DateOf.SENT, Relation.SINCE, DAY)),
    (b"SAVEDBEFORE 1-Feb-2026", Date(DateOf.SAVED, Relation.BEFORE, DAY)),
    (b"SAVEDON 1-Feb-2026", Date(DateOf.SAVED, Relation.ON, DAY)),
    (b"SAVEDSINCE 1-Feb-2026", Date(DateOf.SAVED, Relation.SINCE, DAY)),
    (b"OLDER 60", Within(False, 60)),
    (b"YOUNGER 60", Within(True, 60)),
    (b"UID 1:*", NumberSet(((1, None),), True)),
    (b"1,3", NumberSet(((1, 1), (3, 3)), False)),
    (b"*", NumberSet(((None, None),), False)),
    (b"$", NumberSet((), False, True)),
    (b"UID $", NumberSet((), True, True)),
    (b"NOT SEEN", Not(SEEN)),
    (b"OR SEEN ALL", Or(SEEN, All())),
    (b"(SEEN)", SEEN),
    (b"((SEEN ALL))", And((SEEN, All()))),
    (b"SEEN ALL", And((SEEN, All()))),
    (b"NOT (SEEN ALL) 1", And((Not(And((SEEN, All()))), NumberSet(((1, 1),), False)))),
    (
        b'(OR FROM "x" (OR SUBJECT "x" TO x)) NOT DELETED',
        And(
            (
                Or(
                    Text(Field.ADDRESSES, "x", "from"),
                    Or(Text(Field.HEADER, "x", "subject"), Text(Field.ADDRESSES, "x", "to")),
                ),
                Not(HasFlag(Flag.DELETED)),
            )
        ),
    ),
]


@pytest.mark.parametrize(("text", "key"), KEYS)
def test_keys(text, key):
    assert parse(b" " + text, search, "SEARCH") == Search(Criteria(key), False)
    assert parse(b" CHARSET US-ASCII " + text + b" ", uid_search, "UID SEARCH").criteria.key == key


@pytest.mark.parametrize("text", [b"MODSEQ 620162338", b'MODSEQ "/flags/\\\\draft" all 620162338'])
def test_modseq(text):
    assert parse(b" " + text, search, "SEARCH").criteria == Criteria(ModifiedSince(620162338), None, True)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b" FOO",
        b" X-GM-LABELS x",
        b" FROM",
        b" NOT",
        b" OR SEEN",
        b" (SEEN",
        b" ()",
        b" SEEN)",
        b" SINCE 1-Foo-2026",
        b" OLDER 0",
        b" UID x",
        b" 0",
        b" SEEN  ALL",
        b' MODSEQ "/flags/x" foo 1',
        b" CHARSET UTF-8",
        b" RETURN (FOO) ALL",
        b" RETURN (MIN)",
        b" KEYWORD \\Seen",
    ],
)
def test_bad_keys(text):
    with pytest.raises(BadSyntax):
        parse(text, search, "SEARCH")


@pytest.mark.parametrize(
    ("text", "returns"),
    [
        (b" ALL", None),
        (b" RETURN () ALL", {"ALL"}),
        (b" return (min MAX) ALL", {"MIN", "MAX"}),
        (b" RETURN (SAVE) ALL", {"SAVE"}),
        (b" RETURN (COUNT) CHARSET UTF-8 ALL", {"COUNT"}),
    ],
)
def test_returns(text, returns):
    assert parse(text, search, "SEARCH").returns == (Returns(frozenset(returns)) if returns else None)


def test_nesting_has_a_limit():
    for opening, closing in ((b"(", b")"), (b"NOT ", b""), (b"OR ALL ", b"")):
        parse(b" " + opening * MAX_NESTING + b"ALL" + closing * MAX_NESTING, search, "SEARCH")
        with pytest.raises(BadSyntax, match="nested"):
            parse(b" " + opening * (MAX_NESTING + 1) + b"ALL", search, "SEARCH")
    with pytest.raises(BadSyntax, match="nested"):
        parse(b" " + b"(" * 60000, search, "SEARCH")


def needle(text: bytes) -> str:
    key = parse(text, search, "SEARCH").criteria.key
    assert isinstance(key, Text)
    return key.needle


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b' CHARSET UTF-8 TEXT "\xc3\xa4"', "ä"),
        (b' CHARSET "utf-8" TEXT "\xc3\xa4"', "ä"),
        (b' CHARSET US-ASCII TEXT "\xc3\xa4"', "ä"),
        (b' TEXT "\xc3\xa4"', "ä"),
        (b' TEXT "\xe4"', "ä"),
        (b' CHARSET ISO-8859-15 TEXT "\xa4"', "€"),
        (b' CHARSET windows-1252 TEXT "\x80"', "€"),
        (b" CHARSET koi8-r TEXT {1}\r\n\xc1", "а"),
        (b" CHARSET Shift_JIS TEXT {2}\r\n\x83e", "テ"),
    ],
)
def test_charsets(text, value):
    assert needle(text) == value


@pytest.mark.parametrize(
    "name", [b"X-UNKNOWN", b"base64", b"rot13", b"idna", b"unicode_escape", b'"\xff"', b'""', b"a" * 70]
)
def test_unknown_charsets(name):
    with pytest.raises(BadCharset) as caught:
        parse(b" CHARSET " + name + b" ALL", search, "SEARCH")
    assert caught.value.charset.isprintable()


def test_text_that_is_not_in_its_charset():
    with pytest.raises(BadSyntax, match="not valid in UTF-8"):
        parse(b' CHARSET UTF-8 TEXT "\xff"', search, "SEARCH")


def test_no_charset_raises_anything_else():
    for name in sorted(charset._CODECS):
        decode = charset.decoder(name.encode())
        for octets in (b"", b"a", bytes(range(256)), b"\xff" * 9, b"+", b"~{"):
            try:
                assert isinstance(decode(octets), str)
            except BadSyntax:
                pass
