from __future__ import annotations

import pytest

from mailserver.imap.grammar.cursor import BadSyntax
from mailserver.imap.grammar.fetch import (
    Binary,
    BinarySize,
    Body,
    Fetch,
    Item,
    Partial,
    Preview,
    Section,
    Text,
    fetch,
    uid_fetch,
)
from mailserver.store.model.search import NumberSet
from tests.unit.imap.feeding import parse

ONE = NumberSet(((1, 1),), False)

ITEMS = [
    (b"FAST", (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE)),
    (b"all", (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE, Item.ENVELOPE)),
    (b"FULL", (Item.FLAGS, Item.INTERNALDATE, Item.RFC822_SIZE, Item.ENVELOPE, Item.BODY)),
    (b"BODY", (Item.BODY,)),
    (b"BODYSTRUCTURE", (Item.BODYSTRUCTURE,)),
    (b"(flags UID flags)", (Item.FLAGS, Item.UID)),
    (b"(RFC822 RFC822.HEADER RFC822.TEXT)", (Item.RFC822, Item.RFC822_HEADER, Item.RFC822_TEXT)),
    (b"(MODSEQ SAVEDATE EMAILID THREADID)", (Item.MODSEQ, Item.SAVEDATE, Item.EMAILID, Item.THREADID)),
    (b"BODY[]", (Body(Section(), False, None, b"BODY[]"),)),
    (b"body.peek[]<0.393216>", (Body(Section(), True, Partial(0, 393216), b"BODY[]<0>"),)),
    (b"BODY[]<7.0>", (Body(Section(), False, Partial(7, 0), b"BODY[]<7>"),)),
    (b"BODY[1.2]", (Body(Section((1, 2)), False, None, b"BODY[1.2]"),)),
    (b"BODY[header]", (Body(Section((), Text.HEADER), False, None, b"BODY[HEADER]"),)),
    (b"BODY[2.text]", (Body(Section((2,), Text.TEXT), False, None, b"BODY[2.TEXT]"),)),
    (b"BODY[1.1.MIME]", (Body(Section((1, 1), Text.MIME), False, None, b"BODY[1.1.MIME]"),)),
    (
        b"BODY[HEADER.FIELDS (From to)]",
        (Body(Section((), Text.FIELDS, (b"FROM", b"TO")), False, None, b"BODY[HEADER.FIELDS (From to)]"),),
    ),
    (
        b'BODY.PEEK[1.header.fields.not ("X-A" {3}\r\nB"c)]<1.2>',
        (
            Body(
                Section((1,), Text.FIELDS_NOT, (b"X-A", b'B"C')),
                True,
                Partial(1, 2),
                b'BODY[1.HEADER.FIELDS.NOT (X-A "B\\"c")]<1>',
            ),
        ),
    ),
    (b"BINARY[1]", (Binary((1,), False, None, b"BINARY[1]"),)),
    (b"BINARY.PEEK[]<0.5>", (Binary((), True, Partial(0, 5), b"BINARY[]<0>"),)),
    (b"BINARY.SIZE[1.2]", (BinarySize((1, 2), b"BINARY.SIZE[1.2]"),)),
    (b"(PREVIEW UID)", (Preview(False), Item.UID)),
    (b"(PREVIEW (LAZY) UID)", (Preview(True), Item.UID)),
    (b"PREVIEW (LAZY)", (Preview(True),)),
]


@pytest.mark.parametrize(("text", "items"), ITEMS)
def test_items(text, items):
    assert parse(b" 1 " + text, fetch, "FETCH") == Fetch(ONE, items)
    assert parse(b" 1 " + text + b" ", fetch, "FETCH") == Fetch(ONE, items)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"()",
        b"FOO",
        b"(FAST)",
        b"(FLAGS",
        b"(FLAGS UID))",
        b"FLAGS UID",
        b"BODY[",
        b"BODY[0]",
        b"BODY[1.]",
        b"BODY[.1]",
        b"BODY[MIME]",
        b"BODY[FOO]",
        b"BODY[1 HEADER]",
        b"BODY[HEADER.FIELDS]",
        b"BODY[HEADER.FIELDS ()]",
        b"BODY[HEADER.FIELDS (a b)",
        b'BODY[HEADER.FIELDS ("")]',
        b'BODY[HEADER.FIELDS ("a b")]',
        b"BODY[HEADER.FIELDS ({4}\r\na\r\nb)]",
        b"BODY[]<1>",
        b"BODY[]<1.>",
        b"BODY[]<1.2",
        b"BINARY[HEADER]",
        b"BINARY",
        b"BINARY.SIZE[1]<0.1>",
        b"FLAGS[1]",
        b"FLAGS (FOO 1)",
        b"FLAGS (VANISHED)",
        b"FLAGS (CHANGEDSINCE 1 VANISHED)",
        b"FLAGS (CHANGEDSINCE)",
        b"FLAGS (CHANGEDSINCE 9223372036854775808)",
    ],
)
def test_bad_items(text):
    with pytest.raises(BadSyntax):
        parse(b" 1 " + text, fetch, "FETCH")


def test_modifiers():
    fetched = parse(b" 1:* (FLAGS) (CHANGEDSINCE 12345 VANISHED)", uid_fetch, "UID FETCH")
    assert fetched == Fetch(NumberSet(((1, None),), True), (Item.FLAGS,), 12345, True)
    assert parse(b" 1 FLAGS (CHANGEDSINCE 0)", fetch, "FETCH").changed_since == 0
    with pytest.raises(BadSyntax):
        parse(b" 1 FLAGS (VANISHED)", uid_fetch, "UID FETCH")


def test_the_column_is_that_of_the_command():
    with pytest.raises(BadSyntax) as caught:
        parse(b" 1 (FLAGS FOO)", fetch, "FETCH")
    assert caught.value.text == "Expected an item to fetch that this server knows at column 19, found FOO)"


def test_more_than_is_remembered():
    text = b"(BODY[HEADER.FIELDS (" + b" ".join(b"X-%d" % n for n in range(200)) + b")])"
    assert len(parse(b" 1 " + text, fetch, "FETCH").items[0].section.fields) == 200
