"""Imports and exports are killed at each of their steps, and go on: nothing is there twice, nothing is missing.

CRASH_N: how often; what goes on is killed again now and then.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mailserver.__main__ import main
from mailserver.app import App
from mailserver.store.account import Account
from mailserver.store.check import check_account
from mailserver.store.mailbox import FlagOp
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from mailserver.transfer import couriers
from tests.messages import corpus
from tests.unit.store.conftest import put
from tests.unit.transfer.test_import import state

ROOT = Path(__file__).resolve().parents[2]
STEPS = -(-int(os.environ.get("CRASH_N", "24")) // 5)  # of each way
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
_BOOKS = re.compile(rb"^(Status|X-Status|X-Keywords|X-UID|X-IMAP|X-IMAPbase|Content-Length):", re.M | re.I)
_WAYS = [
    *(("imap", "maildir"), ("imap", "mbox"), ("maildir", "maildir"), ("pop3", "maildir")),
    *(("export", "maildir"), ("export", "mbox"), ("export", "courier")),
]


def _years(account: Account) -> None:
    """An account whose UIDs have gaps; nothing in it that an mbox keeps in another way."""
    for name in ("Work/2024", "Entwürfe"):
        account.create(name, alone=True)
        account.subscribe(name)
    texts = [text for text in corpus() if text.isascii() and b"\0" not in text and not _BOOKS.search(text)]
    for number, octets in enumerate(texts[:36]):
        mailbox = account.mailbox(["INBOX", "Work/2024", "Entwürfe"][number % 3])
        flags = [0, Flag.SEEN, Flag.FLAGGED | Flag.ANSWERED, Flag.DRAFT][number % 4]
        words = ("work", "$Forwarded")[: number % 3]
        put(mailbox, b"X-Number: %d\r\n" % number + octets, flags, words, 1_300_000_000 + number)
    for name in ("INBOX", "Work/2024"):
        account.mailbox(name).expunge([2, 5, 6])


def _change(account: Account) -> None:
    """What a second import or export shall bring."""
    account.inbox.store_flags([1, 3], FlagOp.ADD, Flag.DRAFT, ["late"])
    account.inbox.expunge([7])
    put(account.inbox, b"X-Number: 99\r\n\r\nlate\r\n", Flag.SEEN, ("late",), 1_400_000_000)
    account.create("New")
    put(account.mailbox("New"), b"X-Number: 100\r\n\r\nnew\r\n", date=1_400_000_001)


class Way:
    """What is killed, and what it must have done in the end."""

    def __init__(self, source: str, form: str, server: App, folder: Path) -> None:
        self.there = server.services.store.account("alice")
        self.source = source
        self.form = form
        self.folder = folder
        self.out = "bob" if source != "export" else "out"
        self._kind = "mbox" if form == "mbox" else "maildir"
        ports = server.ports
        self._words = {
            "imap": ["import", "bob", "--from-imap", f"imap://alice:secret@127.0.0.1:{ports['imap']}"],
            "pop3": ["import", "bob", "--from-pop3", f"pop3://alice:secret@127.0.0.1:{ports['pop3']}"],
            "maildir": ["import", "bob", "--from-maildir", self.there.root],
        }

    def words(self, mail: Path) -> list[str]:
        config = mail.parent / f"{mail.name}.toml"
        where = mail if self.source != "export" else Path(self.there.root).parent
        form = self._kind if self.source != "export" else "maildir"
        config.write_text(f"[storage]\nmailbox_path = '{where}'\nformat = '{form}'\n")
        chosen = ["export", "alice", str(mail / self.out), "--format", self.form]
        chosen = self._words.get(self.source, chosen)
        return [*chosen, "--config", str(config), "--json", "--mirror", "--jobs", "2"]

    def found(self, mail: Path) -> dict[str, object]:
        numbered = self.source != "pop3"  # it has no UIDs to keep, and no dates
        if self.form == "courier":  # as we know the names, in a copy
            shutil.rmtree(self.folder / "ours", ignore_errors=True)
            shutil.copytree(mail, self.folder / "ours")
            mail = self.folder / "ours"
            couriers.to_ours(str(mail / self.out))
        with Store(str(mail) + "/{user}", format=self._kind, durability="relaxed") as store:
            account = store.account(self.out)
            found = {
                name: value if numbered or name == "subscribed" else [row[4] for row in value[2]]  # type: ignore[index]
                for name, value in state(account).items()
            }
            found["unique-ids"] = [m.saved for m in account.inbox.maildrop()[1]]
        assert check_account(str(mail / self.out)) == []
        return found

    def whole(self, mail: Path) -> None:
        assert main(self.words(mail)) == 0

    def killed(self, mail: Path, step: int) -> tuple[int, int]:
        """Run it until it dies; its status, and its steps if it did not."""
        words = [sys.executable, "-m", "tests.crash.transfer_victim", str(step), *self.words(mail)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=100, check=False)
        steps = re.search(r"steps: (\d+)", done.stderr)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode, int(steps[1]) if steps else 0


@pytest.mark.timeout(120 + 20 * STEPS)
@pytest.mark.parametrize(("source", "form"), _WAYS)
def test_killed_at_each_step(
    source: str, form: str, server: App, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print(f"CRASH_SEED={SEED}")
    rng, way = random.Random(SEED), Way(source, form, server, tmp_path)
    _years(way.there)
    reference, start = tmp_path / "reference", tmp_path / "start"
    status, first = way.killed(reference, 0)
    assert (status, first > 100) == (0, True)
    before = way.found(reference)
    shutil.copytree(reference, start)
    _change(way.there)
    status, second = way.killed(reference, 0)
    assert (status, second > 20) == (0, True)
    expected = way.found(reference)
    assert expected != before
    texts = _octets(expected) | _octets(before)
    for number in range(STEPS):
        mail = tmp_path / f"mail{number}"
        again = number % 3 == 2  # the second import dies, not the first
        if again:
            shutil.copytree(start, mail)
        count = second if again else first
        step = 1 + (number * count + rng.randrange(count)) // STEPS
        while way.killed(mail, step)[0] and step > 1:  # and once more, some steps further on
            _no_half_messages(mail / way.out, texts)
            step = rng.randrange(1, 2 + step // 2) if rng.random() < 0.4 else 0
        capsys.readouterr()
        way.whole(mail)
        assert way.found(mail) == expected, (SEED, number)
        capsys.readouterr()
        way.whole(mail)
        rows = json.loads(capsys.readouterr().out)["folders"]
        assert not any(row["imported"] or row["changed"] or row["removed"] for row in rows)
        assert not list(mail.rglob("*mailserver-export*"))
        shutil.rmtree(mail)


def _octets(found: dict[str, object]) -> set[bytes]:
    values = [value for name, value in found.items() if name not in ("subscribed", "unique-ids")]
    rows = [value[2] if isinstance(value, tuple) else value for value in values]
    return {(row if isinstance(row, bytes) else row[4]).replace(b"\r", b"") for some in rows for row in some}


def _no_half_messages(root: Path, texts: set[bytes]) -> None:
    """What lies where messages lie is a whole message."""
    for path in [*root.rglob("cur/*"), *root.rglob("new/*")]:
        assert path.read_bytes().replace(b"\r", b"") in texts, path
