"""A client with QRESYNC that loses its connection at any octet and comes back: its cache becomes exactly right."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.concurrency import disk
from tests.concurrency.actors import SECONDS, SEED, Actor, Foreigner, Scene, rest
from tests.concurrency.model import Model
from tests.concurrency.test_sessions import prepare
from tests.concurrency.wire import Closed
from tests.program import Program


@pytest.fixture(params=[(1, "maildir"), (2, "maildir"), (2, "mbox")], ids=str)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, Program]]:
    workers, mailbox_format = request.param
    with Program(tmp_path, workers=workers, mailbox_format=mailbox_format) as program:
        yield workers, program


@pytest.fixture
def workers(program: tuple[int, Program]) -> int:
    return program[0]


@pytest.fixture
def scene(tmp_path: Path, program: tuple[int, Program]) -> Iterator[Scene]:
    return prepare(program[1].ports["imap"], tmp_path / "mail/alice")


def noise(scene: Scene, actors: list[Actor | Foreigner], done: threading.Event) -> list[threading.Thread]:
    def act(actor: Actor | Foreigner) -> None:
        try:
            while not done.is_set():
                actor.step()
                time.sleep(0.001)
        except Exception as error:
            scene.errors.append(str(error))

    threads = [threading.Thread(target=act, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.timeout(SECONDS * 4 + 120)
@pytest.mark.parametrize("index", [False, True], ids=["index-stays", "index-goes"])
def test_cut_off_and_back(scene: Scene, workers: int, index: bool) -> None:
    print(f"STRESS_SEED={SEED}")
    scene.truth.recency_known = workers == 1 or not index
    rng, done, cuts = random.Random(SEED), threading.Event(), 0
    others = [Actor(scene, n, SEED) for n in range(2)]
    threads = noise(scene, [*others, Foreigner(scene, SEED, index=False)], done)
    actor = Actor(scene, 100, SEED, "QRESYNC")
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end and not scene.errors:
            if not actor.model.mailbox or actor.model.mailbox != "INBOX":
                actor.model.require("SELECT INBOX")
                actor.model.learn()
            actor.model.wire.cut_after = rng.choice((rng.randrange(200), rng.randrange(3000)))
            try:
                while True:
                    rng.choice(
                        (actor.store, actor.store, actor.fetch, actor.append, actor.move, actor.noop, actor.expunge)
                    )()
            except Closed:
                cuts += 1
            cache = actor.model.cache()
            if index and rng.random() < 0.3:
                disk.remove_index(scene.account)
            actor.model = Model(scene.port, scene.truth)
            if cache.modseq:
                actor.model.resume("INBOX", cache)
    finally:
        done.set()
        for thread in threads:
            thread.join()
        for other in [*others, actor]:
            other.model.close()
    assert not scene.errors, scene.errors[0]
    assert cuts > 3
    rest(scene, [])
