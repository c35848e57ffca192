"""Whatever stands in headers, lists, names and lines: an answer in the protocol, ASCII where it must be, no error.

FUZZ_N: how many inputs for each.
"""

from __future__ import annotations

import contextlib
import os
import random

from mailserver.auth import saslprep
from mailserver.mail import headers, surrogate
from mailserver.pop3 import parse, stream
from mailserver.pop3.errors import BadCommand
from mailserver.store.formats.maildir import sizelist
from tests.messages import corpus, mutated

N = int(os.environ.get("FUZZ_N", "500"))
SEED = int(os.environ.get("FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
_ODD = [*"äöü\u0085\u2028\u2029\u00ad\u200b\u200e\u05d3\ufdfa\U0001f600\ufffd\ue000", "\udcff", "=?utf-8?q?x?="]
_ODD += ['"', "\\", ",", ":", ";", "<", "@", "(", ")", "\r\n ", "\n\t", "\0", "name=", ".", " ", "x" * 90, "[", "a"]


def test_surrogates_are_ascii_headers() -> None:
    print(f"FUZZ_SEED={SEED}")
    rng = random.Random(SEED)
    messages = [octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for octets in corpus()]
    names = ["From", "To", "Subject", "Content-Type", "Content-Disposition", "Message-ID", "X-Ä", "Sender", "Keywords"]
    for number in range(N):
        if number % 2:
            header = headers.split(mutated(rng, rng.choice(messages)))[0]
        else:
            fields = [
                f"{rng.choice(names)}: {''.join(rng.choices(_ODD, k=rng.randrange(1, 30)))}\r\n"
                for _ in range(rng.randrange(1, 6))
            ]
            header = ("".join(fields) + "\r\n").encode("utf-8", "surrogateescape")
        made = surrogate.header(header)
        assert made.isascii(), (SEED, number)
        assert len(header) + surrogate.growth(header) == len(made)
        # no field becomes two, none ends the header before its time
        assert {f.name for f in headers.iterate(made)} <= {f.name for f in headers.iterate(header)}, (SEED, number)
        assert headers.end_of(made) == len(made), (SEED, number)


def test_prepared_twice_is_prepared_once() -> None:
    rng = random.Random(SEED)
    for number in range(N):
        text = "".join(rng.choices([*_ODD, chr(rng.randrange(0x11000))], k=rng.randrange(8)))
        with contextlib.suppress(saslprep.Prohibited):
            prepared = saslprep.prepare(text)
            assert saslprep.prepare(prepared) == prepared, (SEED, number, text)
        assert saslprep.spellings(text.encode("utf-8", "surrogatepass"))


def test_couriers_list_may_hold_anything() -> None:
    rng = random.Random(SEED)
    pieces = [
        b"/3 9 111\n",
        b"/1 4\n",
        b"/",
        b"name:2,S",
        b" ",
        b"5",
        b"7:111:0",
        b"\n",
        b":",
        b"\xff",
        b"\0",
        b"x" * 90,
    ]
    for _ in range(N):
        for base, uidl in sizelist.parse(b"".join(rng.choices(pieces, k=rng.randrange(20)))).items():
            assert base
            assert all("!" <= c <= "~" for c in uidl)


def test_arguments() -> None:
    rng = random.Random(SEED)
    pieces = [b" ", b"1", b"-1", b"99999999999", b"x", b"\xff", b"\xc3\xa4", b"=", b"AGE=", b"\0", b"  "]
    readers = [parse.nothing, parse.number, parse.maybe_number, parse.top, parse.user, parse.password, parse.apop]
    for _ in range(N):
        argument = b"".join(rng.choices(pieces, k=rng.randrange(6)))
        for read in [*readers, parse.auth, parse.language]:
            with contextlib.suppress(BadCommand):
                read(argument)


def test_stuffing_however_a_message_is_cut() -> None:
    """RFC 1939 section 3: what a client makes of it is the message."""
    rng = random.Random(SEED)
    for _ in range(N):
        octets = b"".join(rng.choices([b".", b"\r\n", b"x", b"..", b"\r\n.", b"\r", b"y" * 40], k=rng.randrange(30)))
        cuts = sorted(rng.choices(range(len(octets) + 1), k=4))
        chunks = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
        sent = b"".join(stream.stuffed(chunks))
        assert sent.endswith(b".\r\n")
        ended = octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"
        lines = (b"\r\n" + sent).split(b"\r\n")[1:-2]
        assert b".\r\n" not in [line + b"\r\n" for line in lines if line == b"."]
        assert b"".join(line.removeprefix(b".") + b"\r\n" for line in lines) == ended
        top = b"".join(stream.top(chunks, 2))
        assert octets.startswith(top)
