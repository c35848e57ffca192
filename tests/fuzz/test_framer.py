"""However octets are split, whatever they are: the same events, bounded memory. FUZZ_N: how many inputs."""

from __future__ import annotations

import os
import random

from mailserver.imap.framer import Command, Framer, FramerLimits, LiteralAnnounced, Rejected

N = int(os.environ.get("FUZZ_N", "1500"))
LIMITS = FramerLimits(line=24, literal=12, literals=3, command=60, skip=40)
PIECES = [
    *(
        b"a1 ",
        b"NOOP",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\0",
        b"x" * 9,
        b"y" * 30,
        b"z" * 90,
        b"{",
        b"}",
        b"+",
        b"~",
        b"+}",
    ),
    *(
        b"{0}\r\n",
        b"{3}\r\n",
        b"{3+}\r\n",
        b"~{5+}\r\n",
        b"{11+}\r\n",
        b"{13}\r\n",
        b"{13+}\r\n",
        b"{41+}\r\n",
        b"{39+}\n",
    ),
    *(
        b"{99999999999999999999}\r\n",
        b"{99999999999999999999+}\r\n",
        b"{000000000000000000000000003+}\r\n",
        b"\xff\xfe",
    ),
]


def decide(framer: Framer, event: LiteralAnnounced) -> None:
    """An answer that depends on nothing but the event."""
    if event.size % 4 == 1:
        framer.refuse()
    elif event.size % 4 == 2 or not event.fits_memory:
        framer.accept_sink(lambda chunk: None)
    else:
        framer.accept_memory()


def held(framer: Framer) -> int:
    sizes = [len(framer._buffer), len(framer._overlong or b""), len(framer._memory or b"")]
    return sum(sizes) + sum(map(len, framer._lines)) + sum(len(lit.data or b"") for lit in framer._literals)


def events(chunks: list[bytes]) -> list[object]:
    framer = Framer(LIMITS)
    seen: list[object] = []
    for chunk in chunks:
        framer.feed(chunk)
        while (event := framer.next()) is not None:
            seen.append(event)
            if isinstance(event, LiteralAnnounced):
                decide(framer, event)
            if isinstance(event, Rejected) and event.fatal:
                return seen
        assert held(framer) <= LIMITS.line + LIMITS.command + LIMITS.literal + 400 + len(chunk)
    return seen


def split(rng: random.Random, data: bytes) -> list[bytes]:
    chunks = []
    while data:
        cut = rng.choice((1, 1, 2, 3, 10, 50))
        chunks.append(data[:cut])
        data = data[cut:]
    return chunks


def test_events_do_not_depend_on_the_split():
    rng = random.Random(int(os.environ.get("FUZZ_SEED", "1")))
    for _ in range(N):
        data = b"".join(rng.choices(PIECES, k=rng.randrange(1, 20)))
        whole = events([data])
        assert events(split(rng, data)) == whole, data
        assert events([data[i : i + 1] for i in range(len(data))]) == whole, data


def test_refused_octets_are_never_a_command():
    rng = random.Random(2)
    for _ in range(N):
        inside = b"".join(rng.choices([b"EVIL\r\n", b"{3+}\r\n", b"q EVIL", b"\n"], k=rng.randrange(1, 6)))[:40]
        data = b"a X {%d+}\r\n" % len(inside) + inside + b" EVIL\r\nb NOOP\r\n"
        framer = Framer(LIMITS)
        seen = []
        for chunk in split(rng, data):
            framer.feed(chunk)
            while (event := framer.next()) is not None:
                seen.append(event)
                if isinstance(event, LiteralAnnounced):
                    framer.refuse()
        assert [e for e in seen if isinstance(e, Command)] == [Command(b"b NOOP")], data
