"""Binary parts made base64, and nothing else."""

from __future__ import annotations

import base64

import pytest

from mailserver.mail import encodings, structure
from mailserver.mail.unbinary import to_base64, to_binary

HEADER = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"


@pytest.mark.parametrize("body", [b"a\0b", b"a\nb\r\n", b"\0" * 1000, b"\n", bytes(range(256)) * 3])
def test_alone(body: bytes) -> None:
    made = to_base64(HEADER + b"content-transfer-encoding:\r\n BINARY\r\nX: y\r\n\r\n" + body)
    assert made.startswith(HEADER + b"content-transfer-encoding: base64\r\nX: y\r\n\r\n")
    root = structure.parse(made)
    assert encodings.decode(root.body(made), root.encoding) == body
    assert b"\0" not in made
    assert b"\n" not in made.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "message",
    [
        HEADER + b"Content-Transfer-Encoding: binary\r\n\r\na\xff\r\n",
        HEADER + b"\r\na\0\nb",
        b"a\nb\0",
        b"",
        HEADER + b"Content-Transfer-Encoding: 8bit\r\n\r\na\0",
    ],
)
def test_left_alone(message: bytes) -> None:
    assert to_base64(message) == message


def test_within() -> None:
    binary = b"Content-Transfer-Encoding: binary\r\n\r\n"
    start = b'Content-Type: multipart/mixed; boundary="b"\r\n' + binary + b"pre\r\n--b\r\n"
    made = to_base64(start + binary + b"1\0\r\n--b\r\n\r\ntext\r\n--b\r\n" + binary + b"2\n\r\n--b--\r\nend\r\n")
    first, second = base64.b64encode(b"1\0"), base64.b64encode(b"2\n")
    changed = binary.replace(b"binary", b"base64")
    assert (
        made == start + changed + first + b"\r\n--b\r\n\r\ntext\r\n--b\r\n" + changed + second + b"\r\n--b--\r\nend\r\n"
    )


def test_back() -> None:
    start = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    message = start + b"--b\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n\r\n--b--\r\n"
    stored = to_base64(message)
    root = structure.parse(stored)
    assert to_binary(stored, root, 0) == message
    assert to_binary(stored, root, root.body_start) == message[len(start) :]


def test_back_unknown() -> None:
    message = HEADER + b"Content-Transfer-Encoding: x-strange\r\n\r\na"
    with pytest.raises(ValueError, match="unknown"):
        to_binary(message, structure.parse(message), 0)
