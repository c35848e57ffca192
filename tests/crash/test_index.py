"""The index is a cache: whatever happens to it, mail is served from the files, it is made anew, and the log says so."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.store.check import check_account
from mailserver.store.index.schema import VERSION
from tests.concurrency.disk import remove_index
from tests.concurrency.model import Model, message
from tests.program import Program

SAID = re.compile(r"event=(index-gone|index-rebuilt|index-unusable) .*")
HARMS = ["truncated", "emptied", "random", "one page", "deleted", "newer", "locked"]


@pytest.fixture(params=["maildir", "mbox"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path, mailbox_format=request.param) as program:
        yield program


def harmed(account: Path, harm: str) -> sqlite3.Connection | None:
    """Do it; for "locked" return what holds the lock."""
    index = account / "mailserver.sqlite"
    if harm == "truncated":
        os.truncate(index, 5000)
    elif harm == "emptied":
        os.truncate(index, 0)
    elif harm == "random":
        index.write_bytes(os.urandom(50_000))
    elif harm == "one page":
        with index.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(4096))
    elif harm == "deleted":
        remove_index(account)
    else:
        db = sqlite3.connect(index, isolation_level=None)
        if harm == "locked":
            db.execute("BEGIN IMMEDIATE")
            return db
        db.execute(f"PRAGMA user_version={VERSION + 1}")
        db.close()
    return None


def work(model: Model) -> None:
    """Change the mailbox in every way."""
    model.require("APPEND INBOX {} (\\Seen) {}", message("a", 500), message("b"))
    model.require("NOOP")
    model.learn()
    model.store([1, len(model.slots)], "+FLAGS", ["\\Flagged", "Later"], uid=False)
    model.require(f"COPY {len(model.slots)} Trash")
    model.store([2], "+FLAGS", ["\\Deleted"], uid=False)
    model.require("EXPUNGE")


def as_another_sees_it(port: int, model: Model) -> None:
    """A new session finds what the old one was told."""
    model.require("NOOP")
    model.learn()
    with Model(port) as other:
        other.require("SELECT INBOX")
        other.learn()
        assert other.verify() == model.verify()
        assert (other.uidvalidity, other.uidnext) == (model.uidvalidity, model.slots[-1].uid + 1)


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("harm", HARMS)
def test_the_index_is_harmed(program: Program, harm: str, running: bool) -> None:
    account = program.mail / "alice"
    with Model(program.ports["imap"]) as model:
        model.require("SELECT INBOX")
        work(model)
        before = {slot.uid: slot.flags for slot in model.slots}
        validity = model.uidvalidity
        if running:
            held = harmed(account, harm)
            for _ in range(4):
                work(model)
            as_another_sees_it(program.ports["imap"], model)
    if not running:
        program.stop()  # in order: a log that is left behind would mend the index
        held = harmed(account, harm)
        program.start()
        with Model(program.ports["imap"]) as model:
            model.require("SELECT INBOX")
            model.learn()
            assert model.uidvalidity == validity
            assert {slot.uid: slot.flags for slot in model.slots} == before
            work(model)
            as_another_sees_it(program.ports["imap"], model)
    if held is not None:
        held.execute("ROLLBACK")
        held.close()
    with Model(program.ports["imap"]) as model:
        model.require("SELECT INBOX")
        work(model)
        as_another_sees_it(program.ports["imap"], model)
        state = {slot.uid: slot.flags for slot in model.slots}
    said = SAID.findall(program.log.read_text())
    # an index that is harmed while it is open may go on for as long as its pages are in memory and in the log;
    # one that is missing or empty at the start is a new one
    must = ("deleted", "locked") if running else ("truncated", "random", "one page", "newer", "locked")
    assert len(said) == 1 if harm in must else len(said) <= 1, said
    program.stop()
    program.start()
    with Model(program.ports["imap"]) as model:
        model.require("SELECT INBOX")
        model.learn()
        assert {slot.uid: slot.flags for slot in model.slots} == state
    assert check_account(str(account)) == []
