"""What sessions must hear of one another, case by case."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.concurrency import disk
from tests.concurrency.actors import SECONDS, SEED
from tests.concurrency.model import Cache, Model, message
from tests.program import Program


@pytest.fixture
def ports(tmp_path: Path, mailbox_format: str) -> Iterator[tuple[int, int, Path]]:
    """Two processes on one mail directory."""
    (tmp_path / "two").mkdir()
    with (
        Program(tmp_path, mailbox_format=mailbox_format) as one,
        Program(tmp_path / "two", mail=tmp_path / "mail", mailbox_format=mailbox_format) as two,
    ):
        yield one.ports["imap"], two.ports["imap"], tmp_path / "mail/alice"


@pytest.mark.parametrize("act", ["DELETE Work", "RENAME Work Play"])
@pytest.mark.parametrize("process", [0, 1])
def test_an_idle_session_hears_that_its_mailbox_is_gone(ports: tuple[int, int, Path], act: str, process: int) -> None:
    with Model(ports[0]) as idler, Model(ports[process]) as actor, Model(ports[0]) as busy:
        idler.require("CREATE Work")
        idler.require("SELECT Work")
        idler.start("IDLE")
        idler.finish()
        busy.require("SELECT INBOX")
        busy.start("IDLE")
        busy.finish()
        actor.require(act)
        deadline = time.monotonic() + 10
        while idler.mailbox:
            assert time.monotonic() < deadline, "never told"
            disk.deliver(disk.inbox(ports[2]), message("busy"))  # another folder is busy all the time
            if idler.wire.readable(0.05):
                idler._untagged(idler._read())
        for session in (idler, busy):
            session.wire.send(b"DONE\r\n")
            session.finish_idle()
        assert not idler.command("FETCH 1 FLAGS").ok


def test_an_expunge_held_back_is_not_lost_with_the_connection(ports: tuple[int, int, Path]) -> None:
    """RFC 7162 section 6: the client believes the highest MODSEQ that it was told, unless HIGHESTMODSEQ says less."""
    with Model(ports[0], enable="QRESYNC") as model, Model(ports[1]) as other:
        model.require("APPEND INBOX (\\Deleted) {} {} {}", *[message(f"m{i}") for i in range(3)])
        for session in (model, other):
            session.require("SELECT INBOX")
            session.learn()
        other.require("EXPUNGE")
        result = model.store([2], "+FLAGS", ["\\Flagged"], uid=False)
        assert result.code.startswith("HIGHESTMODSEQ")
        assert len(model.slots) == 3
        cache: Cache = model.cache()
        model.close()
        with Model(ports[1]) as again:
            again.resume("INBOX", cache)
            assert [slot.uid for slot in again.slots] == [2, 3]


def test_every_message_is_recent_to_one_session(ports: tuple[int, int, Path]) -> None:
    """RFC 3501 section 2.3.2: whoever is told first, and nobody else."""
    count = 60
    with ExitStack() as stack:
        watchers = [stack.enter_context(Model(ports[n % 2])) for n in range(4)]
        writer = stack.enter_context(Model(ports[0]))
        for watcher in watchers:
            watcher.require("SELECT INBOX")
        done = threading.Event()

        def watch(model: Model) -> None:
            while not done.is_set():
                model.require("NOOP")

        threads = [threading.Thread(target=watch, args=(watcher,)) for watcher in watchers]
        for thread in threads:
            thread.start()
        try:
            for n in range(count):
                writer.require("APPEND INBOX {}", message(f"m{n}"))
        finally:
            done.set()
            for thread in threads:
                thread.join()
        recent: list[int] = []
        for watcher in watchers:
            watcher.require("NOOP")
            result = watcher.require("UID SEARCH RECENT")
            recent += [int(uid) for values in result.untagged if values[0] == "SEARCH" for uid in values[1:]]
        assert sorted(recent) == list(range(1, count + 1))


@pytest.mark.timeout(SECONDS * 2 + 120)
def test_no_flag_change_is_lost(ports: tuple[int, int, Path]) -> None:
    """Each session has a keyword of its own: at the end it stands where its session left it, whatever others did."""
    print(f"STRESS_SEED={SEED}")
    messages = 8
    with ExitStack() as stack:
        sessions = [stack.enter_context(Model(ports[n % 2], enable="CONDSTORE" if n % 3 else "")) for n in range(6)]
        sessions[0].require("APPEND INBOX" + " {}" * messages, *[message(f"m{n}") for n in range(messages)])
        wanted: list[set[int]] = [set() for _ in sessions]
        errors: list[BaseException] = []
        end = time.monotonic() + SECONDS

        def act(number: int, session: Model) -> None:
            rng = random.Random(f"{SEED}/{number}")
            try:
                session.require("SELECT INBOX")
                session.learn()
                while time.monotonic() < end:
                    chosen = rng.sample(range(1, messages + 1), rng.randint(1, 3))
                    add, silent = rng.random() < 0.5, rng.choice(("", ".SILENT"))
                    result = session.store(chosen, f"{'+' if add else '-'}FLAGS{silent}", [f"own{number}"], uid=True)
                    assert result.ok
                    (wanted[number].update if add else wanted[number].difference_update)(chosen)
                session.verify()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=act, args=pair) for pair in enumerate(sessions)]
        foreign = random.Random(f"{SEED}/foreign")
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            disk.reflag(disk.inbox(ports[2]), foreign)
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        sessions[0].require("SELECT INBOX")  # looks at the directories in any case
        sessions[0].learn()
        state = sessions[0].verify()
        for number, uids in enumerate(wanted):
            assert {uid for uid, flags in state.items() if f"own{number}" in flags} == uids, f"session {number}"
        assert disk.flags(disk.inbox(ports[2])) == state
