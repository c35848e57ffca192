"""Clients that write down what the server promised them, and afterwards demand it."""

from __future__ import annotations

import itertools
import poplib
import random
import re
import threading
from dataclasses import dataclass, field

from tests.concurrency.model import Model, message
from tests.concurrency.wire import Closed, numbers

BOXES = ("INBOX", "Work", "Trash")
_serial = itertools.count(1)


@dataclass
class Promise:
    """A message whose OK was read: token, octets, flags. What was asked and not answered may be or not be."""

    token: str
    octets: bytes
    flags: set[str] = field(default_factory=set)
    unsure_flags: set[str] = field(default_factory=set)


@dataclass
class Ledger:
    """What all clients were promised, over all restarts."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    messages: dict[tuple[str, int], Promise] = field(default_factory=dict)  # (mailbox, UID)
    unsure: set[tuple[str, int]] = field(default_factory=set)  # may have been removed or moved
    used: dict[tuple[str, int], str] = field(default_factory=dict)  # every UID ever seen -> token
    validity: dict[str, int] = field(default_factory=dict)
    moving: set[str] = field(default_factory=set)  # tokens: in one mailbox or the other, not nowhere
    present: set[str] = field(default_factory=set)
    done: int = 0

    def opened(self, box: str, validity: int) -> None:
        assert self.validity.setdefault(box, validity) == validity, f"UIDVALIDITY of {box} changed"

    def saw(self, box: str, uid: int, token: str) -> None:
        with self.lock:
            known = self.used.setdefault((box, uid), token)
        assert known == token, f"UID {uid} of {box} was {known}, now it is {token}"

    def promised(self, box: str, uid: int, promise: Promise) -> None:
        self.saw(box, uid, promise.token)
        with self.lock:
            self.messages[box, uid] = promise
            self.done += 1


class Client:
    """One connection that changes only what it appended itself, until the connection breaks."""

    def __init__(self, port: int, ledger: Ledger, number: int, seed: int) -> None:
        self.ledger = ledger
        self.rng = random.Random(f"{seed}/{number}")
        self.number = number
        self.mine: set[tuple[str, int]] = set()
        self.port = port

    def run(self) -> None:
        """Until the server dies."""
        try:
            with Model(self.port) as self.model:
                while True:
                    self.rng.choice(
                        (self.append, self.append, self.append, self.copy, self.move, self.store, self.expunge)
                    )()
        except (Closed, OSError):
            pass

    def _select(self, box: str) -> None:
        if self.model.mailbox != box:
            self.model.require(f"SELECT {box}")
            self.ledger.opened(box, self.model.uidvalidity)

    def append(self) -> None:
        box = self.rng.choice(BOXES)
        token = f"c{next(_serial)}-{self.rng.randrange(1 << 32):x}"
        octets = message(token, self.rng.choice((0, 100, 40_000)))
        flags = self.rng.choice(("", " (\\Seen)", " (\\Flagged Work)"))
        result = self.model.require(f"APPEND {box}{flags} {{}}", octets)
        uid = int(result.code.split(" ")[2])
        promise = Promise(token, octets, {f.lower() for f in re.findall(r"[\\\w]+", flags)})
        self.ledger.promised(box, uid, promise)
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
        codes = [v[1] for v in result.untagged if isinstance(v, tuple)] + [result.code]
        code = next(c for c in codes if c.startswith("COPYUID"))
        (new,) = numbers(code.split(" ")[3])
        self.ledger.promised(target, new, Promise(promise.token, promise.octets, set(promise.flags)))
        self.mine.add((target, new))
        if verb == "MOVE":
            self.ledger.messages.pop(one)
            self.ledger.unsure.discard(one)
            self.ledger.moving.discard(promise.token)

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
        self.ledger.done += 1

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


class RenameClient:
    """A mailbox that changes its name again and again, and gets a message now and then: all of it keeps its UIDs."""

    NAMES = ("Here", "There")

    def __init__(self, port: int, ledger: Ledger) -> None:
        self.port, self.ledger = port, ledger

    def run(self) -> None:
        try:
            with Model(self.port) as model:
                name = where(model, self.NAMES)
                while True:
                    token = f"r{next(_serial)}-{random.randrange(1 << 32):x}"
                    uid = int(model.require(f"APPEND {name} {{}}", message(token)).code.split(" ")[2])
                    self.ledger.promised("renamed", uid, Promise(token, message(token)))
                    for _ in range(3):
                        other = self.NAMES[1 - self.NAMES.index(name)]
                        model.require(f"RENAME {name} {other}")
                        name = other
        except (Closed, OSError):
            pass


def where(model: Model, names: tuple[str, ...]) -> str:
    """The one of these mailboxes that exists; the first is made when there is none."""
    found = [name for name in names if model.command(f"STATUS {name} (UIDNEXT)").ok]
    assert len(found) < 2, f"all of {found} exist"
    if not found:
        model.require(f"CREATE {names[0]}")
    return found[0] if found else names[0]


class PopClient:
    """Reads bob's maildrop, deletes some of it, and believes it to be gone after QUIT's +OK."""

    def __init__(self, port: int, imap: int, ledger: Ledger, seed: int) -> None:
        self.port, self.imap, self.ledger = port, imap, ledger
        self.rng = random.Random(f"{seed}/pop")

    def run(self) -> None:
        try:
            while True:
                self._fill()
                self._drain()
        except (Closed, OSError, poplib.error_proto, EOFError):
            pass

    def _fill(self) -> None:
        with Model(self.imap, user="bob") as model:
            for _ in range(3):
                token = f"p{next(_serial)}-{self.rng.randrange(1 << 32):x}"
                uid = int(model.require("APPEND INBOX {}", message(token)).code.split(" ")[2])
                self.ledger.promised("bob", uid, Promise(token, message(token)))

    def _drain(self) -> None:
        pop = poplib.POP3("127.0.0.1", self.port, timeout=30)
        try:
            pop.user("bob")
            pop.pass_("secret")
            doomed = []
            for line in pop.uidl()[1]:
                number, uidl = line.split(b" ")
                if self.rng.random() < 0.5:
                    pop.dele(int(number))
                    doomed.append(("bob", int(uidl[:8], 16)))
            self.ledger.unsure.update(doomed)
            pop.quit()
            for one in doomed:
                self.ledger.messages.pop(one, None)
                self.ledger.unsure.discard(one)
        finally:
            pop.close()


def demand(port: int, ledger: Ledger, user: str, box: str) -> None:
    """Everything that was promised of a mailbox is there: octets, once, UID, flags; what was removed is gone."""
    name = "bob" if user == "bob" else box
    with Model(port, user=user) as model:
        if box == "renamed":
            box = where(model, RenameClient.NAMES)
        model.require(f"SELECT {box}")
        ledger.opened(name, model.uidvalidity)
        found: dict[int, tuple[bytes, set[str]]] = {}
        if model.slots:
            for values in model.require("FETCH 1:* (UID FLAGS BODY.PEEK[])").untagged:
                if values[1:2] == ["FETCH"]:
                    items = dict(zip(values[2][::2], values[2][1::2], strict=True))
                    found[int(items["UID"])] = items["BODY[]"], {f.lower() for f in items["FLAGS"]} - {"\\recent"}
        assert model.uidnext > max([0, *(uid for other, uid in ledger.used if other == name)]), "UIDNEXT went back"
    for uid, (octets, flags) in found.items():
        token = re.match(rb"Subject: (\S+)", octets)
        assert token is not None
        known = ledger.used.get((name, uid))
        ledger.saw(name, uid, token[1].decode())
        ledger.present.add(token[1].decode())
        promise = ledger.messages.get((name, uid))
        if promise is None:
            assert known is None, f"{name} {uid} ({known}) was removed and is there"
            ledger.messages[name, uid] = Promise(token[1].decode(), octets, flags)  # done, and the OK was not read
            continue
        assert octets == promise.octets, f"{name} {uid} has other octets"
        if (name, uid) not in ledger.unsure:
            assert flags ^ promise.flags <= promise.unsure_flags, f"{name} {uid}: {flags}, promised {promise.flags}"
        promise.flags, promise.unsure_flags = flags, set()
    for (other, uid), promise in list(ledger.messages.items()):
        if other == name and uid not in found:
            assert (other, uid) in ledger.unsure, f"{name} {uid} ({promise.token}) is lost"
            del ledger.messages[other, uid]
