"""The end of DATA: every mixture of CR, LF and dots, cut in every way, gives exactly one message, the reference's."""

from __future__ import annotations

import itertools
import random

import pytest

from mailserver.smtp.data import BareLines, DotReader


def reference(octets: bytes) -> tuple[bytes, bytes] | None:
    """RFC 5321 section 4.5.2, an octet at a time: the message and what follows it; None while the end is missing."""
    message = bytearray()
    line = bytearray()
    for at, octet in enumerate(octets):
        line.append(octet)
        if line.endswith(b"\r\n"):
            if line == b".\r\n":
                return bytes(message), octets[at + 1 :]
            message += line[1:] if line.startswith(b".") else line
            line.clear()
    return None


def read(pieces: list[bytes]) -> tuple[bytes, bytes] | None:
    reader = DotReader()
    message = bytearray()
    for at, piece in enumerate(pieces):
        message += reader.feed(piece)
        if reader.done:
            assert reader.size == len(message)
            return bytes(message), reader.rest + b"".join(pieces[at + 1 :])
    return None


def cuts(octets: bytes) -> list[list[bytes]]:
    whole = [octets]
    single = [octets[i : i + 1] for i in range(len(octets))]
    twos = [[octets[:i], octets[i:]] for i in range(1, len(octets))]
    return [whole, single, *twos]


@pytest.mark.parametrize("length", range(8))
def test_every_short_text(length: int) -> None:
    for letters in itertools.product(b"\r\n.x", repeat=length):
        text = bytes(letters)
        wanted = reference(text)
        assert read([text]) == wanted, text
        assert read([text[i : i + 1] for i in range(len(text))]) == wanted, text


def test_random_texts_in_every_cut() -> None:
    chance = random.Random(5321)
    parts = [
        b"\r\n",
        b".",
        b"\r\n.",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r\n.\n",
        b"\r\n.\r",
        b"abc",
        b"\0",
    ]
    for _ in range(400):
        text = b"".join(chance.choices(parts, k=chance.randint(1, 9)))
        wanted = reference(text)
        for pieces in cuts(text):
            assert read(pieces) == wanted, pieces


def test_what_follows_is_left_alone() -> None:
    assert read([b"a\r\n.\r\nQUIT\r\n.\r\n"]) == (b"a\r\n", b"QUIT\r\n.\r\n")
    assert read([b".\r\nQUIT\r\n"]) == (b"", b"QUIT\r\n")


def test_memory_is_bounded() -> None:
    reader = DotReader()
    for _ in range(1000):
        assert len(reader.feed(b"\r\n.\r" * 1000)) > 0
        assert len(reader._held) <= 4


@pytest.mark.parametrize("text", [b"", b"a\r\nb\r\n", b"\r\n\r\n"])
def test_no_bare_line(text: bytes) -> None:
    for pieces in cuts(text):
        look = BareLines()
        for piece in pieces:
            look.look(piece)
        assert not look.end()


@pytest.mark.parametrize("text", [b"\n", b"\r", b"a\nb\r\n", b"a\rb\r\n", b"\r\r\n", b"\r\n\r", b"\n\r"])
def test_bare_line(text: bytes) -> None:
    for pieces in cuts(text):
        look = BareLines()
        for piece in pieces:
            look.look(piece)
        assert look.end(), pieces
