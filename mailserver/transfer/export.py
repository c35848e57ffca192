"""An account written out to a directory, as a Maildir or as mbox files: an import the other way round.

What is written is what we, and Dovecot, serve from: UIDs, UIDVALIDITY, flags, keywords, subscriptions, dates and POP3's
unique-ids are in it. For Courier its own books are written beside (`couriers`). An export may be done again: it adds
what is new, and takes nothing away. ``mailserver-imported`` in the directory says what it has.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator

from mailserver.store.account import Account
from mailserver.store.layout import INBOX_FILE, LAYOUTS
from mailserver.store.store import Store
from mailserver.transfer import couriers
from mailserver.transfer.engine import Import, Progress, Result
from mailserver.transfer.model import SourceError
from mailserver.transfer.naming import Mapping
from mailserver.transfer.record import NAME, Record
from mailserver.transfer.sources.account import AccountOrigin, UniqueIds

FORMATS = ("maildir", "mbox", "courier")
_SCRATCH = "mailserver-export"
_PARTS = ("tmp", "new", "cur")


def export(
    account: Account,
    directory: str,
    form: str,
    *,
    layout: str,
    mapping: Mapping,
    unique_ids: UniqueIds,
    jobs: int,
    show: Callable[[Progress], None],
    mirror: bool = False,
) -> tuple[list[Result], couriers.Lost]:
    """``form`` is one of `FORMATS`. What became of each folder, and what Courier's books cannot hold.

    StoreError; SourceError when something else is in the directory; OSError.
    """
    root = os.path.abspath(directory)
    _prepare(root, "mbox" if form == "mbox" else "maildir")
    if form == "courier":
        couriers.to_ours(root)
    with (
        _scratch(f"{root}/{'.' if LAYOUTS[layout].nested else ''}{_SCRATCH}") as index,
        Store(
            os.path.dirname(root) + "/{user}",
            index_path=index,
            format="mbox" if form == "mbox" else "maildir",
            layout=layout,
        ) as store,
    ):
        target = store.account(os.path.basename(root))
        origin = AccountOrigin(account, unique_ids)
        record = Record(root, origin.identity, writing=True)
        try:
            results = Import(target, origin, record, mapping, jobs, show, mirror=mirror).run()
        finally:
            record.close()
    lost = couriers.write(root) if form == "courier" else couriers.Lost()
    return results, lost


@contextlib.contextmanager
def _scratch(path: str) -> Iterator[str]:
    """Where the index lies as long as it is needed: there, for so whoever dies leaves nothing that the next one does
    not find."""
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path, 0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _prepare(root: str, format: str) -> None:
    """Make the INBOX, so that it is no new account, which gets the usual folders."""
    if os.path.isdir(root) and os.listdir(root) and not os.path.exists(f"{root}/{NAME}"):
        raise SourceError(f"{root}: it is not empty, and no export was there before")
    os.makedirs(root, mode=0o700, exist_ok=True)
    os.close(os.open(f"{root}/{NAME}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))  # first: it says what this is
    os.makedirs(f"{root}/tmp", mode=0o700, exist_ok=True)  # noqa: S108 - a Maildir has a tmp of its own
    if format == "mbox":
        if os.path.isdir(f"{root}/cur"):
            raise SourceError(f"{root}: a Maildir is there already")
        os.close(os.open(f"{root}/{INBOX_FILE}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return
    if os.path.exists(f"{root}/{INBOX_FILE}"):
        raise SourceError(f"{root}: mbox files are there already")
    for part in _PARTS:
        os.makedirs(f"{root}/{part}", mode=0o700, exist_ok=True)
