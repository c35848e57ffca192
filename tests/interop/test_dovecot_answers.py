"""FETCH, SEARCH, SORT and THREAD: our answers and Dovecot's over the same Maildir, octet for octet.

``FUZZ_N`` is how many mutated messages are compared (60), ``FUZZ_SEED`` which.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop import questions
from tests.interop.dovecot import Dovecot
from tests.interop.serving import PASSWORD, serve
from tests.interop.wire import Wire, fetched
from tests.messages import corpus, mutated

_KEYWORDS = ("work", "$Forwarded", "NonJunk")
_FETCHES = """
FLAGS|INTERNALDATE|RFC822.SIZE|ENVELOPE|BODY|BODYSTRUCTURE|FAST|ALL|FULL|(UID FLAGS)|(FLAGS INTERNALDATE RFC822.SIZE)
RFC822.HEADER|BODY.PEEK[]|BODY.PEEK[HEADER]|BODY.PEEK[TEXT]|BODY.PEEK[1]|BODY.PEEK[1.MIME]|BODY.PEEK[2]|BODY.PEEK[2.1]
BODY.PEEK[1.1]|BODY.PEEK[1.TEXT]|BODY.PEEK[1.HEADER]|BODY.PEEK[2.HEADER]|BODY.PEEK[2.MIME]|BODY.PEEK[3]|BODY.PEEK[9]
BODY.PEEK[]<0.10>|BODY.PEEK[]<5.1000>|BODY.PEEK[]<100000.10>|BODY.PEEK[TEXT]<3.7>|BODY.PEEK[HEADER]<20.40>
BODY.PEEK[1]<0.100>|BODY.PEEK[1.MIME]<2.10>|BODY.PEEK[]<0.1>|BODY.PEEK[HEADER.FIELDS (DATE FROM)]<5.20>
BODY.PEEK[HEADER.FIELDS (DATE FROM SUBJECT TO CC MESSAGE-ID REFERENCES CONTENT-TYPE IN-REPLY-TO)]
BODY.PEEK[HEADER.FIELDS.NOT (RECEIVED)]|BODY.PEEK[HEADER.FIELDS (X-NOBODY)]|BODY.PEEK[1.HEADER.FIELDS (SUBJECT)]
BODY.PEEK[2.HEADER.FIELDS.NOT (SUBJECT)]|(UID RFC822.SIZE ENVELOPE BODYSTRUCTURE)
"""


class Twins:
    """Dovecot and this server, each with its copy of the same INBOX, selected."""

    def __init__(self, messages: list[bytes], theirs: Wire, ours: Wire) -> None:
        self.messages = messages
        self.theirs = theirs
        self.ours = ours
        self.guessed = {uid for uid, octets in enumerate(messages, 1) if questions.guessed(octets)}
        self.undated = {uid for uid, octets in enumerate(messages, 1) if not questions.dated(octets)}

    def differing(self, command: bytes, apart: set[int]) -> str:
        """How the numbers that a SEARCH finds differ, empty when they do not; those in ``apart`` are not looked at."""
        theirs, ours = self.theirs.numbers(command), self.ours.numbers(command)
        if theirs is None or ours is None:
            return "" if theirs is ours else f"{command!r}: {self.theirs.completion!r} {theirs} {ours}"
        first, second = set(theirs) - apart, set(ours) - apart
        return f"{command!r}: Dovecot finds {first - second}, ours {second - first}" if first != second else ""


@contextmanager
def twins(folder: Path, messages: list[bytes]) -> Iterator[Twins]:
    with Dovecot() as dovecot:
        for number, path in enumerate(dovecot.deliver("user1", messages)):
            os.utime(path, (1_500_000_000 + number * 40_000,) * 2)
        with Wire(dovecot.imap_port, "user1", PASSWORD) as theirs:
            theirs("SELECT INBOX")
            for number, name in enumerate((*_KEYWORDS, "\\Seen", "\\Flagged", "\\Answered", "\\Draft")):
                theirs(
                    f"STORE {','.join(str(n) for n in range(1 + number, len(messages), number + 2))} +FLAGS ({name})"
                )
            shutil.copytree(dovecot.mail_root / "user1", folder / "ours" / "user1")
            with serve(folder / "ours") as app, Wire(app.ports["imap"], "user1", PASSWORD) as ours:
                ours("SELECT INBOX")
                yield Twins(messages, theirs, ours)


def _mutated(default: int) -> list[bytes]:
    chance = random.Random(int(os.environ.get("FUZZ_SEED", "1")))
    base = [octets for octets in corpus() if len(octets) < 30_000]
    return [mutated(chance, chance.choice(base)) for _ in range(int(os.environ.get("FUZZ_N", default)))]


def _fetches_differ(both: Twins) -> list[str]:
    wrong = []
    for items in (each for line in _FETCHES.split("\n") for each in line.split("|") if each):
        theirs, ours = (fetched(wire(f"FETCH 1:* {items}")) for wire in (both.theirs, both.ours))
        for number in theirs.keys() | ours.keys():
            if not _alike(
                one := _flags_sorted(theirs.get(number, b"")), ours.get(number, b""), items, both.messages[number - 1]
            ):
                wrong.append(f"{number} {items}\n  Dovecot {one[:400]!r}\n  ours    {ours.get(number, b'')[:400]!r}")
    return wrong


def _flags_sorted(answer: bytes) -> bytes:
    """Keywords as we order them; \\Recent depends on who came first."""
    found = re.search(rb"FLAGS \(([^)]*)\)", answer)
    if found is None:
        return answer
    flags = [flag for flag in found[1].split() if flag != b"\\Recent"]
    system = [flag for flag in flags if flag.startswith(b"\\")]
    words = system + sorted(set(flags) - set(system))
    return answer.replace(found[0], b"FLAGS (%b)" % b" ".join(words))


def _alike(theirs: bytes, ours: bytes, items: str, message: bytes) -> bool:
    """docs/differences-from-dovecot.md: what is deliberately not alike."""
    theirs = re.sub(rb'INTERNALDATE "0', rb'INTERNALDATE " ', theirs)
    if items in ("BODY", "FULL") and theirs.lower() == ours.lower():
        return True
    if theirs == ours or "HEADER.FIELDS" not in items:
        return theirs == ours
    one, other = (re.sub(rb"\{\d+\}|\)?\s*\Z", b"", answer).rstrip() for answer in (theirs, ours))
    cut_short = ".HEADER" in items and (one.startswith(other) or other.startswith(one))
    return cut_short or b"\n\n" not in message.replace(b"\r\n", b"\n")


def _searches_differ(both: Twins, each: int) -> list[str]:
    wrong = []
    for command in questions.constant() + questions.wording(both.messages, each):
        wrong.append(both.differing(command, both.guessed | (both.undated if b"SENT" in command else set())))
    return [line for line in wrong if line]


def _orders_differ(both: Twins) -> list[str]:
    uids = [str(n) for n in range(1, len(both.messages) + 1) if n not in both.guessed | both.undated]
    assert len(uids) > len(both.messages) // 3
    wrong = []
    for command in questions.sorts(",".join(uids)):
        theirs, ours = both.theirs(command), both.ours(command)
        if theirs != ours:
            wrong.append(f"{command[:40]!r}\n  Dovecot {theirs!r}\n  ours    {ours!r}")
    return wrong


def test_corpus_is_fetched_alike(tmp_path: Path) -> None:
    with twins(tmp_path, corpus()) as both:
        assert not (wrong := _fetches_differ(both)), "\n".join(wrong[:5])


def test_corpus_is_searched_alike(tmp_path: Path) -> None:
    with twins(tmp_path, corpus()) as both:
        assert not (wrong := _searches_differ(both, 2)), "\n".join(wrong[:10])


def test_corpus_is_sorted_and_threaded_alike(tmp_path: Path) -> None:
    conversation = [_conversing(number) for number in range(30)]
    with twins(tmp_path, corpus() + conversation) as both:
        assert not (wrong := _orders_differ(both)), "\n".join(wrong[:5])


def test_mutated_messages_are_answered_alike(tmp_path: Path) -> None:
    with twins(tmp_path, _mutated(60)) as both:
        wrong = _fetches_differ(both) + _searches_differ(both, 2) + _orders_differ(both)
        assert not wrong, "\n".join(wrong[:5])


def _conversing(number: int) -> bytes:
    """One of thirty messages that answer each other, some by a message that is not there, some by subject alone."""
    chance = random.Random(number)
    above = [f"<m{chance.randrange(36)}@x>" for _ in range(chance.randrange(4))]
    subject = chance.choice(["Re: ", "Fwd: [list] ", "", "RE: re: ", "[a] "]) + chance.choice(["plan", "Öl", "z"])
    lines = [
        f"From: {chance.choice(['Ämne <a@x>', 'zed <Z@x>', 'b@x'])}",
        f"Subject: {subject}",
        f"Date: Mon, {chance.randrange(1, 28)} Feb 2016 10:{number:02}:00 +0{chance.randrange(10)}00",
        f"Message-ID: <m{number}@x>",
        *([f"References: {' '.join(above)}"] if len(above) > 1 else [f"In-Reply-To: {above[0]}"] if above else []),
    ]
    return "\r\n".join([*lines, "", f"text {number}", ""]).encode()
