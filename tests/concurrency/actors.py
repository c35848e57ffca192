"""Sessions that do everything at random, in the manner of imaptest, and what must be true when they rest."""

from __future__ import annotations

import itertools
import os
import random
import re
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mailserver.store.check import check_account
from tests.concurrency import disk
from tests.concurrency.model import Model, Truth, Violation, message
from tests.concurrency.wire import Closed, number_set, numbers

SECONDS = float(os.environ.get("STRESS_SECONDS", "2"))
SEED = int(os.environ.get("STRESS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
BOXES = ("INBOX", "Work")
KEYWORDS = ("$Forwarded", "Work", "Later")
FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "\\Draft", *KEYWORDS)
KINDS = ("", "CONDSTORE", "QRESYNC", "IMAP4rev2", "", "QRESYNC IMAP4rev2")
_tokens = itertools.count(1)


@dataclass
class Scene:
    """A server, an account, and what its clients know together."""

    port: int
    account: Path
    truth: Truth = field(default_factory=Truth)
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def folder(self, mailbox: str) -> Path:
        if mailbox == "INBOX":
            return self.account if (self.account / "cur").is_dir() else self.account / ".INBOX"
        return self.account / f".{mailbox}"


class Actor:
    """One session and its whims."""

    def __init__(self, scene: Scene, number: int, seed: int, kind: str | None = None) -> None:
        self.scene = scene
        self.rng = random.Random(f"{seed}/{number}")
        self.kind = KINDS[number % len(KINDS)] if kind is None else kind
        self.model = Model(scene.port, scene.truth, enable=self.kind)
        self.model.require("SELECT INBOX")

    # -- choosing

    def some(self) -> tuple[str, list[int]]:
        """A few messages, by number or by UID: (prefix, numbers)."""
        slots = self.model.slots
        if self.rng.random() < 0.5:
            self.model.learn()
            uids = [s.uid for s in self.model.slots if s.uid]
            return ("UID ", sorted(self.rng.sample(uids, min(len(uids), self.rng.randint(1, 4))))) if uids else ("", [])
        count = len(slots)
        return "", sorted(self.rng.sample(range(1, count + 1), min(count, self.rng.randint(1, 4))))

    def token(self) -> str:
        return f"t{next(_tokens)}-{self.model.number}"

    # -- doing

    def append(self) -> None:
        box = self.rng.choice(BOXES)
        tokens = [self.token() for _ in range(self.rng.choice((1, 1, 1, 3)))]
        flags = self.rng.choice(("", " (\\Seen)", " (\\Flagged Work)"))
        octets = [message(t, self.rng.choice((0, 10, 5000))) for t in tokens]
        result = self.model.command(f"APPEND {box}" + f"{flags} {{}}" * len(tokens), *octets)
        if result.ok:
            self.appended(box, result.code, tokens)

    def appended(self, box: str, code: str, tokens: list[str]) -> None:
        word, validity, uids = code.split(" ")
        assert word == "APPENDUID"
        for uid, token in zip(numbers(uids), tokens, strict=True):
            self.scene.truth.message(box, int(validity), uid, token)

    def store(self) -> None:
        prefix, chosen = self.some()
        how = self.rng.choice(("+", "-", "", "+", "-")) + "FLAGS" + self.rng.choice(("", ".SILENT"))
        flags = self.rng.sample(FLAGS, self.rng.randint(0 if how.startswith("F") else 1, 3))
        since = 0
        if "CONDSTORE" in self.model.enabled and self.rng.random() < 0.3:
            since = max([s.modseq for s in self.model.slots], default=0) - self.rng.choice((0, 0, 1, 10_000))
        if chosen and not self.model.read_only:
            self.model.store(chosen, how, flags, uid=bool(prefix), since=max(since, 0))

    def expunge(self) -> None:
        prefix, chosen = self.some()
        if prefix and chosen:
            self.model.command(f"UID EXPUNGE {number_set(chosen)}")
        else:
            self.model.command("EXPUNGE")

    def copy(self, verb: str = "COPY") -> None:
        prefix, chosen = self.some()
        if not chosen:
            return
        box = self.rng.choice(BOXES)
        source, validity = self.model.mailbox, self.model.uidvalidity
        result = self.model.command(f"{prefix}{verb} {number_set(chosen)} {box}")
        codes = [v[1] for v in result.untagged if isinstance(v, tuple)] + [result.code]
        for code in codes:
            if code.startswith("COPYUID"):
                self.copied(source, validity, box, code)

    def copied(self, source: str, validity: int, box: str, code: str) -> None:
        _, target, old, new = code.split(" ")
        for a, b in zip(numbers(old), numbers(new), strict=True):
            token = self.scene.truth.token(source, validity, a)
            if token is not None:
                self.scene.truth.message(box, int(target), b, token)

    def move(self) -> None:
        self.copy("MOVE")

    def replace(self) -> None:
        prefix, chosen = self.some()
        if not chosen:
            return
        token, box = self.token(), self.rng.choice(BOXES)
        result = self.model.command(f"{prefix}REPLACE {chosen[0]} {box} {{}}", message(token))
        for value in result.untagged:
            if isinstance(value, tuple) and value[1].startswith("APPENDUID"):
                self.appended(box, value[1], [token])

    def select(self) -> None:
        leave = self.rng.choice(("", "CLOSE", "UNSELECT", ""))
        if leave:
            self.model.require(leave)
        verb = self.rng.choice(("SELECT", "SELECT", "EXAMINE"))
        self.model.require(f"{verb} {self.rng.choice(BOXES)}")

    def search(self) -> None:
        prefix = self.rng.choice(("", "UID "))
        count = len(self.model.slots)
        key = self.rng.choice(
            (
                f"1:{max(count, 1)}" if count else "ALL",
                "ALL",
                "DELETED",
                "UNSEEN",
                "KEYWORD Work",
                "RETURN (SAVE) FLAGGED",
            )
        )
        result = self.model.require(f"{prefix}SEARCH {key}")
        for values in result.untagged:
            if isinstance(values, list) and values[0] == "SEARCH" and not prefix:
                found = [int(v) for v in values[1:] if isinstance(v, str)]
                if any(not 1 <= n <= count for n in found):
                    self.model.fail(f"SEARCH found {found} of {count}")

    def fetch(self) -> None:
        prefix, chosen = self.some()
        if chosen:
            what = self.rng.choice(("FLAGS", "(UID FLAGS)", "BODY[]", "BODY.PEEK[HEADER]", "ENVELOPE", "RFC822.SIZE"))
            self.model.command(f"{prefix}FETCH {number_set(chosen)} {what}")

    def idle(self) -> None:
        self.model.idle(self.rng.choice((0.0, 0.01, 0.1)))

    def noop(self) -> None:
        self.model.require(self.rng.choice(("NOOP", "CHECK")))

    def look(self) -> None:
        self.model.learn()
        self.model.verify()

    def status(self) -> None:
        self.model.require(f"STATUS {self.rng.choice(BOXES)} (MESSAGES UNSEEN UIDNEXT)")

    def step(self) -> None:
        if not self.model.mailbox:
            self.model.require("SELECT INBOX")
        few = len(self.model.slots) < 15
        weights: list[tuple[Callable[[], None], int]] = [
            (self.append, 12 if few else 3),
            (self.store, 20),
            (self.expunge, 2 if few else 8),
            (self.copy, 4 if few else 1),
            (self.move, 4),
            (self.replace, 3),
            (self.select, 3),
            (self.search, 4),
            (self.fetch, 10),
            (self.idle, 2),
            (self.noop, 8),
            (self.look, 5),
            (self.status, 2),
        ]
        self.rng.choices([w[0] for w in weights], [w[1] for w in weights])[0]()


class Foreigner:
    """Another program in the same directories."""

    def __init__(self, scene: Scene, seed: int, *, index: bool = True) -> None:
        self.scene = scene
        self.rng = random.Random(f"{seed}/foreign")
        self.index = index

    def step(self) -> None:
        folder = self.scene.folder(self.rng.choice(BOXES))
        what = self.rng.random()
        if what < 0.4:
            disk.deliver(folder, message(f"f{next(_tokens)}"))
        elif what < 0.95 or not self.index:
            disk.reflag(folder, self.rng)
        else:
            disk.remove_index(self.scene.account)
        time.sleep(self.rng.random() * 0.05)

    def close(self) -> None:
        pass


def run(scene: Scene, actors: list[Actor | Foreigner], seconds: float) -> None:
    """Let them act at the same time; the first error ends it."""

    def act(actor: Actor | Foreigner) -> None:
        try:
            while not scene.stop.is_set() and time.monotonic() < deadline:
                actor.step()
        except (Violation, AssertionError, Closed, OSError, ValueError, KeyError):
            scene.errors.append(traceback.format_exc())
            scene.stop.set()

    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=act, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not scene.errors, scene.errors[0]


def rest(scene: Scene, models: list[Model]) -> None:
    """Everybody stands still: all views, a fresh one, and the disk must agree, and every UID be its message."""
    for box in BOXES:
        with Model(scene.port, scene.truth, enable="QRESYNC") as fresh:
            fresh.require(f"EXAMINE {box}")
            fresh.learn()
            state = fresh.verify()
            for model in models:
                if model.mailbox == box:
                    model.learn()
                    if model.verify() != state:
                        model.fail(f"differs from a fresh session, which has {state}")
            assert disk.flags(scene.folder(box)) == state, f"the files of {box} say something else"
            _identities(scene, fresh, box)
            fresh.require("LOGOUT")
    assert check_account(str(scene.account)) == []


def _identities(scene: Scene, fresh: Model, box: str) -> None:
    if not fresh.slots:
        return
    result = fresh.require("FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    for values in result.untagged:
        if isinstance(values, list) and values[1:2] == ["FETCH"]:
            octets = next(v for v in values[2] if isinstance(v, bytes))
            found = re.match(rb"Subject: (\S+)", octets)
            assert found is not None, octets
            slot = fresh.slots[int(values[0]) - 1]
            scene.truth.message(box, fresh.uidvalidity, slot.uid, found[1].decode())
