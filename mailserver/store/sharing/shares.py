"""Which mailboxes have access lists and of whom they speak: so that LIST need not walk all accounts.

A cache and nothing more, ``mailserver-shared.json`` beside the accounts. It is made anew from the ``dovecot-acl`` files
when it is missing (and not written as long as nobody shares anything), brought up to date for an account whenever that
is opened, and changed with every list that is changed here. It may name more than there is, for a name is written into
it before the list is and taken out after; who finds a name in it looks into the list. What another program writes into
a list stands in it when the account is opened the next time (but not within ten minutes), or when somebody looks at
that mailbox. A list of many stands there as one of everybody.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from mailserver.ops import log as logging
from mailserver.store.books import read_book
from mailserver.store.counters import Counters
from mailserver.store.errors import StoreError
from mailserver.store.formats.maildir.syncing import sync_path
from mailserver.store.lane import LANE
from mailserver.store.locks import FileLock
from mailserver.store.model.rights import Identifier, Rank, Who, may_limit_owner
from mailserver.store.sharing import aclfile

_log = logging.get("store")
NAME = "mailserver-shared.json"
_LOOK_SECONDS = 1.0  # how often the file itself is looked at: other machines change it, and administrators remove it
_LONG_SECONDS = 0.5  # an empty record that took longer is written too, so that the next process need not look again
_LARGEST = 1 << 28
_MOST_WORDS = 20  # of one list
_PLACEHOLDER = re.compile(r"\\\{(user|local|domain)\\\}")
Words = tuple[str, ...]  # identifiers as an access list spells them
Lists = dict[str, Words]  # by the name of the mailbox
Record = dict[str, Lists]  # by owner


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read, and what tells that it still holds."""

    record: Record
    stamp: tuple[int, ...]
    tick: int
    speaking_of: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # word -> owner -> names
    limited: dict[str, frozenset[str]] = field(default_factory=dict)  # owner -> names where he may lack a right


class Shares:
    """One per store. Thread-safe. ``rebuild`` reads the access lists of all accounts."""

    def __init__(self, directory: str, counters: Counters, rebuild: Callable[[], Record], *, sync: bool) -> None:
        self.path = f"{directory}/{NAME}"
        self._counters = counters
        self._slot = counters.slot(self.path)
        self._rebuild = rebuild
        self._sync = sync
        self._lock = FileLock(f"{directory}/mailserver-shared.lock", rank=3)
        self._guard = threading.Lock()
        self._known: _Known | None = None
        self._looked = 0.0

    def tick(self) -> int:
        """Another number: an access list of somebody was changed here or in another process of this machine."""
        return self._counters.read(self._slot)

    # -- asking

    def given_to(self, who: Who) -> dict[str, set[str]]:
        """Owners, and their mailboxes whose lists may give something to ``who``."""
        known = self._current()
        found: dict[str, set[str]] = {}
        if not known.speaking_of:
            return found
        for word in _words(who):
            for owner, names in known.speaking_of.get(word, {}).items():
                if owner != who.user:
                    found.setdefault(owner, set()).update(names)
        return found

    def limited(self, owner: str) -> frozenset[str]:
        """Mailboxes whose own owner may lack a right."""
        return self._current().limited.get(owner, frozenset())

    def _current(self) -> _Known:
        known, now = self._known, time.monotonic()
        if known is not None and known.tick == self.tick() and now - self._looked < _LOOK_SECONDS:
            return known
        with LANE.aside(), self._guard:
            tick, stamp = self.tick(), _stamp(self.path)
            if self._known is None or self._known.tick != tick or self._known.stamp != stamp:
                self._known = self._read(tick) or self._make()
            self._looked = now
            return self._known

    def _read(self, tick: int) -> _Known | None:
        stamp = _stamp(self.path)
        try:
            found = json.loads(read_book(self.path, _LARGEST).decode("utf-8", "surrogateescape"))
            record = {
                str(owner): {str(name): tuple(map(str, words)) for name, words in lists.items()}
                for owner, lists in found.items()
            }
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError, TypeError) as error:
            _log.warning("shares-unreadable", path=self.path, cause=str(error), consequence="made anew")
            return None
        return _known(record, stamp, tick)

    def _make(self) -> _Known:
        """From the access lists; written if it says something, or took long to make."""
        began, tick = time.monotonic(), self.tick()
        record = self._rebuild()
        took = time.monotonic() - began
        if not record and took < _LONG_SECONDS:
            return _known(record, (), tick)
        try:
            with self._lock.hold():
                found = self._read(self.tick())  # another process was quicker
                if found is not None:
                    return found
                stamp = self._write(record)
                _log.info("shares-made", accounts=len(record), seconds=round(took, 3))
                return _known(record, stamp, self._counters.advance(self._slot))
        except (OSError, StoreError) as error:
            _log.warning("shares-not-written", path=self.path, cause=str(error), consequence="kept in memory")
            return _known(record, (), tick)

    # -- changing

    def note(self, owner: str, lists: Mapping[str, Iterable[Identifier]], gone: Collection[str] = ()) -> None:
        """The lists of these mailboxes of an account speak of these; the names ``gone`` have none any more.

        Never fails: what cannot be written is found again by the next look at the mailbox.
        """
        words = _as_words(lists)

        def change(old: Lists) -> Lists:
            kept = {name: said for name, said in old.items() if name not in gone and name not in words}
            return kept | {name: said for name, said in words.items() if said}

        known = self._current().record.get(owner, {})
        if change(known) != known:
            self._change(owner, change)

    def replace(self, owner: str, lists: Mapping[str, Iterable[Identifier]]) -> None:
        """These, and no others, are the lists of an account. Never fails."""
        words = _as_words(lists)
        if words != self._current().record.get(owner, {}):
            self._change(owner, lambda old: words)

    def is_as(self, owner: str, lists: Mapping[str, Iterable[Identifier]]) -> bool:
        """Whether the record says what these lists of an account say."""
        return self._current().record.get(owner, {}) == _as_words(lists)

    def knows(self, owner: str, name: str, identifiers: Iterable[Identifier]) -> bool:
        """Whether it is written already what the list of this mailbox says."""
        words = self._current().record.get(owner, {}).get(name, ())
        return set(words).issuperset(_said(identifiers))

    def announce(self) -> None:
        """An access list was changed: everybody shall look at it."""
        self._counters.advance(self._slot)

    def _change(self, owner: str, change: Callable[[Lists], Lists]) -> None:
        with LANE.aside(), self._guard:
            try:
                with self._lock.hold():
                    self._change_file(owner, change)
            except (OSError, StoreError) as error:
                _log.warning("shares-not-written", path=self.path, cause=str(error), consequence="kept in memory")
                if self._known is not None:
                    record = _changed(self._known.record, owner, change)
                    self._known = _known(record, self._known.stamp, self.tick())

    def _change_file(self, owner: str, change: Callable[[Lists], Lists]) -> None:
        known = self._known
        if known is None or known.tick != self.tick() or known.stamp != _stamp(self.path):
            known = self._read(self.tick()) or _known(self._rebuild(), (), self.tick())
        record = _changed(known.record, owner, change)
        if record == known.record:
            self._known = known
            return
        stamp = self._write(record)
        self._known = _known(record, stamp, self._counters.advance(self._slot))

    def _write(self, record: Record) -> tuple[int, ...]:
        temporary = f"{self.path}.tmp"
        with open(temporary, "w", encoding="ascii", opener=_private) as f:
            json.dump(record, f, sort_keys=True, indent=0)
            f.flush()
            if self._sync:
                os.fsync(f.fileno())
        os.rename(temporary, self.path)
        if self._sync:
            sync_path(os.path.dirname(self.path))
        return _stamp(self.path)


