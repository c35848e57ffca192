from __future__ import annotations

import datetime

import pytest

from mailserver.imap.framer import Command, Literal
from mailserver.imap.grammar import expunge, syntax
from mailserver.imap.grammar.cursor import BadSyntax, Cursor
from mailserver.imap.grammar.leniency import Leniency

ATOM_SPECIALS = set(b'(){ %*"\\]') | set(range(0x20)) | {0x7F}


def accepted(function, wrap: bytes = b"%s") -> set[int]:
    """The octets that the function takes as the only character of its word."""
    taken = set()
    for octet in range(1, 256):
        data = wrap % bytes([octet])
        cursor = Cursor(data)
        try:
            function(cursor)
        except BadSyntax:
            continue
        if cursor.pos == len(data):
            taken.add(octet)
    return taken


def test_atom_char():
    assert accepted(syntax.atom) == set(range(1, 128)) - ATOM_SPECIALS


def test_astring_char():
    assert accepted(syntax.astring) == (set(range(1, 128)) - ATOM_SPECIALS) | {ord("]")}


def test_list_char():
    assert accepted(syntax.list_mailbox) == (set(range(1, 128)) - ATOM_SPECIALS) | set(b"]%*")


def test_quoted_char():
    assert accepted(syntax.quoted, b'"%s"') == set(range(1, 256)) - set(b'\r\n"\\')


def test_quoted_specials():
    assert accepted(syntax.quoted, b'"\\%s"') == set(b'"\\')


def test_tag_char():
    tags = set()
    for octet in range(1, 256):
        try:
            syntax.head(Cursor(bytes([octet]) + b" NOOP"))
        except BadSyntax:
            continue
        tags.add(octet)
    assert tags == ((set(range(1, 128)) - ATOM_SPECIALS) | {ord("]")}) - {ord("+")}


def test_flag_char():
    assert accepted(syntax.flag) == set(range(1, 128)) - ATOM_SPECIALS


@pytest.mark.parametrize("value", [b"", b"a", b'a"b', b"\\", b'\\"', b"a b", "ä€".encode()])
def test_quoted_round_trip(value):
    wire = b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    cursor = Cursor(wire)
    assert syntax.string(cursor) == value
    assert cursor.pos == len(wire)


@pytest.mark.parametrize(
    ("line", "head"),
    [
        (b"a NOOP", ("a", "NOOP")),
        (b"a noop x", ("a", "NOOP")),
        (b"a.1 uid fetch 1", ("a.1", "UID FETCH")),
        (b"a UID", ("a", "UID")),
        (b"] UID 1", ("]", "UID")),
    ],
)
def test_head(line, head):
    assert syntax.head(Cursor(line)) == head


@pytest.mark.parametrize(
    ("line", "tag", "text"),
    [
        (b"", None, "Expected a tag, a space and a command at column 1, found the end of the command"),
        (b"a", "a", "Expected the name of a command at column 2, found the end of the command"),
        (b"a ", "a", "Expected the name of a command at column 3, found the end of the command"),
        (b"a  NOOP", "a", "Expected the name of a command at column 3, found  NOOP"),
        (b"+ NOOP", None, "Expected a tag, a space and a command at column 1, found + NOOP"),
        (b"\xff\x01 NOOP", None, "Expected a tag, a space and a command at column 1, found ?? NOOP"),
    ],
)
def test_bad_head(line, tag, text):
    with pytest.raises(BadSyntax) as caught:
        syntax.head(Cursor(line))
    assert (caught.value.tag, caught.value.text) == (tag, text)


def test_literals_come_in_order():
    cursor = Cursor.of(Command(b"\0 x\0", (Literal(1, False, b"1"), Literal(0, True, b""))))
    assert syntax.astring(cursor) == b"1"
    syntax.space(cursor)
    assert syntax.atom(cursor) == b"x"
    assert syntax.nstring(cursor) == b""


def test_a_literal_that_went_to_a_sink_is_no_string():
    with pytest.raises(BadSyntax, match="too large for a mailbox name"):
        syntax.mailbox(Cursor.of(Command(b"\0", (Literal(9, False, None),))))


def test_nul_without_a_literal():
    with pytest.raises(BadSyntax):
        Cursor(b"a \0")


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"0", 0), (b"007", 7), (b"4294967295", 2**32 - 1), (b"4294967296", None), (b"", None), (b"9" * 5000, None)],
)
def test_number(text, value):
    if value is None:
        with pytest.raises(BadSyntax):
            syntax.number(Cursor(text))
    else:
        assert syntax.number(Cursor(text)) == value


