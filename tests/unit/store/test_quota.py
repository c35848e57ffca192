from __future__ import annotations

from pathlib import Path

import pytest

from mailserver.store.errors import Kind, StoreError
from mailserver.store.quota import Limits, parse_rule
from mailserver.store.store import Store
from tests.unit.store.conftest import put


@pytest.mark.parametrize(
    ("rule", "limits"),
    [
        ("*:storage=1G", Limits(1 << 30)),
        ("*:storage=100:messages=5", Limits(102400, 5)),
        ("*:bytes=5000", Limits(5000)),
        ("*:storage=10M:messages=1000", Limits(10 << 20, 1000)),
        ("*:ignore", Limits()),
        ("Trash:storage=+10%%", Limits()),
    ],
)
def test_rules_of_a_passwd_file(rule: str, limits: Limits) -> None:
    assert parse_rule(rule) == limits


def test_every_way_in_is_limited(tmp_path: Path) -> None:
    with Store(str(tmp_path), durability="relaxed", limits=lambda user: Limits(1000, 3)) as store:
        account = store.account("a")
        inbox = account.inbox
        put(inbox, b"x" * 398 + b"\r\n")
        put(inbox, b"x" * 398 + b"\r\n")
        assert (account.quota.usage().octets, account.quota.usage().messages) == (800, 2)
        for action in (lambda: put(inbox, b"x" * 300), lambda: inbox.copy([1], account.mailbox("Sent"))):
            with pytest.raises(StoreError) as error:
                action()
            assert error.value.kind is Kind.NO_QUOTA
        inbox.move([1], account.mailbox("Sent"))
        assert account.quota.usage().messages == 2
        inbox.expunge([2])
        assert account.quota.usage().octets == 400
        put(inbox, b"a")
        put(inbox, b"b")
        with pytest.raises(StoreError):
            put(inbox, b"c")
        assert (tmp_path / "a/maildirsize").read_text().startswith("1000S,3C\n")
        account.create("x")
        account.mailbox("Sent").move([1], account.mailbox("x"))
        account.delete("x")
        assert account.quota.usage().messages == 2


def test_the_file_is_counted_anew(tmp_path: Path) -> None:
    with Store(str(tmp_path), durability="relaxed", limits=lambda user: Limits(100000)) as store:
        account = store.account("a")
        put(account.inbox, b"x" * 100)
        path = tmp_path / "a/maildirsize"
        assert account.quota.usage().octets == 100
        for damage in ("5S\n1 1\n", "100000S\n" + "1 1\n" * 2000, "garbage", "100000S\n-5 -1\n"):
            path.write_text(damage)
            assert account.quota.usage().octets == 100, damage
        path.unlink()
        assert account.quota.usage().messages == 1


def test_limits_left_by_another_program_count(tmp_path: Path) -> None:
    with Store(str(tmp_path), durability="relaxed") as store:
        account = store.account("a")
        assert not account.quota.limits()
        (tmp_path / "a/maildirsize").write_text("50S\n0 0\n")
        assert account.quota.limits() == Limits(50)
        with pytest.raises(StoreError):
            put(account.inbox, b"x" * 51)


def test_limits_that_cannot_be_read(tmp_path: Path) -> None:
    """Nobody knows what may come in, so nothing does for now."""
    with Store(str(tmp_path), durability="relaxed") as store:
        account = store.account("a")
        (tmp_path / "a" / "maildirsize").mkdir()
        for action in (account.quota.limits, lambda: put(account.inbox, b"x" * 300)):
            with pytest.raises(StoreError) as error:
                action()
            assert error.value.kind is Kind.TEMPORARY
