"""Messages to test with: the corpus of this repository, CPython's own, and a mutator."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

_PIECES = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\xe9",
        b"\xff",
        b'"',
        b"\\",
        b"(",
        b")",
        b"<",
        b">",
        b"@",
        b",",
        b";",
        b":",
        b".",
    ),
    *(b".", b"[", b"]", b"=", b"*", b" ", b"\t", b"\r\n ", b"\r\n\t", b"--", b"\r\n--", b"\r\n\r\n", b"a", b"''", b"%"),
    *(b"/", b'\\"', b"=?utf-8?q?x_y?=", b"\x01", b"\x7f", b"a@b", b"<a@b>", b"*0", b"*1*", b"--b--", b"\r\n--b\r\n"),
]


def corpus() -> list[bytes]:
    """Return every message of tests/corpus and, where it is installed, of CPython's test.test_email."""
    files = sorted(CORPUS.glob("*.eml"))
    try:
        found = find_spec("test.test_email.data")
    except ModuleNotFoundError:  # Debian ships it apart
        found = None
    for place in (found.submodule_search_locations or []) if found else []:
        files += sorted(Path(place).glob("*.txt"))
    return [path.read_bytes() for path in files]


def mutated(chance: random.Random, message: bytes) -> bytes:
    """Return the message with a few things wrong."""
    octets = bytearray(message)
    for _ in range(chance.randint(1, 6)):
        if not octets:
            break
        at = chance.randrange(len(octets))
        kind = chance.random()
        if kind < 0.25:
            octets[at : at + chance.randint(0, 2)] = chance.choice(_PIECES)
        elif kind < 0.4:
            del octets[at : at + chance.randint(1, 30)]
        elif kind < 0.45:
            del octets[max(at, 10) :]
        elif kind < 0.85:
            octets = bytearray(_lines_moved(chance, bytes(octets)))
        else:
            octets[at:at] = octets[chance.randrange(len(octets)) :][: chance.randint(1, 60)]
    return bytes(octets)


def _lines_moved(chance: random.Random, message: bytes) -> bytes:
    lines = message.split(b"\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    kind = chance.random()
    if kind < 0.5:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind < 0.75:
        del lines[one]
    else:
        lines.insert(other, lines[one])
    return b"\n".join(lines)