def record_of(lists: Mapping[str, Mapping[str, Iterable[Identifier]]]) -> Record:
    """The record of these: owner -> mailbox -> of whom its list speaks."""
    record = {owner: _as_words(found) for owner, found in lists.items()}
    return {owner: found for owner, found in record.items() if found}


def _as_words(lists: Mapping[str, Iterable[Identifier]]) -> Lists:
    return {name: _said(found) for name, found in lists.items()}


def _said(identifiers: Iterable[Identifier]) -> Words:
    """Their spellings; of many, that everybody may be meant: the record is read whole, and anybody may write lists."""
    words = {aclfile.spelled(i) for i in identifiers}
    return tuple(sorted(words)) if len(words) <= _MOST_WORDS else ("anyone", "owner")


def _changed(record: Record, owner: str, change: Callable[[Lists], Lists]) -> Record:
    lists = change(record.get(owner, {}))
    others = {name: found for name, found in record.items() if name != owner}
    return others | {owner: lists} if lists else others


def _known(record: Record, stamp: tuple[int, ...], tick: int) -> _Known:
    known = _Known(record, stamp, tick)
    for owner, lists in record.items():
        limited = set()
        for name, words in lists.items():
            for word in words:
                known.speaking_of.setdefault(word, {}).setdefault(owner, []).append(name)
            if may_limit_owner(_identifiers(words), owner):
                limited.add(name)
        if limited:
            known.limited[owner] = frozenset(limited)
    return known


def _identifiers(words: Words) -> Iterator[Identifier]:
    for word in words:
        with contextlib.suppress(aclfile.BadLine):  # somebody else wrote the record; the lists are what counts
            yield aclfile.identifier(word)


@lru_cache(maxsize=1024)
def _words(who: Who) -> list[str]:
    ranks = (Rank.GROUP, Rank.GROUP_OVERRIDE)
    mine = [Identifier(Rank.ANYONE), Identifier(Rank.AUTHENTICATED), Identifier(Rank.USER, who.user)]
    mine += [Identifier(rank, group) for rank in ranks for group in who.groups]
    return [aclfile.spelled(i) for i in mine]


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def users_of(template: str) -> list[str]:
    """The users whose directories are there by the template ``/srv/{domain}/{local}``; unreadable ones are left out."""
    parts = [part for part in os.path.abspath(template).split("/") if part]
    return list(dict.fromkeys(_users_below("/", parts, {})))


def _users_below(path: str, parts: list[str], found: dict[str, str]) -> Iterator[str]:
    if not parts:
        user = found.get("user") or "@".join(filter(None, (found.get("local"), found.get("domain"))))
        if user and os.path.isdir(path):
            yield user
        return
    part, rest = parts[0], parts[1:]
    for known, value in found.items():
        part = part.replace("{" + known + "}", value)
    if "{" not in part:
        yield from _users_below(os.path.join(path, part), rest, found)
        return
    pattern = re.compile(_PLACEHOLDER.sub(r"(?P<\1>.+)", re.escape(part)))
    try:
        present = sorted(os.listdir(path))
    except OSError:  # nobody's mail is there, or not ours to serve
        return
    for name in present:
        match = pattern.fullmatch(name)
        if match is not None:
            yield from _users_below(os.path.join(path, name), rest, {**found, **match.groupdict()})
