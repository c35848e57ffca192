"""An account written out to a directory, as a Maildir or as mbox files: an import the other way round.

What is written is what we, and Dovecot, serve from: UIDs, UIDVALIDITY, flags, keywords, subscriptions, dates and POP3's
unique-ids are in it. For Courier its own books are written beside (`couriers`). An export may be done again: it adds
what is new, and takes nothing away. ``mailserver-imported`` in the directory says what it has.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

from mailserver.store import names
from mailserver.store.account import Account
from mailserver.store.layout import INBOX_FILE, OWN
from mailserver.store.store import Store
from mailserver.transfer import couriers
from mailserver.transfer.engine import Import, Progress, Result
from mailserver.transfer.model import SourceError
from mailserver.transfer.naming import Mapping
from mailserver.transfer.record import NAME, Record
from mailserver.transfer.sources.account import AccountOrigin, UniqueIds

FORMATS = ("maildir", "mbox", "courier")


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
) -> tuple[list[Result], couriers.Lost]:
    """``form`` is one of `FORMATS`. What became of each folder, and what Courier's books cannot hold.

    StoreError; SourceError when something else is in the directory; OSError.
    """
    root = os.path.abspath(directory)
    nested = form == "mbox" and layout == "fs"
    _check(root, "mbox" if form == "mbox" else "maildir", nested=nested)
    os.makedirs(root, mode=0o700, exist_ok=True)
    if form == "courier":
        couriers.to_ours(root)
    with (
        tempfile.TemporaryDirectory(prefix="mailserver-export") as index,
        Store(
            os.path.dirname(root) + "/{user}",
            index_path=index,
            format="mbox" if form == "mbox" else "maildir",
            layout=layout,
        ) as store,
    ):
        tree = store.tree_of(os.path.basename(root))
        tree.prepare()
        if not tree.exists(names.INBOX):  # so that it is no new account, which gets the usual folders
            tree.make(names.INBOX)
        target = store.account(os.path.basename(root))
        origin = AccountOrigin(account, unique_ids)
        record = Record(target.root, origin.identity, writing=True)
        try:
            results = Import(target, origin, record, mapping, jobs, show).run()
        finally:
            record.close()
    lost = couriers.write(root) if form == "courier" else couriers.Lost()
    return results, lost


def _check(root: str, format: str, *, nested: bool) -> None:
    """Whether nothing else is there. SourceError."""
    noted = [f"{root}/{NAME}", f"{root}/{OWN}/{NAME}"]
    if os.path.isdir(root) and os.listdir(root) and not any(map(os.path.exists, noted)):
        raise SourceError(f"{root}: it is not empty, and no export was there before")
    there = [name for name in ("cur", INBOX_FILE, OWN) if os.path.exists(f"{root}/{name}")]
    if format == "mbox" and "cur" in there:
        raise SourceError(f"{root}: a Maildir is there already")
    if format == "maildir" and {INBOX_FILE, OWN}.intersection(there):
        raise SourceError(f"{root}: mbox files are there already")
    if format == "mbox" and there and (OWN in there) is not nested:
        raise SourceError(f"{root}: mbox files are there already, laid out otherwise")
