"""Lines, words, dates, transfer encodings and the text that is searched."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail import dates, encodings, text, words
from mailserver.mail.lines import CrlfWriter, to_crlf, vsize


@given(st.lists(st.binary() | st.text("\r\nab").map(str.encode)))
def test_crlf_in_pieces(pieces: list[bytes]) -> None:
    writer = CrlfWriter()
    whole = b"".join(pieces)
    converted = b"".join([writer.convert(piece) for piece in pieces])
    assert converted == to_crlf(whole) == re.sub(rb"(?<!\r)\n", b"\r\n", whole)
    assert writer.size == vsize(whole) == len(converted)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?q?a_=C3=A9?=", "a é"),
        (b"=?UTF-8*en?B?w6k=?= x", "é x"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),  # RFC 2047 section 8
        (b"=?utf-8?q?a?=\r\n =?iso-8859-1?q?=E9?=", "aé"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
        (b"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        (b"=?nonsense?q?=C3=A9?=", "é"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=?utf-8?b?!!!?=x", "x"),
        (b"a\r\n b", "a b"),
        (b"\xe9", "é"),
        (b"\xc3\xa9", "é"),
        (b"=?rot13?q?a?=", "a"),
        (b"=?\0?q?a?=", "a"),
        (b"=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
    ],
)
def test_words(value: bytes, shown: str) -> None:
    assert words.decode(value) == shown


@given(st.binary(), st.text())
def test_words_never_raise(value: bytes, charset: str) -> None:
    assert isinstance(words.decode(b"=?" + charset.encode() + b"?q?" + value + b"?=" + value), str)
    assert isinstance(words.to_text(value, charset), str)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("Mon, 7 Feb 1994 21:52:25 -0800 (PST)", datetime(1994, 2, 8, 5, 52, 25, tzinfo=UTC)),
        ("7 Feb 94 21:52 EST", datetime(1994, 2, 8, 2, 52, tzinfo=UTC)),
        ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", datetime(1997, 11, 21, 15, 55, 6, tzinfo=UTC)),
        ("(a(b)) 1 Jan 103 00:00:60 Z", datetime(2003, 1, 1, 0, 0, 59, tzinfo=UTC)),
        ("Mon Jan  2 15:04:05 2006", datetime(2006, 1, 2, 15, 4, 5, tzinfo=UTC)),
        ("31 Feb 2000 00:00:00 +0000", None),
        ("", None),
        ("yesterday", None),
    ],
)
def test_dates(value: str, moment: datetime | None) -> None:
    assert dates.parse(value) == moment
    assert dates.parse(value.encode()) == moment


@given(st.text() | st.binary())
def test_dates_never_raise(value: str | bytes) -> None:
    found = dates.parse(value)
    assert found is None or found.tzinfo is not None


def test_internal_date() -> None:
    moment = datetime(2006, 1, 2, 15, 4, 5, tzinfo=timezone(timedelta(hours=-7)))
    assert dates.parse_internal('" 2-Jan-2006 15:04:05 -0700"') == moment
    assert dates.format_internal(int(moment.timestamp()), -420) == '" 2-Jan-2006 15:04:05 -0700"'
    assert dates.format_internal(0) == '" 1-Jan-1970 00:00:00 +0000"'
    for bad in (
        "2-Jan-2006 15:04:05 -0700",
        "02-Foo-2006 15:04:05 -0700",
        "31-Feb-2006 15:04:05 -0700",
        "",
        "02-Jan-2006",
    ):
        with pytest.raises(ValueError, match="no"):
            dates.parse_internal(bad)


@given(st.integers(-62135510400, 253402214400), st.integers(-14 * 60, 14 * 60))
def test_internal_date_round_trip(seconds: int, offset: int) -> None:
    assert dates.parse_internal(dates.format_internal(seconds, offset)).timestamp() == seconds


def test_encodings() -> None:
    assert encodings.base64(b"aGVs\r\nbG8=") == b"hello"
    assert encodings.base64(b"aGk=aGk=") == b"hihi"
    assert encodings.base64(b"aGk") == b"hi"
    assert encodings.base64(b"a") == b""
    assert encodings.quoted_printable(b"a=3D  \r\nb=\r\nc") == b"a=\r\nbc"


@given(st.binary())
def test_encodings_never_raise(data: bytes) -> None:
    encodings.base64(data)
    encodings.quoted_printable(data)


def test_search_text() -> None:
    message = (
        b"Subject: =?utf-8?q?=C3=A4?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"gr=FC=\r\n\xdfe\r\n"
        b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\naGlkZGVu\r\n--b--\r\n"
    )
    assert "Subject: ä" in text.whole_text(message)
    assert "grüße" in text.body_text(message)
    assert "ä" not in text.body_text(message)
    assert "hidden" not in text.whole_text(message)
    assert "image/png" in text.whole_text(message)
    assert "image/png" not in text.body_text(message)
    assert text.header_values(message, b"subject") == ["ä"]


def test_search_text_without_mime_version() -> None:
    assert text.body_text(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4") == "ä"
    assert text.body_text(b"Content-Type: image/png\r\n\r\nx") == ""
    assert text.body_text(b"MIME-Version: 1.0\r\nContent-Type: message/delivery-status\r\n\r\nx") == "x"


@pytest.mark.parametrize(
    ("needle", "haystack", "found"),
    [
        ("grÜSSE", "GRüßE", False),  # RFC 5051 section 2: a simple mapping leaves ß as it is
        ("ö", "SCHÖN", True),
        ("o", "schön", True),  # decomposed: o and its dots
        ("ö", "schon", False),
        ("о", "МОСКВА", True),
        ("ı", "i", True),
        ("ſ", "S", True),
        ("fi", "ﬁ", False),  # titlecase comes first, and has none; then f and i are small letters
        ("한", "한국", True),
        ("k", "\u212a", True),
    ],
)
def test_casemap(needle: str, haystack: str, found: bool) -> None:
    assert (text.fold(needle) in text.fold(haystack)) is found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@b", "<a@b>"),
        (b'"Q. x" <a@b>, =?utf-8?q?=C3=A4?= <c@d>', '"Q. x" <a@b>, ä <c@d>'),
        (b"a@b (John Doe)", "John Doe <a@b>"),
        (b"g: a@b, c@d;", "g: <a@b>, <c@d>;"),
        (b"empty:;", "empty:;"),
        (b"word", "<word@MISSING_DOMAIN>"),
    ],
)
def test_address_values(value: bytes, expected: str) -> None:
    assert text.address_values(b"From: " + value + b"\r\n\r\n", b"from") == [expected]
