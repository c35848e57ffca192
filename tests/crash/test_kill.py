"""Killed at any moment: what was answered with OK is there afterwards. CRASH_N: how often; CRASH_SEED: as last time."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailserver.store.check import check_account
from mailserver.store.tree.layout import OWN
from mailserver.store.tree.tidy import sweep, sweep_locks
from tests.concurrency.model import Model
from tests.crash.client import BOXES, Client, RenameClient
from tests.crash.ledger import NAMES, RENAMED, Ledger, demand
from tests.crash.mailers import LmtpClient, PopClient, SmtpClient
from tests.program import Program, receiving
from tests.unit.delivery.peers import Sink

KILLS = -(-int(os.environ.get("CRASH_N", "24")) // 4)  # of each of the four
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
USERS = ("alice", "bob", "carol", "dave")
PLACES = (*(("alice", box) for box in (*BOXES, RENAMED)), *((user, "INBOX") for user in USERS[1:]))


def program_of(folder: Path, format: str, workers: int, sink: Sink) -> Program:
    return Program(
        folder,
        workers=workers,
        durability="strict",
        mailbox_format=format,
        protocols=("imap", "pop3", "smtp", "lmtp"),
        users=USERS,
        settings=receiving(folder, f"relay_host = '127.0.0.1:{sink.port}'\nretry_first_seconds = 1"),
    )


# poplib leaves its socket open when the greeting does not come
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(120 + KILLS * 30)
@pytest.mark.parametrize(
    ("format", "workers"), [("maildir", 1), ("maildir", 2), ("mbox", 1), ("mbox", 2), ("mbox-fs", 2)]
)
def test_nothing_promised_is_lost(tmp_path: Path, format: str, workers: int) -> None:
    """All workers are killed, or one of two; then everything that was acknowledged is demanded."""
    print(f"CRASH_SEED={SEED}")
    rng, ledger, one = random.Random(SEED), Ledger(), False
    with Sink() as sink, program_of(tmp_path, format, workers, sink) as program:
        with Model(program.ports["imap"]) as first:
            first.require("CREATE Work")
        for kill in range(KILLS):
            one = workers > 1 and not one and rng.random() < 0.6
            run_until_killed(program, ledger, rng.random() * rng.choice((0.05, 0.3, 1.0)), SEED + kill, one=one)
            if not one:
                program.start()
            look(program, ledger, format)
        got = wait_for_queue(sink, ledger, tmp_path / "queue")
        look(program, ledger, format)
    leftovers(program.mail, format)
    missing = {"APPEND", "COPY", "MOVE", "STORE", "RENAME", "SMTP", "LMTP"} - ledger.done.keys()
    assert KILLS < 5 or not missing, f"never got as far as {missing}"
    print(f"kills: {KILLS}, relayed: {got}, promises: {ledger.done.total()} {dict(ledger.done)}")


def run_until_killed(program: Program, ledger: Ledger, seconds: float, seed: int, *, one: bool) -> None:
    """``one``: a single worker is killed, and the clients of the others go on for a while."""
    imap, pop3, smtp, lmtp = (program.ports[name] for name in ("imap", "pop3", "smtp", "lmtp"))
    errors: list[BaseException] = []

    def guarded(run: object) -> None:
        try:
            run()  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    clients = [
        *(Client(imap, ledger, n, seed).run for n in range(3)),
        RenameClient(imap, ledger).run,
        PopClient(pop3, imap, ledger, seed).run,
        SmtpClient(smtp, ledger, seed).run,
        LmtpClient(lmtp, ledger, seed).run,
    ]
    ledger.stop.clear()
    threads = [threading.Thread(target=guarded, args=(run,)) for run in clients]
    for thread in threads:
        thread.start()
    ledger.stop.wait(seconds + 0.1)
    if one:
        program.kill_one(seed)
        ledger.stop.wait(0.3)
    else:
        program.kill()
    ledger.stop.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def look(program: Program, ledger: Ledger, format: str) -> None:
    """By IMAP, and at the files: nothing twice, nothing wrong."""
    ledger.present.clear()
    for user, box in PLACES:
        demand(program.ports["imap"], ledger, user, box)
    lost = ledger.moving - ledger.present
    assert not lost, f"moved and nowhere: {lost}"
    ledger.moving.clear()
    for user in USERS:
        account = program.mail / user
        assert check_account(str(account)) == []
        for path in mailboxes(account, format):
            if format == "maildir":
                names = Counter(name.partition(":")[0] for part in ("cur", "new") for name in os.listdir(path / part))
                assert max(names.values(), default=1) == 1


def mailboxes(account: Path, format: str) -> Iterator[Path]:
    if format == "maildir":
        yield account
    if format == "mbox-fs":
        yield from (path for path in account.rglob("*") if path.is_file() and OWN not in path.parts)
        return
    for path in account.iterdir():
        if path.name.startswith(".") and path.is_dir() == (format == "maildir") and path.suffix != ".lock":
            yield path


def wait_for_queue(sink: Sink, ledger: Ledger, queue: Path) -> int:
    """What was accepted for elsewhere arrives there, perhaps twice: RFC 5321 section 6.1."""
    deadline = time.monotonic() + 90
    while True:
        tokens = [re.search(rb"^Subject: (\S+)", got.octets, re.M) for got in list(sink.got)]
        missing = ledger.queued - {token[1].decode() for token in tokens if token is not None}
        if not missing:
            return len(tokens)
        assert time.monotonic() < deadline, f"accepted for elsewhere and not sent: {missing}"
        with sink.arrived:
            sink.arrived.wait(0.2)


def leftovers(mail: Path, format: str) -> None:
    """What a kill leaves behind lies in ``tmp/``, where nobody sees it, and is swept away one day."""
    known = {"cur", "new", "tmp", "maildirfolder", "subscriptions"}
    for user in USERS:
        account = mail / user
        if format == "mbox-fs":
            sweep_locks([str(account)], time.time() + 40 * 3600)
            visible = {path.name for path in mailboxes(account, format) if ".imap" not in path.parts}
            assert visible <= {*BOXES, *NAMES, "Drafts", "Sent", "Junk", "Archive", "inbox", ".subscriptions"}, visible
            account = account / OWN
        sweep(str(account), time.time() + 40 * 3600)
        for path in mailboxes(account, format):
            if format == "maildir":
                assert os.listdir(path / "tmp") == []
                assert strangers(path, known) == []
        assert os.listdir(account / "tmp") == []
        names = {path.name for path in mailboxes(account, format)} | {"tmp"}
        assert strangers(account, known | names) == []


def strangers(folder: Path, known: Sequence[str] | set[str]) -> list[str]:
    return [
        name
        for name in os.listdir(folder)
        if name not in known
        and not name.startswith(("dovecot-", "mailserver"))
        and not (folder / name / "maildirfolder").exists()
    ]
