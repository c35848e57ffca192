"""The power fails at any answer: what was not synced is gone, and what was promised is there.

CRASH_N: how often, at each answer, some of what was not synced survives at random; CRASH_SEED: as last time.
"""

from __future__ import annotations

import os
import random
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from mailserver.delivery.queue.spool import Spool
from mailserver.store.account import Account
from mailserver.store.check import check_account
from mailserver.store.errors import StoreError
from mailserver.store.model.flags import Flag
from mailserver.store.model.rights import Who
from tests.crash.drive import Asked, Promised, driven
from tests.crash.powerless import Disk
from tests.unit.store.conftest import open_store

TRIES = max(2, int(os.environ.get("CRASH_N", "0")) // 20)
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
_FLAGS = {
    "\\seen": Flag.SEEN,
    "\\answered": Flag.ANSWERED,
    "\\flagged": Flag.FLAGGED,
    "\\deleted": Flag.DELETED,
    "\\draft": Flag.DRAFT,
}


@pytest.mark.timeout(300 + 30 * TRIES)
@pytest.mark.parametrize("format", ["maildir", "mbox", "mbox-fs"])
def test_power_fails_at_any_answer(tmp_path: Path, format: str) -> None:
    print(f"CRASH_SEED={SEED}")
    rng, failures, promises = random.Random(SEED), 0, 0
    (tmp_path / "server").mkdir()
    steps = driven(tmp_path / "server", format)
    disk = Disk(tmp_path / "server")
    for number, asked in enumerate(steps):
        promises += len(asked.step.promised.there) + len(asked.step.promised.delivered)
        for place, call in enumerate(asked.calls):
            if place == asked.answer:
                for chance in (0.0, *[rng.choice((0.2, 0.5, 0.8, 1.0)) for _ in range(TRIES)]):
                    fail(disk, tmp_path / "after", asked, rng, chance, number, format)
                    failures += 1
            disk.take(call)
    assert len(steps) > 30
    print(f"answers: {len(steps)}, power failures: {failures}, promises demanded: {promises * (1 + TRIES)}")


def fail(disk: Disk, folder: Path, asked: Asked, rng: random.Random, chance: float, number: int, format: str) -> None:
    """Lose the power, and look at what is left."""
    folder.mkdir()
    disk.survives(folder, rng, chance)
    for path in folder.glob("mail/*/**/*.lock"):  # stale two minutes later, which is not waited for here
        if path.is_file() and not path.name.startswith("mailserver"):
            path.unlink()
    try:
        demand(folder, asked.step.promised, format)
    except AssertionError as error:
        left = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
        raise AssertionError(f"{asked.step.name} (step {number}, {chance} survives): {error}\n{left}") from error
    shutil.rmtree(folder)


def demand(folder: Path, promised: Promised, format: str) -> None:
    """Start the store on what is left; all that was promised is there."""
    users = {key[0] for key in promised.there} | {user for user, _ in promised.delivered} | {"alice"}
    with open_store(folder / "mail", format) as store:
        for user in sorted(users):
            account = store.account(user)
            names = {info.name for info in account.mailboxes() if info.selectable}
            for box in names:
                demand_box(account, user, box, promised)
            assert {box for whose, box in promised.boxes if whose == user} <= names, names
            assert not {box for whose, box in promised.no_boxes if whose == user} & names, names
            assert {box for whose, box, _ in promised.there if whose == user} <= names, names
            for (owner, box, who), letters in promised.rights.items():
                if owner == user:
                    found = account.access.rights(box, Who(who), look=True)
                    assert found == frozenset(letters), f"rights of {who} to {box} of {user}: {set(found)}"
            if user == "alice":
                subscribed = set(account.subscriptions())
                assert promised.subscribed <= subscribed, subscribed
                assert not promised.unsubscribed & subscribed, subscribed
    for user in users:
        assert check_account(str(folder / "mail" / user)) == []
    if promised.queued:
        demand_queue(folder / "queue", promised.queued)


def demand_box(account: Account, user: str, box: str, promised: Promised) -> None:
    try:
        mailbox = account.mailbox(box)
        snapshot = mailbox.rescan()
        found = {int(m.uid): (m, mailbox.open(m).read()) for m in snapshot.messages}
    except StoreError as error:
        raise AssertionError(f"{box}: {error.text}") from error
    there = {uid: octets for (whose, name, uid), octets in promised.there.items() if (whose, name) == (user, box)}
    used = {uid: octets for (whose, name, uid), octets in promised.used.items() if (whose, name) == (user, box)}
    if there:
        assert snapshot.uidvalidity == promised.validity[user, box], f"UIDVALIDITY of {box}"
        assert snapshot.uidnext > max(used), f"UIDNEXT of {box} is {snapshot.uidnext}, {max(used)} was given"
    for uid, octets in there.items():
        assert uid in found, f"{box} {uid} is lost"
        m, read = found[uid]
        assert read == octets, f"{box} {uid} has other octets"
        date = promised.dates.get((user, box, uid), m.internaldate)
        assert m.internaldate == date, f"{box} {uid} has the date {m.internaldate}, promised {date}"
        wanted = promised.flags.get((user, box, uid))
        if wanted is not None:
            has = {name for name, bit in _FLAGS.items() if m.flags & bit} | {word.lower() for word in m.keywords}
            assert has == wanted, f"{box} {uid} has {has}, promised {set(wanted)}"
    for uid, (_, read) in found.items():
        assert used.get(uid, read) == read, f"UID {uid} of {box} is another message"
        assert (user, box, uid) not in promised.gone, f"{box} {uid} came back"
    delivered = [octets for whose, octets in promised.delivered if whose == user and box == "INBOX"]
    for octets in delivered:
        copies = sum(read.endswith(octets) for _, read in found.values())
        assert copies == 1, f"{octets[:20]!r} is there {copies} times"


def demand_queue(path: Path, queued: set[bytes]) -> None:
    with closing(Spool(str(path), sync=False)) as spool:
        texts = [Path(spool.file(q.envelope.id)).read_bytes() for q in spool.all() if q.waiting]
    for octets in queued:
        assert sum(text.endswith(octets) for text in texts) == 1, f"{octets[:20]!r} is not in the queue"
