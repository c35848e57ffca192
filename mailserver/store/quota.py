"""Quota of an account, kept in ``maildirsize`` as Maildir++ has it.

The first line is the definition (``1000000S,500C``: octets and messages), every further line an amount to be added,
``<octets> <messages>``; other programs (Courier, Dovecot, maildrop) read and append too. When the file has grown past
5120 octets, when its definition is not ours any more, or when it says "full" and is older than a quarter of an hour,
everything is counted anew from the file names.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailserver.ops import log as logging
from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.formats.maildir import filename
from mailserver.store.lane import LANE

_log = logging.get("store")
NAME = "maildirsize"
_MAX_FILE = 5120  # octets; the limit that Maildir++ sets, so that reading stays cheap
_OLD_SECONDS = 900
_LONGEST_LINE = 1 << 16
_DEFINITION = re.compile(r"(\d+)([SC])")
_LINE = re.compile(rb"^ *(-?\d+) +(-?\d+) *$", re.M)
_RULE = re.compile(r"(storage|messages|bytes)=(\d+)([BKMGT%]?)", re.IGNORECASE)
_UNITS = {"": 1024, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may hold; 0 is no limit."""

    octets: int = 0
    messages: int = 0

    def __bool__(self) -> bool:
        return bool(self.octets or self.messages)

    def definition(self) -> str:
        """As the first line of maildirsize."""
        parts = [f"{self.octets}S"] if self.octets else []
        return ",".join(parts + ([f"{self.messages}C"] if self.messages else []))


@dataclass(frozen=True, slots=True)
class Usage:
    """What it holds."""

    octets: int
    messages: int


def parse_rule(rule: str) -> Limits:
    """Dovecot's ``quota_rule`` of a passwd-file: ``*:storage=1G:messages=1000``; storage without a unit is in KiB."""
    octets = messages = 0
    for name, amount, unit in _RULE.findall(rule):
        if name.lower() == "messages":
            messages = int(amount)
        elif unit != "%":
            octets = int(amount) * (1 if name.lower() == "bytes" and not unit else _UNITS[unit.upper()])
    return Limits(octets, messages)


class Quota:
    """Of one account. ``folders`` yields the directories of its mailboxes."""

    def __init__(self, root: str, limits: Limits, folders: Callable[[], Iterator[str]]) -> None:
        self._path = f"{root}/{NAME}"
        self._configured = limits
        self._folders = folders
        self._lock = threading.Lock()

    def limits(self) -> Limits:
        """The configured limits, else those that another program left in maildirsize. StoreError."""
        if self._configured:
            return self._configured
        with os_errors():
            try:
                with open(self._path, encoding="ascii", errors="replace") as f:
                    return _definition(f.readline(_MAX_FILE))
            except FileNotFoundError:
                return Limits()

    def usage(self) -> Usage:
        """What is there now; counted anew when the file is missing or not to be trusted."""
        with self._lock:
            return self._read() or self._count()

    def noted(self) -> Usage | None:
        """What maildirsize says; None when it says nothing that can be trusted. Changes nothing."""
        return self._read()

    def check(self, octets: int, messages: int) -> None:
        """StoreError NO_QUOTA if so much more would be too much."""
        limits = self.limits()
        if not limits or messages <= 0:
            return
        with LANE.aside():  # another thread may be counting, and that takes its time
            if _fits(self.usage(), limits, octets, messages):
                return
            with self._lock:
                if self._age() > _OLD_SECONDS and _fits(self._count(), limits, octets, messages):
                    return
        _log.warning("over-quota", path=self._path, wanted=octets)
        raise StoreError(Kind.NO_QUOTA, "the mailbox is full")

    def add(self, octets: int, messages: int) -> None:
        """Note what came (or, negative, went). Never fails: it is done already, and can be counted anew."""
        if not messages:
            return
        try:
            if self.limits():
                self._note(octets, messages)
        except OSError:
            self.forget()

    def _note(self, octets: int, messages: int) -> None:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # it is counted when somebody asks
        try:
            os.write(fd, f"{octets} {messages}\n".encode())
        finally:
            os.close(fd)

    def lost(self, folder: str) -> None:
        """A whole mailbox went, and lies here now."""
        try:
            octets, messages = weigh(folder)
            self.add(-octets, -messages)
        except OSError:
            self.forget()

    def forget(self) -> None:
        """The sums cannot be trusted: count when somebody asks."""
        with contextlib.suppress(OSError):  # then it is wrong until it has grown or is old, as the format has it
            os.unlink(self._path)

    def _age(self) -> float:
        try:
            return time.time() - os.stat(self._path).st_mtime
        except FileNotFoundError:
            return 0.0

    def _read(self) -> Usage | None:
        try:
            with open(self._path, "rb") as f:
                data = f.read(_MAX_FILE + 1)
        except FileNotFoundError:
            return None
        first, _, rest = data.partition(b"\n")
        if len(data) > _MAX_FILE or _definition(first.decode("ascii", "replace")) != self._limits_of(first):
            return None
        amounts = [(int(a), int(b)) for a, b in _LINE.findall(rest)]
        usage = Usage(sum(a for a, _ in amounts), sum(b for _, b in amounts))
        return usage if usage.octets >= 0 and usage.messages >= 0 else None

    def _limits_of(self, first: bytes) -> Limits:
        return self._configured or _definition(first.decode("ascii", "replace"))

    def _count(self) -> Usage:
        """Count every message of the account by its file name, and write the file anew."""
        octets = messages = 0
        for folder in self._folders():
            more, count = weigh(folder)
            octets += more
            messages += count
        limits = self.limits()
        if limits:
            temporary = f"{self._path}.tmp"
            with open(temporary, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as f:
                f.write(f"{limits.definition()}\n{octets} {messages}\n")
            os.rename(temporary, self._path)
        return Usage(octets, messages)


def weigh(folder: str) -> tuple[int, int]:
    """Octets and messages of a mailbox. OSErrors are passed on."""
    if os.path.isfile(folder):
        return os.stat(folder).st_size, _count_mbox(folder)
    octets = messages = 0
    for part in ("new", "cur"):
        for name in os.listdir(f"{folder}/{part}"):
            if not name.startswith("."):
                octets += _size(f"{folder}/{part}", name)
                messages += 1
    return octets, messages


def _count_mbox(path: str) -> int:
    """How many lines begin as a message does: near enough for a quota."""
    with open(path, "rb") as f:
        return sum(line.startswith(b"From ") for line in iter(lambda: f.readline(_LONGEST_LINE), b""))


def _definition(line: str) -> Limits:
    found = {kind: int(amount) for amount, kind in _DEFINITION.findall(line)}
    return Limits(found.get("S", 0), found.get("C", 0))


def _fits(usage: Usage, limits: Limits, octets: int, messages: int) -> bool:
    if limits.octets and usage.octets + octets > limits.octets:
        return False
    return not (limits.messages and usage.messages + messages > limits.messages)


def _size(directory: str, name: str) -> int:
    named, _ = filename.sizes("cur/" + name)
    if named >= 0:
        return named
    try:
        return os.stat(f"{directory}/{name}").st_size
    except FileNotFoundError:
        return 0
