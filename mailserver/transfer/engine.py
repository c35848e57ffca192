"""The import itself: messages are fetched by several threads and appended in their order by one.

A unit is a few messages of one folder. Some units are on their way at any time; the oldest is appended when it is here,
so that UIDs ascend, and noted in the record when it is safe. Whatever goes wrong, what was noted is here, and what is
here is found again.

Of messages that were imported before, the flags that changed at the source since then are brought over (`merge`). With
``mirror``, messages that are gone there are removed here when everything else is done: one that was moved there is then
here in its new folder already.
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
from mailserver.store.portions import portions
from mailserver.transfer.model import Contents, Folder, Item, LostError, Origin, Session, SourceError, WithheldError
from mailserver.transfer.naming import Mapping
from mailserver.transfer.record import Imported, Record
from mailserver.transfer.target import Arrived, Target, date_of

_UNIT_MESSAGES = 50
_UNIT_OCTETS = 4 << 20
_HEAD = 1 << 16
_TRIES = 3  # connections for one message that breaks them
_LOST = 2  # messages in a row that break every connection: then it is not the messages


@dataclass(slots=True)
class Result:
    """What became of one folder."""

    name: str
    source: str
    imported: int = 0
    octets: int = 0
    present: int = 0  # they were here already
    missing: int = 0  # they were gone when they were asked for
    changed: int = 0  # their flags changed at the source since the last time
    withheld: int = 0  # the source has them, and does not give them
    removed: int = 0  # they are gone at the source
    kept: int = 0  # they are gone at the source, but were changed here
    numbers: bool = False  # UIDs and UIDVALIDITY are those of the source
    problem: str = ""  # why nothing of it was imported, or not all


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
    contents: Contents
    result: Result
    items: Sequence[Item]
    last: bool = False
    arrived: Future[list[Arrived]] | None = None
    withheld: list[SourceError] = field(default_factory=list)


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
    mirror: bool = False  # remove what is gone at the source and was not changed here
    progress: Progress = field(default_factory=Progress)
    results: list[Result] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)  # folders of the source that are not there any more
    _idle: queue.SimpleQueue[Session] = field(default_factory=queue.SimpleQueue)
    _sessions: list[Session] = field(default_factory=list)
    _begun: set[str] = field(default_factory=set)
    _done: list[_Unit] = field(default_factory=list)  # the last of each folder

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
            if self.mirror:
                self._remove()
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
        folders = self.origin.folders()
        self.vanished = sorted(self.record.folders().difference(folder.source for folder in folders))
        wanted = [(folder, name) for folder in folders if (name := self.mapping.apply(folder.name))]
        self.progress.messages = sum(self.origin.count(folder) for folder, _ in wanted)
        for found, name in wanted:
            contents = self.origin.contents(found, self._known_until)
            result = Result(name, contents.folder.source)
            self.results.append(result)
            try:
                target = Target(self.account, name, contents.folder, self._known(contents.folder), self.record)
            except StoreError as error:
                if error.kind not in (Kind.BAD_NAME, Kind.CANNOT, Kind.EXISTS):  # the last: a level of that name
                    raise
                result.problem = f"{error.text}; give it another one with --map"
                continue
            yield from self._of_folder(_Unit(target, contents, result, [], last=True))

    def _of_folder(self, last: _Unit) -> Iterator[_Unit]:
        target, contents, result = last.target, last.contents, last.result
        known = self.record.of(contents.folder).messages
        fresh = [item for item in contents.items if item.key not in known or self.again]
        target.begin(fresh, alone=target.name not in self._begun)
        self._begun.add(target.name)
        result.changed = target.merge([(item, known[item.key]) for item in contents.items if item.key in known])
        result.present = contents.count - len(fresh)
        self.progress.done += result.present
        for some in portions(fresh, lambda item: item.size, octets=_UNIT_OCTETS, most=_UNIT_MESSAGES):
            yield _Unit(target, contents, result, some)
        yield last

    def _known_until(self, folder: Folder) -> int:
        return 0 if self.again else self.record.of(folder).modseq

    def _known(self, folder: Folder) -> Imported:
        known = self.record.of(folder)
        return Imported(numbers=known.numbers, begun=known.begun) if self.again else known

    # -- in a thread

    def _fetch(self, unit: _Unit) -> list[Arrived]:
        arrived: list[Arrived] = []
        try:
            try:
                self._get(unit, unit.items, arrived)
            except (LostError, WithheldError):
                self._get_each(unit, arrived)
        except BaseException:
            for each in arrived:
                each.incoming.discard()
            raise
        order = {item.key: i for i, item in enumerate(unit.items)}
        return sorted(arrived, key=lambda each: order[each.item.key])

    def _get(self, unit: _Unit, items: Sequence[Item], arrived: list[Arrived]) -> None:
        session = self._session()
        try:
            for item, chunks in session.fetch(unit.contents.folder, items):
                arrived.append(_received(unit.target.mailbox.receive(), item, chunks))
        except LostError:
            session.close()
            raise
        except WithheldError:  # it was said in order: the session goes on
            self._idle.put(session)
            raise
        self._idle.put(session)

    def _get_each(self, unit: _Unit, arrived: list[Arrived]) -> None:
        """One after the other: so one that cannot be had takes none with it."""
        got, lost = {each.item.key for each in arrived}, 0
        for item in [item for item in unit.items if item.key not in got]:
            for attempt in range(1, _TRIES + 1):
                try:
                    self._get(unit, [item], arrived)
                    lost = 0
                except LostError as error:
                    if attempt < _TRIES:
                        continue
                    lost += 1
                    if lost == _LOST:
                        raise
                    unit.withheld.append(error)
                except WithheldError as error:
                    unit.withheld.append(error)
                break

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
            self._finish(unit)
        self.progress.folder = unit.target.name
        self.show(self.progress)

    def _append(self, unit: _Unit, arrived: Sequence[Arrived]) -> None:
        target, result, uidnext = unit.target, unit.result, unit.contents.folder.uidnext
        here = [(each, target.twin(each)) for each in arrived]
        if target.numbers and any(uid not in (0, each.item.uid) and uid < uidnext for each, uid in here):
            target.give_up_numbers()  # the import died, and somebody looked before it went on
        fresh = [each for each, uid in here if not uid]
        uids = target.append(fresh)
        known = [(each.item, uid) for each, uid in here if uid]
        target.note([*known, *((each.item, uid) for each, uid in zip(fresh, uids, strict=True))])
        result.imported += len(fresh)
        result.present += len(known)
        result.missing += len(unit.items) - len(arrived) - len(unit.withheld)
        self._withhold(result, unit.withheld)
        result.octets += sum(each.incoming.size for each in fresh)
        self.progress.done += len(unit.items)
        self.progress.octets += sum(each.incoming.size for each in fresh)

    def _withhold(self, result: Result, withheld: Sequence[SourceError]) -> None:
        result.withheld += len(withheld)
        if withheld:
            first = result.problem.partition(": ")[2] or str(withheld[0])
            result.problem = f"{result.withheld} message{'s' * (result.withheld > 1)} could not be had: {first}"

    def _finish(self, unit: _Unit) -> None:
        target, contents, result = unit.target, unit.contents, unit.result
        target.finish(contents.folder)
        result.numbers = target.numbers
        if not result.missing and not result.withheld:  # else ask for those once more
            self.record.known_until(contents.folder, contents.modseq)
        self._done.append(unit)

    def _remove(self) -> None:
        """A second look at what is there: a file that is being renamed may be overlooked once."""
        for unit in self._done:
            present = {item.key for item in unit.contents.items}
            present.update(self.origin.keys(unit.contents.folder))
            unit.result.removed, unit.result.kept = unit.target.remove(present)

    def _subscribe(self) -> None:
        """What was subscribed, or no more, since the last time."""
        there, before = self.origin.subscriptions(), self.record.subscribed
        now = {name: mapped for name in there if (mapped := self.mapping.apply(name)) is not None}
        for name, mapped in now.items():
            if before.get(name) != mapped:
                self._tell(self.account.subscribe, mapped)
        gone = before.keys() - set(there)
        for name in sorted(gone):
            self._tell(self.account.unsubscribe, before[name])
        noted = {name: mapped for name, mapped in before.items() if name not in gone} | now
        if noted != before:
            self.record.note_subscribed(noted)

    def _tell(self, act: Callable[[str], None], name: str) -> None:
        with contextlib.suppress(StoreError):  # a name that cannot be had here
            act(name)


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
