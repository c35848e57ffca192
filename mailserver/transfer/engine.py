"""The import itself: messages are fetched by several threads and appended in their order by one.

A unit is a few messages of one folder. Some units are on their way at any time; the oldest is appended when it is here,
so that UIDs ascend, and noted in the record when it is safe. Whatever goes wrong, what was noted is here, and what is
here is found again.
"""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.mailbox import Append
from mailserver.store.portions import portions
from mailserver.transfer.model import Folder, Item, LostError, Origin, Session
from mailserver.transfer.naming import Mapping
from mailserver.transfer.record import Imported, Record
from mailserver.transfer.target import Arrived, Target, date_of

_UNIT_MESSAGES = 50
_UNIT_OCTETS = 4 << 20
_HEAD = 1 << 16
_TRIES = 3  # connections for one unit


@dataclass(slots=True)
class Result:
    """What became of one folder."""

    name: str
    source: str
    imported: int = 0
    octets: int = 0
    present: int = 0  # they were here already
    missing: int = 0  # they were gone when they were asked for
    numbers: bool = False  # UIDs and UIDVALIDITY are those of the source
    problem: str = ""  # why nothing of it was imported


@dataclass(slots=True)
class Progress:
    """How far it is; for whoever shows it."""

    folder: str = ""
    messages: int = 0  # in all folders, roughly
    done: int = 0
    octets: int = 0


@dataclass(slots=True)
class _Unit:
    """Some messages on their way; the last one of a folder has none."""

    target: Target
    folder: Folder
    result: Result
    items: Sequence[Item]
    last: bool = False
    arrived: Future[list[Arrived]] | None = None


