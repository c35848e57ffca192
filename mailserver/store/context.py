"""What the accounts of one process share, and what the mailboxes of one account share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailserver.store.counters import Counters
from mailserver.store.index.db import Index
from mailserver.store.index.text import TextIndex
from mailserver.store.kept import Open, Values
from mailserver.store.quota import Quota
from mailserver.store.search.indexer import Indexer
from mailserver.store.search.texts import TextCache
from mailserver.store.sharing.shares import Shares
from mailserver.store.watch import Watcher


@dataclass(frozen=True, slots=True)
class Shared:
    """Handed by the store to each of its accounts: one of each in a process."""

    counters: Counters
    watcher: Watcher
    indexer: Indexer
    texts: TextCache
    values: Values
    open: Open
    shares: Shares | None  # None: nobody has rights to the mailboxes of others


@dataclass(frozen=True, slots=True)
class Context:
    """Handed by an account to each of its mailboxes."""

    shared: Shared
    index: Index
    text: TextIndex
    quota: Quota
    sync: bool  # durability strict: fsync before a promise
    new_uidvalidity: Callable[[], int]
    max_keywords: int = 500  # per mailbox; a client that makes one per message must not grow every file name table
