"""An mbox read and written without the product's own code, as procmail and mutt do: under both locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

_FLAGS = {"R": "\\seen", "A": "\\answered", "F": "\\flagged", "D": "\\deleted", "T": "\\draft"}
_MESSAGE = re.compile(rb"^From .*\n((?:.+\n)*)", re.M)
_PATIENCE = 20.0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """The dot lock, then fcntl; never waiting for the second with the first in hand."""
    dot = f"{path}.lock"
    deadline = time.monotonic() + _PATIENCE
    while True:
        assert time.monotonic() < deadline, f"{path} stays locked"
        try:
            os.close(os.open(dot, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            time.sleep(0.001)
            continue
        with path.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.unlink(dot)
                time.sleep(0.001)
                continue
            try:
                yield
            finally:
                fcntl.lockf(file, fcntl.LOCK_UN)
                os.unlink(dot)
            return


def _field(header: bytes, name: bytes) -> str:
    found = re.search(rb"^%b:(.*)$" % name, header, re.M)
    return found[1].decode().strip() if found else ""


def flags(path: Path) -> dict[int, frozenset[str]]:
    """UID -> flags and keywords in small letters."""
    with locked(path):
        data = path.read_bytes()
    found = {}
    for message in _MESSAGE.finditer(data):
        header = message[1]
        if b"FOLDER INTERNAL DATA" in header:
            continue
        letters = _field(header, b"Status").replace("O", "") + _field(header, b"X-Status")
        words = _field(header, b"X-Keywords").lower().split()
        found[int(_field(header, b"X-UID"))] = frozenset([*(_FLAGS[letter] for letter in letters), *words])
    return found


def deliver(path: Path, octets: bytes) -> None:
    """At the end."""
    text = re.sub(rb"^(>*From )", rb">\1", octets.replace(b"\r\n", b"\n"), flags=re.M)
    with locked(path), path.open("ab") as file:
        file.write(b"From foreign@example.com Mon Jan  1 10:00:00 2024\n" + text.rstrip(b"\n") + b"\n\n")


def reflag(path: Path, rng: random.Random) -> None:
    """One letter of one message, in place."""
    with locked(path):
        data = path.read_bytes()
        places = list(re.finditer(rb"^X-Status: (.+)$", data, re.M))
        if not places:
            return
        place = rng.choice(places)
        letters = set(place[1].decode().strip()) ^ {rng.choice("FA")}
        new = "".join(sorted(letters)).encode().ljust(len(place[1]))
        if len(new) == len(place[1]):
            with path.open("r+b") as file:
                file.seek(place.start(1))
                file.write(new)
