"""A conversion is killed at each of its steps: the mailbox is the old one or the new one, and whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailserver.store.account import Account
from mailserver.store.check import check_account
from mailserver.store.mailbox import Append
from mailserver.store.model.flags import Flag
from tests.unit.store.conftest import open_store

ROOT = Path(__file__).resolve().parents[2]
STEPS = int(os.environ.get("CONVERT_STEPS", "8"))  # of each way, spread over all there are


def _fill(account: Account, name: str) -> None:
    mailbox = account.mailbox(name)
    for number in range(4):
        with mailbox.receive() as incoming:
            incoming.write(b"Subject: %d\r\n\r\nFrom me\r\n" % number)
            words = frozenset({"work"}) if number % 2 else frozenset()
            mailbox.append([Append(incoming, Flag.SEEN * (number % 2), words, 1_300_000_000 + number)])
    mailbox.expunge([2])


def _seen(account: Account, name: str) -> tuple[object, ...]:
    mailbox = account.mailbox(name)
    s = mailbox.rescan()
    rows = [(m.uid, m.flags, sorted(m.keywords), m.internaldate, mailbox.read(m)) for m in s.messages]
    return s.uidvalidity, s.uidnext, rows


def _victim(mail: Path, name: str, format: str, step: int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "tests.crash.convert_victim", str(mail), name, format, str(step)]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


@pytest.mark.parametrize(("kind", "name"), [("maildir", "INBOX"), ("maildir", "Work"), ("mbox-fs", "Work/2024")])
@pytest.mark.parametrize("format", ["mbox", "maildir"])
def test_killed_at_each_step(tmp_path: Path, kind: str, name: str, format: str) -> None:
    start = tmp_path / "start"
    with open_store(start, kind) as store:
        account = store.account("alice")
        if name != "INBOX":
            account.create(name)
        _fill(account, name)
        if format == account.mailbox(name).files.format:
            account.convert(name, "maildir" if format == "mbox" else "mbox")
        before = _seen(account, name)
    shutil.copytree(start, tmp_path / "whole")
    whole = _victim(tmp_path / "whole", name, format, 0)
    assert whole.returncode == 0, whole.stderr
    count = int(whole.stdout)
    assert count > 20
    steps = sorted({1 + i * count // min(STEPS, count) for i in range(min(STEPS, count))})

    def killed(step: int) -> bool:
        mail = tmp_path / f"mail{step}"
        shutil.copytree(start, mail)
        done = _victim(mail, name, format, step)
        assert done.returncode == -signal.SIGKILL, (step, done.stderr)
        with open_store(mail, kind) as store:
            account = store.account("alice")
            assert _seen(account, name) == before, step
            assert not [n for n in os.listdir(account.root) if "convert" in n and not n.endswith(".lock")], step
            now = account.mailbox(name).files.format
            account.convert(name, "maildir" if now == "mbox" else "mbox")
            assert _seen(account, name) == before, step
        assert check_account(str(mail / "alice")) == [], step
        shutil.rmtree(mail)
        return now == format

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(killed, steps))
    assert not done[0]
    assert done[-1]
    assert done == sorted(done)  # once it is the new one, it stays that