@dataclass(slots=True)
class Import:
    """From ``origin`` into ``account``. ``jobs`` threads fetch. ``show`` is called now and then."""

    account: Account
    origin: Origin
    record: Record
    mapping: Mapping
    jobs: int
    show: Callable[[Progress], None] = lambda progress: None
    again: bool = False  # do not believe the record: look at the messages
    progress: Progress = field(default_factory=Progress)
    results: list[Result] = field(default_factory=list)
    _idle: queue.SimpleQueue[Session] = field(default_factory=queue.SimpleQueue)
    _sessions: list[Session] = field(default_factory=list)
    _begun: set[str] = field(default_factory=set)

    def run(self) -> list[Result]:
        """Do it. SourceError, StoreError, OSError; what was imported until then stays and is noted."""
        waiting: deque[_Unit] = deque()
        jobs = self.jobs if self.origin.parallel else 1
        pool = ThreadPoolExecutor(jobs, thread_name_prefix="import")
        try:
            for unit in self._units():
                if unit.items:
                    unit.arrived = pool.submit(self._fetch, unit)
                waiting.append(unit)
                if len(waiting) > 2 * jobs:
                    self._take(waiting.popleft())
            while waiting:
                self._take(waiting.popleft())
            self._subscribe()
        finally:
            self._end(pool, waiting)
        return self.results

    def _end(self, pool: ThreadPoolExecutor, waiting: deque[_Unit]) -> None:
        pool.shutdown(cancel_futures=True)
        for unit in waiting:
            if unit.arrived is not None and not unit.arrived.cancelled() and unit.arrived.exception() is None:
                for arrived in unit.arrived.result():
                    arrived.incoming.discard()
        for session in self._sessions:
            session.close()

    def _units(self) -> Iterator[_Unit]:
        wanted = [(folder, name) for folder in self.origin.folders() if (name := self.mapping.apply(folder.name))]
        self.progress.messages = sum(self.origin.count(folder) for folder, _ in wanted)
        for found, name in wanted:
            folder, items = self.origin.items(found)
            imported = self.record.of(folder)
            if self.again:
                imported = Imported(numbers=imported.numbers)
            fresh = [item for item in items if item.key not in imported.keys]
            result = Result(name, folder.source, present=len(items) - len(fresh))
            self.results.append(result)
            try:
                target = Target(self.account, name, folder, imported, self.record)
            except StoreError as error:
                if error.kind not in (Kind.BAD_NAME, Kind.CANNOT, Kind.EXISTS):  # the last: a level of that name
                    raise
                result.problem = f"{error.text}; give it another one with --map"
                continue
            target.begin(items, alone=name not in self._begun)
            self._begun.add(name)
            self.progress.done += result.present
            for some in portions(fresh, lambda item: item.size, octets=_UNIT_OCTETS, most=_UNIT_MESSAGES):
                yield _Unit(target, folder, result, some)
            yield _Unit(target, folder, result, [], last=True)

    # -- in a thread

    def _fetch(self, unit: _Unit) -> list[Arrived]:
        arrived: list[Arrived] = []
        try:
            for attempt in range(1, _TRIES + 1):
                session = self._session()
                try:
                    got = {a.item.key for a in arrived}
                    rest = [item for item in unit.items if item.key not in got]
                    for item, chunks in session.fetch(unit.folder, rest):
                        arrived.append(_received(unit.target.mailbox.receive(), item, chunks))
                except LostError:
                    session.close()
                    if attempt == _TRIES:
                        raise
                    continue
                self._idle.put(session)
                break
        except BaseException:
            for each in arrived:
                each.incoming.discard()
            raise
        order = {item.key: i for i, item in enumerate(unit.items)}
        return sorted(arrived, key=lambda each: order[each.item.key])

    def _session(self) -> Session:
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        session = self.origin.session()
        self._sessions.append(session)
        return session

    # -- in order

    def _take(self, unit: _Unit) -> None:
        if unit.arrived is not None:
            arrived = unit.arrived.result()
            try:
                self._append(unit, arrived)
            finally:
                for each in arrived:
                    each.incoming.discard()
        if unit.last:
            unit.target.finish(unit.folder)
            unit.result.numbers = unit.target.numbers
        self.progress.folder = unit.target.name
        self.show(self.progress)

    def _append(self, unit: _Unit, arrived: Sequence[Arrived]) -> None:
        target, result = unit.target, unit.result
        done: dict[str, int] = {}
        fresh = []
        for each in arrived:
            uid = target.twin(each)
            if uid:
                done[each.item.key] = uid
            else:
                fresh.append(each)
        appends = [
            Append(e.incoming, e.item.flags, e.item.keywords, e.date, target.uid_for(e.item), e.item.uidl, e.item.place)
            for e in fresh
        ]
        uids = target.append(appends)
        done.update({each.item.key: uid for each, uid in zip(fresh, uids, strict=True)})
        target.note(unit.folder, done)
        result.imported += len(fresh)
        result.present += len(arrived) - len(fresh)
        result.missing += len(unit.items) - len(arrived)
        result.octets += sum(each.incoming.size for each in fresh)
        self.progress.done += len(unit.items)
        self.progress.octets += sum(each.incoming.size for each in fresh)

    def _subscribe(self) -> None:
        subscribed = set(self.account.subscriptions())
        for name in self.origin.subscriptions():
            mapped = self.mapping.apply(name)
            if mapped is not None and mapped not in subscribed:
                with contextlib.suppress(StoreError):  # a name that cannot be had here
                    self.account.subscribe(mapped)


def _received(incoming: Incoming, item: Item, chunks: object) -> Arrived:
    head = bytearray()
    try:
        for chunk in chunks:  # type: ignore[attr-defined]  # an iterable of octets
            incoming.write(chunk)
            if len(head) < _HEAD:
                head += chunk[: _HEAD - len(head)]
        date = date_of(bytes(head)) if item.date is None else item.date
        incoming.finish(date)
    except BaseException:
        incoming.discard()
        raise
    return Arrived(item, incoming, bytes(head), date)


@dataclass(frozen=True, slots=True)
class Planned:
    """What an import would do with one folder."""

    name: str
    source: str
    messages: int
    octets: int
    present: int


def plan(origin: Origin, record: Record, mapping: Mapping) -> list[Planned]:
    """What an import would do; nothing is changed. SourceError, OSError."""
    planned = []
    for found in origin.folders():
        name = mapping.apply(found.name)
        if name is None:
            continue
        folder, items = origin.items(found)
        fresh = [item for item in items if item.key not in record.of(folder).keys]
        octets = sum(item.size for item in fresh)
        planned.append(Planned(name, folder.source, len(fresh), octets, len(items) - len(fresh)))
    return planned
