"""An account of this server as a source of mail: what ``export`` reads. The server may run meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.model.message import Snapshot
from mailserver.store.model.pop import PopMessage
from mailserver.store.tree import names
from mailserver.transfer.model import Contents, Folder, Item, from_nothing

UniqueIds = Callable[[int, Sequence[PopMessage]], Sequence[str]]  # of UIDVALIDITY and messages


class AccountOrigin:
    """See `mailserver.transfer.model.Origin`. ``unique_ids`` says what POP3 clients know the messages of the INBOX
    by."""

    parallel = True

    def __init__(self, account: Account, unique_ids: UniqueIds) -> None:
        self._account = account
        self._unique_ids = unique_ids
        self.identity = f"account:{account.user}"

    def folders(self) -> Sequence[Folder]:
        """All that can be opened; files of other programs among nested mboxes cannot."""
        names_ = [info.name for info in self._account.mailboxes() if info.selectable]
        return [Folder(name, name) for name in names_ if not self._account.tree.foreign(name)]

    def count(self, folder: Folder) -> int:
        """See `mailserver.transfer.model.Origin`."""
        return len(self._account.mailbox(folder.source).snapshot().messages)

    def subscriptions(self) -> Sequence[str]:
        """As they are."""
        return self._account.subscriptions()

    def contents(self, folder: Folder, since: Callable[[Folder], int] = from_nothing) -> Contents:
        """With the UIDs as keys."""
        snapshot, pop = self._account.mailbox(folder.source).maildrop()
        ids = self._ids(folder, snapshot, pop)
        places = self._places(pop)
        found = [
            Item(
                str(m.uid),
                int(m.uid),
                m.flags,
                m.keywords,
                m.internaldate,
                m.size,
                ids.get(m.uid, ""),
                places.get(m.uid, 0),
            )
            for m in snapshot.messages
        ]
        return Contents(Folder(folder.name, folder.source, int(snapshot.uidvalidity), snapshot.uidnext), found)

    def keys(self, folder: Folder) -> Collection[str]:
        """See `mailserver.transfer.model.Origin`."""
        return [str(m.uid) for m in self._account.mailbox(folder.source).rescan().messages]

    def _ids(self, folder: Folder, snapshot: Snapshot, pop: Sequence[PopMessage]) -> dict[int, str]:
        if folder.source != names.INBOX:
            return {m.message.uid: m.saved for m in pop if m.saved}
        given = self._unique_ids(int(snapshot.uidvalidity), pop)
        return {m.message.uid: uidl for m, uidl in zip(pop, given, strict=True)}

    def _places(self, pop: Sequence[PopMessage]) -> dict[int, int]:
        """POP3's order, where it is not that of the UIDs."""
        uids = [m.message.uid for m in pop]
        return {} if uids == sorted(uids) else {uid: place for place, uid in enumerate(uids, 1)}

    def session(self) -> AccountOrigin:
        """Any thread may read."""
        return self

    def fetch(self, folder: Folder, items: Sequence[Item]) -> Iterator[tuple[Item, Iterable[bytes]]]:
        """By UID."""
        mailbox = self._account.mailbox(folder.source)
        messages = {int(m.uid): m for m in mailbox.snapshot().messages}
        for item in items:
            if item.uid in messages:
                with contextlib.ExitStack() as stack:
                    try:
                        content = stack.enter_context(mailbox.open(messages[item.uid]))
                    except StoreError as error:
                        if error.kind is not Kind.EXPUNGED:
                            raise
                        continue
                    yield item, content.chunks()

    def close(self) -> None:
        """Nothing is open."""