@pytest.mark.parametrize("text", [b"0", b"01", b"-1", b"x"])
def test_nz_number_refuses(text):
    with pytest.raises(BadSyntax):
        syntax.nz_number(Cursor(text))


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        (b"1", ((1, 1),)),
        (b"*", ((None, None),)),
        (b"1:*", ((1, None),)),
        (b"*:4", ((4, None),)),
        (b"4:2", ((2, 4),)),
        (b"2,4:7,9,12:*", ((2, 2), (4, 7), (9, 9), (12, None))),
        (b"*:*", ((None, None),)),
        (b"4294967295", ((4294967295, 4294967295),)),
    ],
)
def test_sequence_set(text, ranges):
    cursor = Cursor(text + b" ")
    assert syntax.sequence_set(cursor, uid=True).ranges == ranges
    assert cursor.pos == len(text)


def test_saved_set():
    numbers = syntax.sequence_set(Cursor(b"$"), uid=False)
    assert numbers.saved
    assert numbers.ranges == ()


@pytest.mark.parametrize(
    "text", [b"0", b"1:0", b"1,", b",1", b"1:", b"1:2:3", b"1,,2", b"4294967296", b"$,1", b"a", b"", b"1$"]
)
def test_bad_sequence_set(text):
    with pytest.raises(BadSyntax):
        expunge.uid_expunge(Cursor(b" " + text))


def test_a_long_set_is_quick():
    text = b",".join(b"%d" % n for n in range(1, 12001))
    assert len(syntax.sequence_set(Cursor(text), uid=True).ranges) == 12000
    with pytest.raises(BadSyntax):
        syntax.sequence_set(Cursor(text + b":"), uid=True)


@pytest.mark.parametrize("text", [b"1-Feb-2026", b"01-feb-2026", b'"1-Feb-2026"', b'"01-FEB-2026"', b'" 1-Feb-2026"'])
def test_date(text):
    assert syntax.date(Cursor(text)) == datetime.date(2026, 2, 1)


@pytest.mark.parametrize(
    "text", [b"30-Feb-2026", b"1-Fev-2026", b'"1-Feb-2026', b"1-Feb-26", b"0-Feb-2026", b"1-Feb-0000"]
)
def test_bad_date(text):
    with pytest.raises(BadSyntax):
        syntax.date(Cursor(text))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b'" 1-Jan-1970 00:00:00 +0000"', 0),
        (b'"01-Jan-1970 01:00:00 +0100"', 0),
        (b'"31-Dec-1969 19:30:00 -0430"', 0),
        (b'"1-Jan-1970 00:00:59 +0000"', 59),
        (b'"01-Jan-1970 00:00:60 +0000"', 59),
    ],
)
def test_date_time(text, seconds):
    assert syntax.date_time(Cursor(text)) == seconds


@pytest.mark.parametrize(
    "text",
    [
        b'"31-Feb-2026 00:00:00 +0000"',
        b'"01-Jan-2026 24:00:00 +0000"',
        b'"01-Jan-2026 00:00:61 +0000"',
        b'"01-Jan-2026 00:00:00 +2400"',
        b'"01-Jan-2026 00:00:00 +0060"',
        b'"01-Jan-2026 00:00:00"',
        b"01-Jan-2026",
    ],
)
def test_bad_date_time(text):
    with pytest.raises(BadSyntax):
        syntax.date_time(Cursor(text))


@pytest.mark.parametrize("name", [b"INBOX", b"inbox", b'"InBoX"'])
def test_inbox(name):
    assert syntax.mailbox(Cursor(name)) == b"INBOX"


def test_names_that_only_begin_like_inbox():
    assert syntax.mailbox(Cursor(b"inbox/a")) == b"inbox/a"


def test_flags():
    cursor = Cursor(b"(\\seen \\Deleted $Junk $JUNK \\Recent x)")
    assert syntax.flag_list(cursor) == (8 | 4, frozenset({"$Junk", "x"}))
    assert syntax.flag_list(Cursor(b"()")) == (0, frozenset())


@pytest.mark.parametrize("text", [b"(\\Foo)", b"(a  b)", b"(a", b"a", b"(\\)", b"(a )", b"( a)"])
def test_bad_flags(text):
    with pytest.raises(BadSyntax):
        syntax.flag_list(Cursor(text))


@pytest.mark.parametrize(("text", "is_nil"), [(b"NIL", True), (b"nil)", True), (b"NILS", False), (b'"NIL"', False)])
def test_nil(text, is_nil):
    assert syntax.nil(Cursor(text)) is is_nil


def test_every_leniency_says_what_it_is():
    assert all(len(leniency.value) >= 20 for leniency in Leniency)
