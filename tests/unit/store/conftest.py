from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailserver.store.account import Account
from mailserver.store.check import check_account
from mailserver.store.mailbox import Append, Mailbox
from mailserver.store.store import Store

Add = Callable[..., int]


@pytest.fixture
def mail_root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "mail"
    yield root
    for user in filter(Path.is_dir, root.iterdir()) if root.exists() else ():
        assert check_account(str(user)) == []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of the store runs on both formats, but those that look at the files of one.

    Those to whom the tree matters run on mboxes in nested directories as well.
    """
    given = [mark for mark in metafunc.definition.iter_markers("parametrize") if "mailbox_format" in mark.args[0]]
    if "mailbox_format" in metafunc.fixturenames and not given:
        tree = metafunc.definition.get_closest_marker("tree") is not None
        formats = ["maildir", "mbox", "mbox-fs"] if tree else ["maildir", "mbox"]
        marked = [name for name in formats if metafunc.definition.get_closest_marker(name) is not None]
        metafunc.parametrize("mailbox_format", marked or formats)


@pytest.fixture
def store(mail_root: Path, mailbox_format: str) -> Iterator[Store]:
    with open_store(mail_root, mailbox_format) as store:
        yield store


def open_store(mail_root: Path, mailbox_format: str) -> Store:
    """``mbox-fs``: mboxes in nested directories."""
    format, _, layout = mailbox_format.partition("-")
    return Store(str(mail_root), durability="relaxed", format=format, layout=layout or "maildir++")


@pytest.fixture
def account(store: Store) -> Account:
    return store.account("alice")


@pytest.fixture
def inbox(account: Account) -> Mailbox:
    return account.inbox


def put(
    mailbox: Mailbox,
    data: bytes = b"Subject: test\r\n\r\nbody\r\n",
    flags: int = 0,
    keywords: tuple[str, ...] = (),
    date: int | None = None,
) -> int:
    with mailbox.receive() as incoming:
        incoming.write(data)
        _, uids = mailbox.append([Append(incoming, flags, frozenset(keywords), date)])
    return uids[0]
