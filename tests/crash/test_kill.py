"""Killed at any moment: what was answered with OK is there afterwards. CRASH_N: how often; CRASH_SEED: as last time."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from pathlib import Path

import pytest

from mailserver.store.check import check_account
from tests.concurrency.model import Model
from tests.crash.client import BOXES, Client, Ledger, PopClient, RenameClient, demand
from tests.program import Program

KILLS = int(os.environ.get("CRASH_N", "10"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)


# poplib leaves its socket open when the greeting does not come
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(60 + KILLS * 20)
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_promised_is_lost(tmp_path: Path, workers: int) -> None:
    print(f"CRASH_SEED={SEED}")
    rng, ledger = random.Random(SEED), Ledger()
    with Program(tmp_path, workers=workers, durability="strict") as program:
        with Model(program.ports["imap"]) as first:
            first.require("CREATE Work")
        for kill in range((KILLS + 1) // 2):
            run_until_killed(program, ledger, rng.random() * rng.choice((0.05, 0.3, 1.0)), SEED + kill)
            program.start()
            ledger.present.clear()
            for box in (*BOXES, "renamed"):
                demand(program.ports["imap"], ledger, "alice", box)
            demand(program.ports["imap"], ledger, "bob", "INBOX")
            lost = ledger.moving - ledger.present
            assert not lost, f"moved and nowhere: {lost}"
            ledger.moving.clear()
            look(program.mail)
    assert ledger.done > 0
    print(f"promises: {ledger.done}, kills: {(KILLS + 1) // 2}")


def run_until_killed(program: Program, ledger: Ledger, seconds: float, seed: int) -> None:
    imap, pop3 = program.ports["imap"], program.ports["pop3"]
    errors: list[BaseException] = []

    def guarded(run: object) -> None:
        try:
            run()  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    clients = [
        *(Client(imap, ledger, n, seed).run for n in range(4)),
        PopClient(pop3, imap, ledger, seed).run,
        RenameClient(imap, ledger).run,
    ]
    threads = [threading.Thread(target=guarded, args=(run,)) for run in clients]
    for thread in threads:
        thread.start()
    killer = threading.Event()
    killer.wait(seconds + 0.1)
    program.kill()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def look(mail: Path) -> None:
    """The files: nothing twice, nothing wrong, leftovers in tmp/ only."""
    for account in ("alice", "bob"):
        assert check_account(str(mail / account)) == []
    for account in ("alice", "bob"):
        for folder in [mail / account, *(p for p in (mail / account).iterdir() if p.name.startswith("."))]:
            names = Counter(name.partition(":")[0] for part in ("cur", "new") for name in os.listdir(folder / part))
            assert max(names.values(), default=1) == 1
            known = {"cur", "new", "tmp", "maildirfolder", "subscriptions"}
            strangers = [
                n for n in os.listdir(folder) if n not in known and not n.startswith((".", "dovecot-", "mailserver"))
            ]
            assert strangers == []
