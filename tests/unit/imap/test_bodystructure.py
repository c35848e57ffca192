from __future__ import annotations

import pytest

from mailserver.imap.responses.bodystructure import body, bodystructure
from mailserver.mail import structure

TEXT = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" %d %d NIL NIL NIL NIL)'


def show(message: bytes) -> bytes:
    return bodystructure(message, structure.parse(message))


def test_plain() -> None:
    message = b"Subject: x\r\n\r\na\r\nb"
    assert show(message) == TEXT % (4, 1)
    assert body(message, structure.parse(message)) == b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 1)'


def test_all_extension_data() -> None:
    message = (
        b'MIME-Version: 1.0\r\nContent-Type: image/gif; name="a b"\r\nContent-ID: <i>\r\nContent-Description: d\r\n'
        b"Content-Transfer-Encoding: base64 (c)\r\nContent-MD5: m==\r\nContent-Disposition: attachment; filename=x\r\n"
        b"Content-Language: en, de\r\nContent-Location: http://x/\r\n\r\nAAAA"
    )
    assert show(message) == (
        b'("image" "gif" ("name" "a b") "<i>" "d" "base64" 4 "m==" ("attachment" ("filename" "x")) ("en" "de") "http://x/")'
    )


def test_without_mime_version_other_fields_mean_nothing() -> None:
    assert show(b"Content-ID: <i>\r\n\r\n") == TEXT % (0, 0)


def test_multipart() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\r\none\r\n--b\r\n"
        b"Content-Type: text/html; charset=utf-8\r\n\r\ntwo\r\n\r\n--b--\r\nepilogue"
    )
    assert show(message) == (
        b"(" + TEXT % (3, 0) + b'("text" "html" ("charset" "utf-8") NIL NIL "7bit" 5 1 NIL NIL NIL NIL)'
        b' "mixed" ("boundary" "b") NIL NIL NIL)'
    )


def test_enclosed_message() -> None:
    message = b"Content-Type: message/rfc822\r\n\r\nSubject: s\r\n\r\nhi\r\n"
    assert show(message) == (
        b'("message" "rfc822" NIL NIL NIL "7bit" 18 (NIL "s" NIL NIL NIL NIL NIL NIL NIL NIL) '
        + TEXT % (4, 1)
        + b" 3 NIL NIL NIL NIL)"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"", b'("" "" NIL'),
        (b"text", b'("text" "" ("charset" "us-ascii")'),
        (b"text/", b'("" "" NIL'),
        (b"multipart", b'("application" "octet-stream" NIL'),
        (b"text/plain; a*0=x; a*1=y", b'("text" "plain" ("a" "xy" "charset" "us-ascii")'),
        (b"a/b; n*0*=utf-8''x%20; n*1=\"y z\"", b'("a" "b" ("n*" "utf-8\'\'x%20y z")'),
        (b"a/b; n*0=x; n*2=y; c=d", b'("a" "b" ("c" "d" "n*0" "x" "n*2" "y")'),
        (b"a/b; n*0=x; n*1=y; m*=utf-8''z", b'("a" "b" ("m*" "utf-8\'\'z" "n" "xy")'),
        (b"a/b; n==?utf-8?q?x?=; c=d", b'("a" "b" ("n" "=?utf-8?q?x?=" "c" "d")'),
        (b'a/b; c="d', b'("a" "b" NIL'),
        (b"a/b (x); (y) c (z) = d", b'("a" "b" ("c" "d")'),
    ],
)
def test_content_types(value: bytes, shown: bytes) -> None:
    assert show(b"Content-Type: " + value + b"\r\n\r\n").startswith(shown)


def test_too_deep_is_opaque() -> None:
    deep = b"Content-Type: message/rfc822\r\n\r\n" * 150
    assert show(deep).count(b'"rfc822"') == 99
    assert b'"application" "octet-stream"' in show(deep)
