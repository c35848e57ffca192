"""IMAP clients that write down what the server promised them."""

from __future__ import annotations

import random
import re

from tests.concurrency.model import Model, Result, message
from tests.concurrency.wire import Closed, numbers
from tests.crash.ledger import NAMES, RENAMED, Ledger, Promise, new_token, where

BOXES = ("INBOX", "Work", "Trash")


class Client:
    """One connection that changes only what it appended itself, until the connection breaks or it is told to stop."""

    def __init__(self, port: int, ledger: Ledger, number: int, seed: int) -> None:
        self.ledger = ledger
        self.rng = random.Random(f"{seed}/{number}")
        self.number = number
        self.mine: set[tuple[str, int]] = set()
        self.port = port

    def run(self) -> None:
        """Until the server dies."""
        often = (self.append, self.append, self.append)
        seldom = (self.copy, self.move, self.replace, self.store, self.expunge)
        try:
            with Model(self.port) as self.model:
                while self.ledger.going:
                    self.rng.choice((*often, *seldom))()
        except (Closed, OSError):
            pass

    def _select(self, box: str) -> None:
        if self.model.mailbox != box:
            self.model.require(f"SELECT {box}")
            self.ledger.opened(box, self.model.uidvalidity)

    def append(self) -> None:
        box = self.rng.choice(BOXES)
        token = new_token("c")
        octets = message(token, self.rng.choice((0, 100, 40_000)))
        flags = self.rng.choice(("", " (\\Seen)", " (\\Flagged Work)"))
        result = self.model.require(f"APPEND {box}{flags} {{}}", octets)
        uid = int(result.code.split(" ")[2])
        promise = Promise(token, octets, {f.lower() for f in re.findall(r"[\\\w]+", flags)})
        self.ledger.promised(box, uid, promise, "APPEND")
        self.mine.add((box, uid))

    def _one(self) -> tuple[str, int] | None:
        if not self.mine:
            return None
        box, uid = self.rng.choice(sorted(self.mine))
        self._select(box)
        return box, uid

    def copy(self) -> None:
        self._transfer("COPY")

    def move(self) -> None:
        self._transfer("MOVE")

    def _transfer(self, verb: str) -> None:
        one = self._one()
        if one is None:
            return
        uid = one[1]
        target = self.rng.choice(BOXES)
        promise = self.ledger.messages[one]
        if verb == "MOVE":
            self.ledger.moving.add(promise.token)
            self.ledger.unsure.add(one)
            self.mine.discard(one)
        result = self.model.require(f"UID {verb} {uid} {target}")
        (new,) = numbers(_code(result, "COPYUID").split(" ")[3])
        self.ledger.promised(target, new, Promise(promise.token, promise.octets, set(promise.flags)), verb)
        self.mine.add((target, new))
        if verb == "MOVE":
            self.ledger.messages.pop(one)
            self.ledger.unsure.discard(one)
            self.ledger.moving.discard(promise.token)

    def replace(self) -> None:
        """RFC 8508 section 3: until the answer is read, the old message or the new one or both are there."""
        one = self._one()
        if one is None:
            return
        target, token = self.rng.choice(BOXES), new_token("e")
        octets = message(token, self.rng.choice((0, 10_000)))
        self.ledger.unsure.add(one)
        self.mine.discard(one)
        result = self.model.require(f"UID REPLACE {one[1]} {target} {{}}", octets)
        uid = int(_code(result, "APPENDUID").split(" ")[2])
        self.ledger.promised(target, uid, Promise(token, octets), "REPLACE")
        self.mine.add((target, uid))
        self.ledger.messages.pop(one)
        self.ledger.unsure.discard(one)

    def store(self) -> None:
        one = self._one()
        if one is None:
            return
        promise = self.ledger.messages[one]
        flag = self.rng.choice(("\\seen", "\\answered", "\\draft", "later"))
        sign = self.rng.choice("+-")
        promise.unsure_flags.add(flag)
        self.model.require(f"UID STORE {one[1]} {sign}FLAGS ({flag})")
        promise.unsure_flags.discard(flag)
        (promise.flags.add if sign == "+" else promise.flags.discard)(flag)
        self.ledger.did("STORE")

    def expunge(self) -> None:
        one = self._one()
        if one is None or self.rng.random() < 0.5:
            return
        self.ledger.unsure.add(one)
        self.mine.discard(one)
        self.model.require(f"UID STORE {one[1]} +FLAGS.SILENT (\\Deleted)")
        self.model.require(f"UID EXPUNGE {one[1]}")
        self.ledger.messages.pop(one)
        self.ledger.unsure.discard(one)
        self.ledger.did("EXPUNGE")


def _code(result: Result, name: str) -> str:
    codes = [v[1] for v in result.untagged if isinstance(v, tuple)] + [result.code]
    return next(code for code in codes if code.startswith(name))


class RenameClient:
    """A mailbox that changes its name again and again, and gets a message now and then: all of it keeps its UIDs."""

    def __init__(self, port: int, ledger: Ledger) -> None:
        self.port, self.ledger = port, ledger

    def run(self) -> None:
        try:
            with Model(self.port) as model:
                name = where(model, NAMES)
                while self.ledger.going:
                    token = new_token("r")
                    uid = int(model.require(f"APPEND {name} {{}}", message(token)).code.split(" ")[2])
                    self.ledger.promised(RENAMED, uid, Promise(token, message(token)), "APPEND")
                    for _ in range(3):
                        other = NAMES[1 - NAMES.index(name)]
                        model.require(f"RENAME {name} {other}")
                        name = other
                        self.ledger.did("RENAME")
        except (Closed, OSError):
            pass
