"""Headers in UTF-8, said in ASCII. RFC 6856 section 2.1."""

from __future__ import annotations

import email
import email.policy

import pytest

from mailserver.mail import headers, surrogate
from tests.messages import corpus


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("Subject: Grüße", "Subject: =?utf-8?b?R3LDvMOfZQ==?="),
        ("Subject: plain", "Subject: plain"),
        ("Subject: folded\r\n ü", "Subject: =?utf-8?b?Zm9sZGVkIMO8?="),
        ("From: Jörg <j@example.com>", "From: =?utf-8?b?SsO2cmc=?= <j@example.com>"),
        ('To: "A, B" <a@bücher.example>', 'To: "A, B" <a@xn--bcher-kva.example>'),
        ("Cc: jörg@example.com", "Cc: =?utf-8?b?PGrDtnJnQGV4YW1wbGUuY29tPg==?=:;"),
        ("To: Team ü: a@b, c@d;", "To: =?utf-8?q?Team_=C3=BC?=: a@b, c@d;"),
        ("To: T: ü@b;", "To: T: =?utf-8?b?PMO8QGI+?= <unreachable@internationalised.invalid>;"),
        ("To: ü:;", "To: =?utf-8?b?w7w=?=:;"),
        ('To: "a b"@ü.example', 'To: "a b"@xn--tda.example'),
        (
            'Content-Type: text/plain; charset=utf-8; name="ü \\"x\\".txt"',
            "Content-Type: text/plain; charset=utf-8; name*=utf-8''%C3%BC%20%22x%22.txt",
        ),
        ("Content-Disposition: attachment; filename=ü", "Content-Disposition: attachment; filename*=utf-8''%C3%BC"),
        ("Content-Type: tüxt/plain", "Content-Type: t?xt/plain"),
        ("Message-ID: <ü@x>", ""),
        ("X-Ü: y", ""),
        ("no colon ü", ""),
    ],
)
def test_fields(field: str, expected: str) -> None:
    made = surrogate.header(f"A: b\r\n{field}\r\nC: d\r\n\r\n".encode())
    assert made.decode("ascii") == f"A: b\r\n{expected}" + ("\r\n" if expected else "") + "C: d\r\n\r\n"


def test_latin1_is_read_as_such() -> None:
    assert surrogate.header(b"Subject: \xfc\r\n\r\n") == b"Subject: =?utf-8?b?w7w=?=\r\n\r\n"


def test_encoded_words_are_short() -> None:
    made = surrogate.header(("Subject: " + "größte Wörter " * 40 + "\r\n\r\n").encode())
    assert max(map(len, made.split(b"\r\n"))) <= 76
    parsed = email.message_from_bytes(made, policy=email.policy.default)
    assert parsed["Subject"].strip() == ("größte Wörter " * 40).strip()


def test_growth() -> None:
    header = "Subject: ü\r\n\r\n".encode()
    assert len(header) + surrogate.growth(header) == len(surrogate.header(header))
    assert surrogate.growth(b"a: b\r\n\r\n") == 0


def test_every_header_of_the_corpus_becomes_ascii_and_stays_a_header() -> None:
    changed = 0
    for octets in corpus():
        header, _ = headers.split(octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        made = surrogate.header(header)
        assert made.isascii()
        assert made.endswith(b"\r\n\r\n") == header.endswith(b"\r\n\r\n")
        assert (made == header) is header.isascii()
        changed += made != header
        assert surrogate.header(made) is made
    assert changed
