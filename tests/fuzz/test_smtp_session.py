"""Whole sessions of nonsense: every line gets one well-formed reply, nothing is a fault, nobody hangs."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.unit.smtp.serving import Client, serving

LINES = [
    b"EHLO x",
    b"HELO x",
    b"LHLO x",
    b"MAIL FROM:<a@b.example>",
    b"MAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x",
    b"RCPT TO:<alice@example.com>",
    b"RCPT TO:<nobody@example.com> NOTIFY=NEVER ORCPT=rfc822;x",
    b"DATA\r\nSubject: x\r\n\r\ntext\r\n.",
    b"BDAT 5\r\nhello",
    b"BDAT 7 LAST\r\nworld",
    b"RSET",
    b"NOOP x",
    b"VRFY alice",
    b"HELP",
    b"AUTH PLAIN AGFsaWNlAHNlY3JldA==",
    b"AUTH LOGIN\r\nYWxpY2U=\r\nc2VjcmV0",
    b"STARTTLS",
    b"\0\xff\xfe",
    b"",
]
PIECES = [
    b"\r",
    b"\n",
    b"\0",
    b"\xff",
    b"<",
    b">",
    b'"',
    b"\\",
    b"@",
    b":",
    b" ",
    b"=",
    b"+",
    b"[",
    b"]",
    b"\xc3\xbc",
    b"9" * 30,
]
_REPLY = re.compile(rb"(?:[2-5]\d\d-[ -~]*\r\n)*[2-5]\d\d [ -~]*\r\n")


def mutated(chance: random.Random, line: bytes) -> bytes:
    octets = bytearray(line)
    for _ in range(chance.choice((0, 0, 1, 3))):
        at = chance.randint(0, len(octets))
        octets[at : at + chance.randint(0, 3)] = chance.choice(PIECES)
    return bytes(octets) + b"\r\n"


@pytest.mark.parametrize("kind", ["smtp", "submission", "lmtp"])
def test_nonsense(tmp_path: Path, kind: str, log_lines: list[str]) -> None:
    chance = random.Random(2821)
    with serving(tmp_path, kind) as server:
        for _ in range(60):
            with Client(server, "") as client:
                script = b"".join(mutated(chance, chance.choice(LINES)) for _ in range(chance.randint(1, 25)))
                # whatever state it is in, this ends it: out of chunks and data, then out of the session
                client.send(script + b"x" * 0 + b"\r\n.\r\n*\r\n*\r\n*\r\nQUIT\r\n")
                client.sock.shutdown(1)
                said = client.file.read()
            assert re.fullmatch(rb"(?:" + _REPLY.pattern + rb")*", said), said
    faults = [line for line in log_lines if "event=fault" in line]
    assert not faults, faults
