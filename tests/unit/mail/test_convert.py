"""Binary to 8bit, 8bit to 7bit: what parts hold is the same afterwards, from bytes and from a mapped file."""

from __future__ import annotations

import mmap
import tempfile

import pytest

from mailserver.mail import structure
from mailserver.mail.convert import Mapped, Unconvertible, convert


def converted(message: bytes, target: bytes) -> bytes:
    octets = b"".join(convert(message, target))
    with tempfile.TemporaryFile() as file:
        file.write(message)
        file.flush()
        with Mapped(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert b"".join(convert(mapped, target)) == octets  # type: ignore[arg-type]
    lines = octets.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    assert max(map(len, lines)) <= 998
    assert target == b"8bit" or octets.isascii()
    return octets


def multipart(*parts: bytes, encoding: bytes = b"binary") -> bytes:
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: %b\r\n\r\n"
    return head % encoding + b"".join(b"--x\r\n%b\r\n" % part for part in parts) + b"--x--\r\n"


def contents(message: bytes) -> list[bytes]:
    return [structure.decoded_body(message, part) for part in structure.parse(message).children]


@pytest.mark.parametrize("target", [b"8bit", b"7bit"])
@pytest.mark.parametrize(
    "octets",
    [bytes(range(256)), b"", b"\n", b"\r", b"\0", b"a" * 3000, b"x\r\n" * 40, b"\xff" * 999, b"\r\n", b"y" * 57 * 2048],
)
def test_binary_part(octets: bytes, target: bytes) -> None:
    part = b"Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + octets
    assert contents(converted(multipart(part, part), target)) == [octets, octets]


@pytest.mark.parametrize("text", ["schön \r\n\r\n.x=\t\r\nFrom me\r\n", "ä" * 400, "=\r\n", "é\r\n" * 3000])
def test_text_becomes_quoted_printable(text: str) -> None:
    part = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode()
    found = converted(multipart(part, encoding=b"8bit"), b"7bit")
    assert contents(found) == [text.encode()]
    if "=" in text or "é" in text:
        assert (b"quoted-printable" in found) == (not text.isascii())
    assert b"Content-Transfer-Encoding: 8bit" not in found


def test_labels_are_true() -> None:
    seven = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nascii"
    found = converted(multipart(seven), b"7bit")
    assert found.count(b"Content-Transfer-Encoding: 7bit") == 2
    assert converted(multipart(seven, encoding=b"8bit"), b"8bit") == multipart(seven, encoding=b"8bit")


def test_message_within_a_message() -> None:
    inner = b"Subject: in\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xa4\r\n"
    outer = b"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + inner
    found = converted(outer, b"7bit")
    assert b"Content-Transfer-Encoding: 7bit\r\n\r\nMIME-Version: 1.0\r\nSubject: in" in found
    (message,) = structure.parse(found).children
    assert structure.decoded_body(found, message) == b"\xc3\xa4\r\n"


def test_a_message_without_mime() -> None:
    found = converted(b"Subject: x\r\n\r\n\xe4\r\n", b"7bit")
    assert found.startswith(b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\nSubject: x\r\n")
    assert found.endswith(b"\r\n\r\n=E4\r\n")
    assert converted(b"Subject: x\r\n\r\nhi\r\n", b"7bit") == b"Subject: x\r\n\r\nhi\r\n"


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: \xe4\r\n\r\nx\r\n",
        b"MIME-Version: 1.0\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\n\xe4\r\n",
        multipart(b"Content-Type: text/plain\r\n\r\nx").replace(b"\r\n\r\n--x", b"\r\n\r\n\xe4\r\n--x", 1),
    ],
)
def test_unconvertible(message: bytes) -> None:
    with pytest.raises(Unconvertible):
        b"".join(convert(message, b"7bit"))
