"""Every pair of changing commands in two sessions: one after the other with a stale view, and both at once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailserver.store.check import check_account
from mailserver.store.tree.layout import OWN
from tests.concurrency import disk
from tests.concurrency.model import Model, Truth, message
from tests.concurrency.wire import Closed
from tests.program import Program

Act = tuple[str, tuple[bytes, ...]]
_new = itertools.count()


def _octets() -> tuple[bytes, ...]:
    return (message(f"n{next(_new)}"),)


# What a session with four messages selected does; {box} is its mailbox, {other} another one.
ACTS: dict[str, Callable[[], Act]] = {
    "append": lambda: ("APPEND {box} (\\Seen) {{}}", _octets()),
    "append-new": lambda: ("APPEND {box} {{}}", _octets()),
    "multiappend": lambda: ("APPEND {box} {{}} (Work) {{}}", _octets() + _octets()),
    "add": lambda: ("STORE 1:3 +FLAGS (\\Flagged Work)", ()),
    "add-silent": lambda: ("STORE 2:4 +FLAGS.SILENT (\\Flagged)", ()),
    "remove": lambda: ("UID STORE 1:3 -FLAGS (\\Deleted Later)", ()),
    "replace-flags": lambda: ("STORE 2 FLAGS (\\Answered)", ()),
    "unchanged": lambda: ("STORE 1:4 (UNCHANGEDSINCE {modseq}) +FLAGS (\\Draft)", ()),
    "expunge": lambda: ("EXPUNGE", ()),
    "uid-expunge": lambda: ("UID EXPUNGE 2:3", ()),
    "close": lambda: ("CLOSE", ()),
    "copy": lambda: ("COPY 1:2 {other}", ()),
    "copy-here": lambda: ("UID COPY 1:4 {box}", ()),
    "move": lambda: ("MOVE 2:3 {other}", ()),
    "move-here": lambda: ("UID MOVE 1:2 {box}", ()),
    "replace": lambda: ("REPLACE 3 {box} {{}}", _octets()),
    "read": lambda: ("UID FETCH 1:4 (BODY[] FLAGS)", ()),
    "select": lambda: ("SELECT {box}", ()),
    "examine": lambda: ("EXAMINE {other}", ()),
    "noop": lambda: ("NOOP", ()),
    "delete": lambda: ("DELETE {box}", ()),
    "rename": lambda: ("RENAME {box} {box}-moved", ()),
    "fetch-changed": lambda: ("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)", ()),
}
ENABLE = ("QRESYNC", "")
EVERYTHING = "STRESS_SECONDS" in os.environ
# for each number of processes, whether both act at once; a short run leaves out what the other one has
WAYS = {1: (False, True), 2: (False, True)} if EVERYTHING else {1: (False,), 2: (True,)}


@pytest.fixture(scope="module", params=["one-process", "two-processes", "two-processes-nested-mboxes"])
def ports(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[tuple[int, int, Path]]:
    folder = tmp_path_factory.mktemp("pairs")
    with ExitStack() as stack:
        kind = "mbox-fs" if request.param.endswith("mboxes") else "maildir"
        one = stack.enter_context(Program(folder, mailbox_format=kind))
        (folder / "two").mkdir()
        two = one
        if request.param.startswith("two"):
            two = stack.enter_context(Program(folder / "two", mail=one.mail, mailbox_format=kind))
        yield one.ports["imap"], two.ports["imap"], one.mail / "alice"
        assert check_account(str(one.mail / "alice")) == []


class Pair:
    def __init__(self, ports: tuple[int, int, Path], stack: ExitStack) -> None:
        self.truth, self.account = Truth(), ports[2]
        self.processes = len(set(ports[:2]))
        self.sessions = [
            stack.enter_context(Model(port, self.truth, enable=enable))
            for port, enable in zip(ports[:2], ENABLE, strict=True)
        ]
        self.fresh = stack.enter_context(Model(ports[1], self.truth, enable="QRESYNC"))

    def prepare(self, box: str) -> None:
        first = self.sessions[0]
        first.require(f"CREATE {box}")
        first.require(f"CREATE {box}-other")
        first.require(
            f"APPEND {box} (\\Deleted) {{}} {{}} (\\Deleted Later) {{}} (\\Seen) {{}}",
            *[message(f"{box}-{i}") for i in range(4)],
        )
        for session in self.sessions:
            session.require(f"SELECT {box}")
            session.learn()

    def start(self, session: Model, box: str, act: str) -> None:
        text, literals = ACTS[act]()
        text = text.format(box=box, other=f"{box}-other", modseq=session.highest)
        if "VANISHED" in text and "QRESYNC" not in session.enabled:
            text = text.replace(" VANISHED", "")
        if "CHANGEDSINCE" in text or "UNCHANGEDSINCE" in text:
            session.enabled.add("CONDSTORE")
        session.start(text, *literals)

    def settle(self, box: str) -> None:
        for name in (box, f"{box}-other", f"{box}-moved"):
            folder = self.account / (name if (self.account / OWN).exists() else f".{name}")
            if not self.fresh.command(f"EXAMINE {name}").ok:
                assert not folder.exists()
                continue
            self.fresh.learn()
            state = self.fresh.verify()
            assert disk.flags(folder) == state
            for session in self.sessions:
                if session.mailbox == name:
                    session.learn()
                    session.verify()
                    session.learn()
                    if session.mailbox == name and session.verify() != state:
                        session.fail(f"a fresh session of {name} sees {state}")
            self.fresh.require("UNSELECT")
            self.fresh.require(f"DELETE {name}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", ACTS)
def test_pairs(ports: tuple[int, int, Path], first: str) -> None:
    with ExitStack() as stack:
        pair = Pair(ports, stack)
        one, two = pair.sessions
        for second in ACTS:
            for together in WAYS[pair.processes] if EVERYTHING or pair.processes == 1 or first <= second else ():
                box = f"P{next(_new)}"
                pair.prepare(box)
                try:
                    pair.start(one, box, first)
                    if together:
                        pair.start(two, box, second)
                        one.finish()
                        two.finish()
                    else:
                        one.finish()
                        pair.start(two, box, second)
                        two.finish()
                    pair.settle(box)
                except (AssertionError, Closed) as error:
                    raise AssertionError(f"{first}, {second}, together: {together}") from error
