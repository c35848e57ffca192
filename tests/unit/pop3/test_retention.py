"""The retention job: what is too old goes, from maildrops that nobody uses. RFC 2449 section 6.7."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mailserver.auth.users import UsersUnavailable
from mailserver.config.schema import Pop3Config
from mailserver.ops import metrics
from mailserver.pop3.retention import Retention
from mailserver.pop3.server import Pop3Server
from mailserver.store.mailbox import Append
from mailserver.store.store import Store

DAY = 86400


def arrive(store: Store, user: str, date: int | None = None, folder: str = "INBOX") -> None:
    box = store.account(user).mailbox(folder)
    with box.receive() as incoming:
        incoming.write(b"a: b\r\n\r\nc\r\n")
        box.append([Append(incoming, internaldate=date)])


def count(store: Store, user: str, folder: str = "INBOX") -> int:
    return len(store.account(user).mailbox(folder).rescan().messages)


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    now = time.time()
    with Store(str(tmp_path), durability="relaxed") as store:
        arrive(store, "alice")
        arrive(store, "alice", int(now) - 400 * DAY)  # an old date, but here since today
        arrive(store, "alice", int(now) + 5 * DAY)
        arrive(store, "alice", folder="Archive")
        job = Retention(lambda: store, lambda: ["alice", "nobody", "../bad"], 3)
        assert job.round() == 0
        assert job.round(now + 3 * DAY - 60) == 0
        before = metrics.POP3_EXPIRED.value()
        assert job.round(now + 3 * DAY + 60) == 2
        assert metrics.POP3_EXPIRED.value() == before + 2
        assert count(store, "alice") == 1
        assert count(store, "alice", "Archive") == 1
        assert not (tmp_path / "nobody").exists()


def test_a_maildrop_in_use_is_left_alone(tmp_path: Path) -> None:
    with Store(str(tmp_path), durability="relaxed") as store:
        for user in ("alice", "bob"):
            arrive(store, user)
        job = Retention(lambda: store, lambda: ["alice", "bob"], 1)
        with store.account("alice").maildrop_lock():
            assert job.round(time.time() + 2 * DAY) == 1
        assert (count(store, "alice"), count(store, "bob")) == (1, 0)
        assert job.round(time.time() + 2 * DAY) == 1


def test_the_server_does_it_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(str(tmp_path), durability="relaxed") as store:
        arrive(store, "alice")
    monkeypatch.setattr("mailserver.pop3.retention._DAY_SECONDS", -DAY)  # everything is older than minus a day
    config = Pop3Config(
        host="127.0.0.1", port=0, ssl_port=-1, mailbox_path=str(tmp_path), users={"alice": "x"}, expire_days=1
    )
    deadline = time.monotonic() + 10
    with Pop3Server(config) as server:
        while time.monotonic() < deadline and server.services.store.account("alice").inbox.rescan().messages:
            time.sleep(0.01)
        assert count(server.services.store, "alice") == 0


def test_a_bad_round_is_not_the_last(tmp_path: Path, log_lines: list[str]) -> None:
    def users() -> list[str]:
        raise UsersUnavailable("gone")

    with Store(str(tmp_path), durability="relaxed") as store:
        job = Retention(lambda: store, users, 1)
        job.start()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not any("retention" in line for line in log_lines):
            time.sleep(0.01)
        job.stop()
    assert any("retention" in line and "gone" in line for line in log_lines)
