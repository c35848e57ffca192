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
from mailserver.store.store import Store
from mailserver.store.tree import names
from mailserver.store.tree.layout import INBOX_FILE, LAYOUTS, OWN
from mailserver.transfer import couriers
from mailserver.transfer.engine import Import, Progress, Result
from mailserver.transfer.model import SourceError
from mailserver.transfer.naming import Mapping
from mailserver.transfer.record import NAME, Record
from mailserver.transfer.sources.account import AccountOrigin, UniqueIds

FORMATS = ("maildir", "mbox", "courier")
_SCRATCH = "mailserver-export"


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
    nested = form == "mbox" and layout == "fs"
    _check(root, "mbox" if form == "mbox" else "maildir", nested=nested)
    _claim(home_of(root, form, layout))
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
        tree = store.tree_of(os.path.basename(root))
        tree.prepare()
        if not tree.exists(names.INBOX):  # so that it is no new account, which gets the usual folders
            tree.make(names.INBOX)
        target = store.account(os.path.basename(root))
        origin = AccountOrigin(account, unique_ids)
        record = Record(target.root, origin.identity, writing=True)
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


def home_of(directory: str, form: str, layout: str) -> str:
    """Where our own files lie in the directory of an export."""
    root = os.path.abspath(directory)
    return f"{root}/{OWN}" if form == "mbox" and LAYOUTS[layout].nested else root


def _claim(home: str) -> None:
    """The first thing that is there says what all of it is, should nothing more be written."""
    os.makedirs(home, mode=0o700, exist_ok=True)
    os.close(os.open(f"{home}/{NAME}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _check(root: str, format: str, *, nested: bool) -> None:
    """Whether nothing else is there. SourceError."""
    noted = [f"{root}/{NAME}", f"{root}/{OWN}/{NAME}"]
    empty = not os.path.isdir(root) or os.listdir(root) in ([], [OWN])
    if not empty and not any(map(os.path.exists, noted)):
        raise SourceError(f"{root}: it is not empty, and no export was there before")
    there = [name for name in ("cur", INBOX_FILE, OWN) if os.path.exists(f"{root}/{name}")]
    if format == "mbox" and "cur" in there:
        raise SourceError(f"{root}: a Maildir is there already")
    if format == "maildir" and {INBOX_FILE, OWN}.intersection(there):
        raise SourceError(f"{root}: mbox files are there already")
    if format == "mbox" and there and (OWN in there) is not nested:
        raise SourceError(f"{root}: mbox files are there already, laid out otherwise")
