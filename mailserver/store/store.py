"""All accounts of one mail directory, in one process."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable

from mailserver.store.account import INDEX_NAME, Account
from mailserver.store.context import Shared
from mailserver.store.counters import Counters
from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.kept import Open, Values
from mailserver.store.quota import Limits
from mailserver.store.search.indexer import Indexer
from mailserver.store.search.texts import TextCache
from mailserver.store.sharing.access import lists_of
from mailserver.store.sharing.shares import Record, Shares, record_of, users_of
from mailserver.store.tree import names
from mailserver.store.tree.tree import Tree
from mailserver.store.watch import Watcher

_REFRESH_SECONDS = 600.0  # an account that mail comes to is opened again and again
_BAD_USER = re.compile(r"[/\x00-\x1f\x7f]|\A\.|\A\Z")
_KEPT_OPEN = 256  # accounts whose state is kept though nobody is logged in


class Store:
    """Made once per process, after forking. Thread-safe."""

    def __init__(
        self,
        mailbox_path: str,
        *,
        index_path: str = "",
        durability: str = "strict",
        format: str = "maildir",
        layout: str = "maildir++",
        mbox_inbox: str = "",
        limits: Callable[[str], Limits] | None = None,
        shared: bool = True,
    ) -> None:
        """``mailbox_path`` may hold ``{user}``, ``{local}``, ``{domain}``; without them ``/{user}`` is meant.

        ``index_path``: where the indexes are, empty for inside each user's directory. ``durability``: ``strict`` or
        ``relaxed`` (no fsync). ``format``: ``maildir`` or ``mbox`` for new mailboxes;
        ``layout``: ``maildir++``, or ``fs`` for nested directories; ``mbox_inbox``: where INBOX is when it is an mbox.
        ``limits`` says what a user may hold. ``shared``: access lists are obeyed, which may give rights to other users.
        """
        has_user = "{user}" in mailbox_path or "{local}" in mailbox_path
        self._template = mailbox_path if has_user else mailbox_path.rstrip("/") + "/{user}"
        self._index_path = index_path
        self._sync = durability == "strict"
        self._layout = layout
        self._mbox = format == "mbox"
        self._mbox_inbox = mbox_inbox
        self._limits = limits or (lambda user: Limits())
        counters = Counters(self._template.partition("{")[0])
        above = os.path.dirname(os.path.abspath(self._template.partition("{")[0] + "x"))
        self.shares = Shares(above, counters, self._all_lists, sync=self._sync) if shared else None
        self.rights_tick: Callable[[], int] = self.shares.tick if self.shares is not None else int
        self._shared = Shared(counters, Watcher(), Indexer(), TextCache(), Values(), Open(), self.shares)
        self._refreshed: dict[str, float] = {}  # user -> when all access lists of the account were looked at
        self._guard = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._accounts: weakref.WeakValueDictionary[str, Account] = weakref.WeakValueDictionary()
        self._recent: OrderedDict[str, Account] = OrderedDict()

    def directory(self, user: str) -> str:
        """The user's Maildir; StoreError BAD_NAME for a name that would leave the mail directory."""
        local, _, domain = user.partition("@")
        for part in (user, local):
            if _BAD_USER.search(part) or ".." in part.split("@"):
                raise StoreError(Kind.BAD_NAME, "this cannot be a user's name")
        if _BAD_USER.search(domain or "none"):
            raise StoreError(Kind.BAD_NAME, "this cannot be a user's name")
        return os.path.abspath(self._fill(self._template, user))

    def _fill(self, template: str, user: str) -> str:
        local, _, domain = user.partition("@")
        return template.replace("{user}", user).replace("{local}", local).replace("{domain}", domain)

    def has_account(self, user: str) -> bool:
        """Whether the user has mail here already; makes nothing. StoreError BAD_NAME."""
        return os.path.exists(self.directory(user))

    def account_there(self, user: str) -> Account | None:
        """The account of a user who has one; nothing is made. StoreError NO_PERMISSION, TEMPORARY, BAD_NAME."""
        with self._guard:
            found = self._accounts.get(user)
        if found is not None:
            return found
        with os_errors():
            return self.account(user) if self.tree_of(user).exists(names.INBOX) else None

    def account(self, user: str) -> Account:
        """The user's account, made when it is missing. StoreError NO_PERMISSION, TEMPORARY, BAD_NAME."""
        with self._guard:
            found = self._accounts.get(user)
            making = self._making.setdefault(user, threading.Lock()) if found is None else None
        if found is None:
            assert making is not None
            with making:
                with self._guard:
                    found = self._accounts.get(user)
                if found is None:
                    found = self._open(user)
        with self._guard:
            self._making.pop(user, None)
            self._accounts[user] = self._recent[user] = found
            self._recent.move_to_end(user)
            oldest = self._recent.popitem(last=False)[1] if len(self._recent) > _KEPT_OPEN else None
        if oldest is not None:
            oldest.rest()
        return found

    def index_of(self, user: str) -> str:
        """Where the user's index lies."""
        if self._index_path:
            return f"{self._index_path}/{user}/{INDEX_NAME}"
        return f"{self.tree_of(user).home}/{INDEX_NAME}"

    def tree_of(self, user: str) -> Tree:
        """The user's mailboxes, without opening the account, which may change something."""
        root, inbox = self.directory(user), self._fill(self._mbox_inbox, user)
        return Tree(root, self._layout, mbox=self._mbox, inbox=inbox, sync=self._sync)

    def _all_lists(self) -> Record:
        """Of whom the access lists of all accounts speak."""
        found = {}
        for user in users_of(self._template):
            with contextlib.suppress(StoreError, OSError):  # no user of ours
                found[user] = lists_of(self.tree_of(user))
        return record_of(found)

    def _open(self, user: str) -> Account:
        account = self._opened(user)
        now = time.monotonic()
        if now - self._refreshed.get(user, -_REFRESH_SECONDS) >= _REFRESH_SECONDS:
            self._refreshed[user] = now
            with contextlib.suppress(OSError):  # whoever looks at the mailboxes will be told
                account.access.refresh()
        return account

    def _opened(self, user: str) -> Account:
        return Account(
            user,
            self.index_of(user),
            self._shared,
            tree=self.tree_of(user),
            sync=self._sync,
            limits=self._limits(user),
        )

    def close(self) -> None:
        """Stop watching and close every index. Sessions must have ended."""
        self._shared.watcher.close()
        self._shared.indexer.close()
        with self._guard:
            accounts = list(self._accounts.values())
            self._recent.clear()
        for account in accounts:
            account.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
