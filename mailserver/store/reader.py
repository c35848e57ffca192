"""What can be asked of a mailbox without changing it. Thread-safe; every error is a StoreError."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from mailserver.store import facts
from mailserver.store import state as states
from mailserver.store.changes import Subscription, Wake
from mailserver.store.content import Content
from mailserver.store.context import Context
from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.facts import Facts
from mailserver.store.formats.contract import Files
from mailserver.store.index.text import TextIndex
from mailserver.store.keeper import Keeper
from mailserver.store.lane import LANE
from mailserver.store.model.flags import Flag
from mailserver.store.model.message import Message, Snapshot
from mailserver.store.model.pop import PopMessage
from mailserver.store.portions import portions
from mailserver.store.search.texts import Texts, texts_of

_READ_TOGETHER = 8 << 20  # octets of messages in memory at a time
_LOOK_SECONDS = 0.02  # how often a quiet mailbox's directories are looked at when a client asks for news


class Reader:
    """``name`` is what clients call it."""

    def __init__(self, context: Context, name: str, directory: str, files: Files) -> None:
        """``directory`` is its name in the index."""
        self.name = name
        self._gone = False
        self._context = context
        self.files = files
        self.keeper = Keeper(context, directory, files)
        self._facts = self._new_facts()
        self._facts_generation = 0
        self._unseen: tuple[Snapshot, int] | None = None

    @property
    def gone(self) -> bool:
        """Whether it was deleted or renamed: whoever has it open must let go."""
        return self._gone or self.keeper.replaced

    def let_go(self) -> None:
        """It is gone: wake whoever waits for news of it."""
        self._gone = True
        self.keeper.subscribers.wake()

    def snapshot(self) -> Snapshot:
        """The mailbox as it is; without a system call when nothing happened."""
        return self.keeper.current() or self._load(look=False)

    def poll(self) -> Snapshot:
        """As ``snapshot``, and now and then looks whether another program touched the directories."""
        snapshot = self.keeper.current()
        if snapshot is not None:
            with os_errors():
                if not self.keeper.changed_outside(_LOOK_SECONDS):
                    return snapshot
        return self._load(look=False)

    def rescan(self) -> Snapshot:
        """As ``snapshot``, but looks at the directories in any case: for SELECT, STATUS and a POP3 login."""
        with os_errors():
            return (None if self.gone else self.keeper.certain()) or self._load(look=True)

    def _load(self, *, look: bool) -> Snapshot:
        with self._locked():
            return self.keeper.load(look=look).snapshot

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self.gone:
            raise StoreError(Kind.NOT_FOUND, "the mailbox is gone")
        with os_errors(), LANE, self.keeper.lock.hold(), self.files.hold():
            if self.gone:  # while we waited
                raise StoreError(Kind.NOT_FOUND, "the mailbox is gone")
            yield

    def _current_facts(self) -> Facts:
        """Those of the messages that the UIDs stand for now."""
        if self._facts_generation != self.keeper.generation:
            self._facts_generation = self.keeper.generation
            self._facts = self._new_facts()
        return self._facts

    def _new_facts(self) -> Facts:
        keeper = self.keeper
        return Facts(self._context.index, keeper.directory, self._context.shared.values, keeper.known_messages)

    def known_messages(self) -> Sequence[Message]:
        """Those that are in memory, whether they are still there or not; looks at nothing."""
        return self.keeper.known_messages()

    def open(self, message: Message) -> Content:
        """Open its octets; StoreError EXPUNGED when it is gone."""
        with os_errors():
            try:
                return self.files.open(message)
            except FileNotFoundError:
                return self._open_elsewhere(message)

    def _open_elsewhere(self, message: Message) -> Content:
        for _ in range(3):  # another session or program renamed it: find its new name
            with self._locked():
                messages = self.keeper.load(look=True).snapshot.messages
                i = states.position(messages, message.uid)
                if i == len(messages) or messages[i].uid != message.uid:
                    break
                with contextlib.suppress(FileNotFoundError):
                    return self.files.open(messages[i])
        raise StoreError(Kind.EXPUNGED, "the message has been expunged")

    def read(self, message: Message) -> bytes:
        """All octets of a message."""
        with self.open(message) as f:
            return f.read()

    def read_many(self, messages: Sequence[Message]) -> list[bytes | None]:
        """All octets of several messages, None for one that is gone; quicker than one by one."""
        result = self.files.read_many(messages)
        for i, m in enumerate(messages):
            if result[i] is None:
                with contextlib.suppress(StoreError):
                    result[i] = self.read(m)
        return result

    def sizes(self, messages: Sequence[Message]) -> list[int]:
        """RFC822.SIZE of each; found by reading where nobody knows it yet, and remembered. 0 for one that is gone."""
        unknown = [m for m in messages if m.vsize < 0]
        if not unknown:
            return [m.vsize for m in messages]
        found: dict[int, tuple[str, int]] = {}
        for m in unknown:
            with contextlib.suppress(StoreError), self.open(m) as f:
                found[m.uid] = m.file, f.size
        with self._locked():
            self.keeper.load()
            self.keeper.remember_sizes(found)
        return [m.vsize if m.vsize >= 0 else (found[m.uid][1] if m.uid in found else 0) for m in messages]

    def facts(self, kind: str, messages: Sequence[Message], make: Callable[[bytes], bytes]) -> list[bytes | None]:
        """A value made from each message's octets, as `mailserver.store.facts` has it; None for one that is gone."""
        return self._current_facts().get(kind, messages, make, self.read_many)

    def header_facts(
        self, kind: str, messages: Sequence[Message], make: Callable[[bytes], bytes]
    ) -> list[bytes | None]:
        """A value made from each message's header; None for a message that is gone."""
        return self._current_facts().of_header(kind, messages, make, self.read_many)

    def headers(self, messages: Sequence[Message]) -> list[bytes | None]:
        """Each message's header with its empty line; None for a message that is gone."""
        return self._current_facts().get(facts.HEADER, messages, facts.make_header, self.read_many)

    def texts(self, messages: Sequence[Message]) -> list[Texts | None]:
        """The texts of several messages, None for one that is gone."""
        cache, validity = self._context.shared.texts, self.snapshot().uidvalidity
        keys = [(self.files.path, int(validity), int(m.uid), m.size, m.internaldate) for m in messages]
        found = [cache.get(key) for key in keys]
        for some in portions(
            [i for i, texts in enumerate(found) if texts is None], lambda i: messages[i].size, octets=_READ_TOGETHER
        ):
            for i, data in zip(some, self.read_many([messages[i] for i in some]), strict=True):
                if data is not None:
                    found[i] = made = texts_of(data)
                    cache.put(keys[i], made)
        return found

    def text_index(self) -> tuple[TextIndex, str]:
        """The account's text index, and the name that this mailbox has in it."""
        return self._context.text, f"{self.keeper.directory}/{self.snapshot().uidvalidity}"

    def index_soon(self) -> None:
        """Have new messages put into the text index, if the user searches texts at all."""
        if self._context.text.in_use():
            self._context.shared.indexer.schedule(self)

    def forget_texts(self, uids: Sequence[int]) -> None:
        """These messages are gone: the text index need not keep them."""
        if uids and self._context.text.in_use():
            texts, key = self.text_index()
            texts.forget(key, uids)

    def object_id(self) -> str:
        """A name for this mailbox that outlives renaming (RFC 8474 section 5.1): the GUID in dovecot-uidlist."""
        if self.keeper.current() is None:
            self._load(look=False)
        return self.files.object_id

    def unseen(self, snapshot: Snapshot) -> int:
        """How many messages of the snapshot are not \\Seen; counted once."""
        counted = self._unseen
        if counted is None or counted[0] is not snapshot:
            seen = int(Flag.SEEN)
            counted = self._unseen = (snapshot, sum([not m.flags & seen for m in snapshot.messages]))
        return counted[1]

    def expunged_since(self, modseq: int) -> list[int] | None:
        """UIDs expunged with a higher MODSEQ; None when that is not known any more."""
        return self._context.index.expunged_since(self.keeper.directory, modseq)

    def maildrop(self) -> tuple[Snapshot, list[PopMessage]]:
        """The mailbox as it is, and its messages in POP3's order with the unique-ids that other servers gave them."""
        snapshot, pop = self.rescan(), self.files.pop
        with os_errors():
            if pop.to_adopt(snapshot.messages):
                with self._locked():
                    snapshot = self.keeper.load(look=True).snapshot
                    pop.adopt(snapshot.uidnext)
            return snapshot, pop.ordered(snapshot.messages)

    # -- news

    def subscribe_changes(self, wake: Wake) -> Subscription:
        """Have ``wake`` called after a change by anybody: this process, another one, another program."""
        with os_errors():
            self._context.shared.watcher.add(self.files.path, self.files.watched, self.keeper.look)
        number = self.keeper.subscribers.add(wake)

        def end() -> None:
            self.keeper.subscribers.remove(number)
            self._context.shared.watcher.remove(self.files.path, self.keeper.look)

        return Subscription(end)
