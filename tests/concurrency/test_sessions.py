"""Several sessions on one mailbox: every view stays in step, and no change is lost.

STRESS_SECONDS says how long each random run takes, STRESS_SEED repeats one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver import ImapConfig, ImapServer
from tests.concurrency.actors import SECONDS, SEED, Actor, Foreigner, Scene, rest, run
from tests.concurrency.model import Model
from tests.program import Program

USERS = {"alice": "secret"}


@pytest.fixture
def scene(tmp_path: Path, mailbox_format: str) -> Iterator[Scene]:
    """A server in this process."""
    config = ImapConfig(
        host="127.0.0.1",
        port=0,
        ssl_port=-1,
        mailbox_path=str(tmp_path / "mail"),
        mailbox_format=mailbox_format,
        users=USERS,
    )
    with ImapServer(config) as server:
        yield prepare(server.port, tmp_path / "mail/alice")


def prepare(port: int, account: Path) -> Scene:
    with Model(port) as first:
        first.require("CREATE Work")
        first.require("LOGOUT")
    return Scene(port, account)


def play(scene: Scene, count: int, *, foreign: bool, index: bool = True, rounds: int = 3) -> None:
    print(f"STRESS_SEED={SEED}")
    actors = [Actor(scene, number, SEED) for number in range(count)]
    others: list[Actor | Foreigner] = [Foreigner(scene, SEED, index=index)] if foreign else []
    try:
        for _ in range(rounds):
            run(scene, [*actors, *others], SECONDS / rounds)
            rest(scene, [actor.model for actor in actors])
    finally:
        for actor in actors:
            actor.model.close()


@pytest.mark.timeout(SECONDS * 4 + 120)
def test_sessions_of_one_process(scene: Scene) -> None:
    play(scene, 5, foreign=False)


@pytest.mark.timeout(SECONDS * 4 + 120)
def test_sessions_and_a_foreign_program(scene: Scene) -> None:
    play(scene, 5, foreign=True)


@pytest.mark.timeout(SECONDS * 4 + 120)
def test_sessions_of_two_processes(tmp_path: Path, mailbox_format: str) -> None:
    with Program(tmp_path, workers=2, mailbox_format=mailbox_format) as program:
        scene = prepare(program.ports["imap"], tmp_path / "mail/alice")
        play(scene, 6, foreign=True, index=False)
        scene.truth.recency_known = False
        play(scene, 6, foreign=True)


@pytest.mark.timeout(SECONDS * 4 + 120)
def test_ten_connections(tmp_path: Path, mailbox_format: str) -> None:
    with Program(tmp_path, workers=2, mailbox_format=mailbox_format) as program:
        play(prepare(program.ports["imap"], tmp_path / "mail/alice"), 10, foreign=False, index=False)
