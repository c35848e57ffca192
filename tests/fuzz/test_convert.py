"""Any octets at all: conversion ends, keeps every content, and gives what was asked for, or says that it cannot."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.mail import structure
from mailserver.mail.convert import Unconvertible, convert

EXAMPLES = int(os.environ.get("FUZZ_N", "150"))
_HEADERS = st.sampled_from(
    [
        b"",
        b"Content-Type: text/plain\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n",
        b"Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n",
        b"content-transfer-encoding:\r\n\tquoted-printable\r\nContent-Type: text/x\r\n",
    ]
)
_BODY = st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b"\n", b"\r", b"\0", b"--x\r\n", b"."])))
_PARTS = st.lists(st.builds(lambda header, body: header + b"\r\n" + b"".join(body), _HEADERS, _BODY), max_size=4)


@settings(max_examples=EXAMPLES, deadline=None)
@given(_PARTS, st.sampled_from([b"8bit", b"7bit"]), st.booleans())
def test_nothing_is_lost(parts: list[bytes], target: bytes, whole: bool) -> None:
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    message = (parts or [b""])[0] if whole else head + b"".join(b"--x\r\n%b\r\n" % p for p in parts) + b"--x--\r\n"
    try:
        found = b"".join(convert(message, target))
    except Unconvertible:
        assert target == b"7bit"
        return
    assert target == b"8bit" or found.isascii()
    assert _contents(found) == _contents(message)


def _contents(message: bytes) -> list[bytes]:
    found, stack = [], [structure.parse(message)]
    while stack:
        part = stack.pop()
        stack += part.children
        if not part.children:
            try:
                found.append(structure.decoded_body(message, part))
            except ValueError:  # an encoding that nobody knows: what is there is the content
                found.append(part.body(message))
    return found
