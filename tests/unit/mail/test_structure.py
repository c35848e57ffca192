from __future__ import annotations

import pytest

from mailserver.mail import headers, structure
from mailserver.mail.structure import Part

NESTED = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\none\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nhello\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/x; boundary=c\r\n\r\n"
    b"--c\r\n\r\nfirst\r\n--c\r\nContent-Transfer-Encoding: base64\r\nContent-Type: a/b\r\n\r\naGk=\r\n--c--\r\n"
    b"--b--\r\n"
)


def find(*path: int) -> Part:
    part = structure.section(structure.parse(NESTED), path)
    assert part is not None
    return part


def test_sections() -> None:
    assert find(1).body(NESTED) == b"one"
    assert find(2).header(NESTED) == b"Content-Type: message/rfc822\r\n\r\n"
    assert find(2).children[0].header(NESTED) == b"Subject: in\r\n\r\n"
    assert find(2, 1).body(NESTED) == b"hello"
    assert find(3, 1).body(NESTED) == b"first"
    assert structure.decoded_body(NESTED, find(3, 2)) == b"hi"
    root = structure.parse(NESTED)
    for path in ((4,), (1, 2), (2, 2), (1, 1, 1), (0,), (3, 3)):
        assert structure.section(root, path) is None
    assert structure.section(root, ()) is root
    assert find(1, 1).body(NESTED) == b"one"  # as Dovecot has it


def test_only_part_of_a_plain_message() -> None:
    message = b"Subject: x\r\n\r\nbody"
    root = structure.parse(message)
    assert structure.section(root, (1,)) is root
    assert structure.section(root, (2,)) is None
    assert structure.section(root, (1, 1)) is None


@pytest.mark.parametrize(
    ("rest", "bodies"),
    [
        (b"--b\r\n\r\nx\r\n--b--", [b"x"]),
        (b"--b\r\n\r\nx\r\n--b", [b"x"]),
        (b"--b\r\n\r\nx", [b"x"]),
        (b"--b\r\n\r\nx\r\n", [b"x\r\n"]),
        (b"--b \t\r\n\r\nx\r\n--bc\r\n\r\ny", [b"x", b"y"]),
        (b"--b\n\nx\n--b--\n", [b"x"]),
        (b"pre --b\r\n --b\r\n", []),
        (b"--b\r\n--b\r\n\r\nx", [b"", b"x"]),
        (b"--b--\r\n--b\r\n\r\nx", []),
        (b"--b\r\nContent-Type: text/html\r\n--b--", [b""]),
    ],
)
def test_boundaries(rest: bytes, bodies: list[bytes]) -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + rest
    assert [part.body(message) for part in structure.parse(message).children] == bodies


def test_unknown_encoding() -> None:
    message = b"Content-Type: a/b\r\nContent-Transfer-Encoding: x\r\n\r\n"
    with pytest.raises(ValueError, match="unknown"):
        structure.decoded_body(message, structure.parse(message))


def test_limit_of_parts() -> None:
    message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 50
    assert len(structure.parse(message, max_parts=11).children) == 10


def test_header_fields() -> None:
    header = b"A: 1\r\nB : 2\r\n 3\r\nno colon\r\na: 4\r\n\r\n"
    assert headers.fields(header, [b"a"]) == b"A: 1\r\na: 4\r\n\r\n"
    assert headers.fields(header, [b"A"], inverse=True) == b"B : 2\r\n 3\r\nno colon\r\n\r\n"
    assert headers.fields(header, []) == b"\r\n"
    assert headers.fields(b"A: 1", [b"A"]) == b"A: 1\r\n\r\n"
    assert headers.split(header + b"body") == (header, len(header))
    assert headers.split(b"\r\nbody") == (b"\r\n", 2)
    assert headers.pairs(header) == [(b"a", b"1"), (b"b", b"2\n 3"), (b"a", b"4")]
    assert headers.unfold(b"a\r\n b") == b"a b"
