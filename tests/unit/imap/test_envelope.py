from __future__ import annotations

import pytest

from mailserver.imap.responses.envelope import envelope
from mailserver.imap.responses.strings import astring, human, nstring, string, unfolded

NONE = b"NIL NIL NIL NIL NIL NIL NIL"


def test_all_fields() -> None:
    header = (
        b"Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\r\nFrom: Fred Foobar <foobar@Blurdybloop.example>\r\n"
        b"Subject: afternoon meeting\r\nTo: mooch@owatagu.siam.edu.example, a@b\r\n"
        b"Message-Id: <B27397-0100000@Blurdybloop.example>\r\nIn-Reply-To: <x@y>\r\n\r\n"
    )
    fred = b'(("Fred Foobar" NIL "foobar" "Blurdybloop.example"))'
    assert envelope(header) == (
        b'("Mon, 7 Feb 1994 21:52:25 -0800 (PST)" "afternoon meeting" %b %b %b '
        b'((NIL NIL "mooch" "owatagu.siam.edu.example")(NIL NIL "a" "b")) NIL NIL "<x@y>" '
        b'"<B27397-0100000@Blurdybloop.example>")' % (fred, fred, fred)
    )


def test_nothing() -> None:
    assert envelope(b"") == envelope(b"\r\n") == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"a@b", b'(NIL NIL "a" "b")'),
        (b"a", b'(NIL NIL "a" "MISSING_DOMAIN")'),
        (b"<a@b>", b'(NIL NIL "a" "b")'),
        (b"<>", b'(NIL NIL "MISSING_MAILBOX" "MISSING_DOMAIN")'),
        (b"a b", b'("a b" NIL "MISSING_MAILBOX" "MISSING_DOMAIN")'),
        (b"<a@b", b'(NIL NIL "a" "SYNTAX_ERROR")'),
        (b"<@x,@y:a@b>", b'(NIL "@x,@y" "a" "b")'),
        (b"<@a c@d>", b'(NIL "INVALID_ROUTE" "c" "d")'),
        (b"a@b (c(d))", b'("c(d)" NIL "a" "b")'),
        (
            b"g: a@b, c;, d@e",
            b'(NIL NIL "g" NIL)(NIL NIL "a" "b")(NIL NIL "c" "MISSING_DOMAIN")(NIL NIL NIL NIL)(NIL NIL "d" "e")',
        ),
        (b'"a\\"b" <c@d>', b'({3}\r\na"b NIL "c" "d")'),
        (b"=?utf-8?q?x?= <c@[1.2]>", b'("=?utf-8?q?x?=" NIL "c" "[1.2]")'),
        (b"a@b,\r\n\tc@d", b'(NIL NIL "a" "b")(NIL NIL "c" "d")'),
        (b"a@b,,c@d", b'(NIL NIL "a" "b")(NIL NIL "MISSING_MAILBOX" "MISSING_DOMAIN")(NIL NIL "c" "d")'),
        (b"a . b @ c . d", b'({4}\r\na. b NIL "MISSING_MAILBOX" "MISSING_DOMAIN")'),
        (b"a.@b", b'(NIL NIL "a." "b")'),
        (b"\xe9@b", b'(NIL NIL {1}\r\n\xe9 "b")'),
    ],
)
def test_addresses(value: bytes, shown: bytes) -> None:
    assert envelope(b"To: " + value + b"\r\n\r\n") == b"(NIL NIL NIL NIL NIL (%b) NIL NIL NIL NIL)" % shown


@pytest.mark.parametrize("value", [b"", b" ", b"(a)", b"(a"])
def test_no_address(value: bytes) -> None:
    assert envelope(b"To: " + value + b"\r\n\r\n") == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"


def test_twice() -> None:
    shown = envelope(b"Subject: a\r\nTo: a@b\r\nSubject: b\r\nTo: c@d\r\n\r\n")
    assert shown == b'(NIL "b" NIL NIL NIL ((NIL NIL "a" "b")(NIL NIL "c" "d")) NIL NIL NIL NIL)'


def test_sender_and_reply_to_are_from() -> None:
    shown = envelope(b"From: a@b\r\nReply-To: c@d\r\nSender:\r\n\r\n")
    assert shown == (b'(NIL NIL ((NIL NIL "a" "b")) ((NIL NIL "a" "b")) ((NIL NIL "c" "d")) NIL NIL NIL NIL NIL)')


def test_strings() -> None:
    assert string(b"a") == b'"a"'
    assert string(b'"\\') == b'"\\"\\\\"'
    assert string(b'"""""') == b'{5}\r\n"""""'
    assert string(b"\xff") == b"{1}\r\n\xff"
    assert string(b"a\r") == b"{2}\r\na\r"
    assert nstring(None) == b"NIL"
    assert astring(b"INBOX") == b"INBOX"
    assert astring(b"nil") == b'"nil"'
    assert astring(b"") == b'""'
    assert astring(b"a b") == b'"a b"'
    assert astring(b"a%") == b'"a%"'
    assert unfolded(b"a\n b\r") == b'"a b"'
    assert unfolded(b"a\rb") == b'"a b"'
    assert human(b"a\n\t b ") == b"{3}\r\na b"
    assert human(b" \n ") == b'""'
    assert human(b"a b") == b'"a b"'


def test_nul_is_replaced() -> None:
    assert envelope(b"Subject: a\0b\r\n\r\n") == b"(NIL {5}\r\na\xef\xbf\xbdb " + NONE + b" NIL)"
