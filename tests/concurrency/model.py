"""A strict IMAP client: it keeps its own picture of the mailbox, made of nothing but what the server says, and fails
when the server contradicts itself or breaks a rule.

RFC 9051 section 5.2, RFC 9051 section 7.5.1, RFC 7162 section 3.2.10, RFC 4315 section 3.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from tests.concurrency.wire import Closed, Wire, number_set, numbers, parse, status

NO_EXPUNGE = ("FETCH", "STORE", "SEARCH", "SORT", "THREAD")
SYSTEM = frozenset(("\\answered", "\\flagged", "\\deleted", "\\seen", "\\draft"))
_SILENT = re.compile(
    r"(?P<uid>UID )?STORE (?P<set>[\d:,]+)(?: \(UNCHANGEDSINCE \d+\))? (?P<how>[+-]?FLAGS)\.SILENT \((?P<flags>[^)]*)\)"
)


class Violation(AssertionError):
    """The server broke a promise."""


@dataclass(slots=True)
class Slot:
    """What is known of one message; 0 and None: not told yet."""

    uid: int = 0
    flags: frozenset[str] | None = None
    modseq: int = 0
    old: bool = False  # there since SELECT
    silent: bool = False  # changed by us without a word of the server since
    ghost: bool = False  # did not take our change: it must be gone at the next occasion to say so


@dataclass(slots=True)
class Result:
    """A tagged answer, and what came before it."""

    status: str
    code: str
    text: str
    untagged: list[Any] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.status == "OK"


@dataclass(slots=True)
class Cache:
    """What a disconnected client keeps. RFC 7162 section 6."""

    uidvalidity: int = 0
    modseq: int = 0
    flags: dict[int, frozenset[str]] = field(default_factory=dict)


class Truth:
    """What all clients of a test know together: which message a UID is, and who was told that it is recent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.tokens: dict[tuple[str, int, int], str] = {}
        self.recent: dict[tuple[str, int, int], str] = {}
        self.validity: dict[str, int] = {}
        # RFC 3501 section 2.3.2: "If it is not possible to determine whether or not this session is the first session
        # to be notified about a message, then that message SHOULD be considered recent": where the index is removed,
        # another process cannot determine it for a message that was put into cur/ with flags
        self.recency_known = True

    def message(self, mailbox: str, validity: int, uid: int, token: str) -> None:
        with self._lock:
            known = self.tokens.setdefault((mailbox, validity, uid), token)
        if known != token:
            raise Violation(f"UID {uid} of {mailbox} was {known}, now it is {token}")

    def token(self, mailbox: str, validity: int, uid: int) -> str | None:
        return self.tokens.get((mailbox, validity, uid))

    def is_recent(self, mailbox: str, validity: int, uid: int, session: str) -> None:
        with self._lock:
            known = self.recent.setdefault((mailbox, validity, uid), session)
        if known != session and self.recency_known:
            raise Violation(f"UID {uid} of {mailbox} is recent in {known} and in {session}")

    def opened(self, mailbox: str, validity: int) -> None:
        with self._lock:
            known = self.validity.setdefault(mailbox, validity)
        if known != validity:
            raise Violation(f"UIDVALIDITY of {mailbox} was {known}, now it is {validity}")


class Model:
    """One connection. ``command`` speaks and judges; ``slots`` is the picture."""

    _count = 0

    def __init__(self, port: int, truth: Truth | None = None, *, enable: str = "", user: str = "alice") -> None:
        self.wire = Wire(port)
        self.truth = truth or Truth()
        self.enabled: set[str] = set()
        self.mailbox = ""
        self.read_only = False
        self.slots: list[Slot] = []
        self.uidvalidity = self.uidnext = self.highest = 0
        self.known_flags: set[str] = set()
        self.log: list[bytes] = []
        self.running = ""
        self.name = ""
        self._tag = 0
        self._selects = 0
        self._highest_fetched = 0
        self._code_highest = 0
        self._fetched: set[int] = set()
        self._undo: dict[int, frozenset[str]] = {}
        self._strict = self._may_not = False
        Model._count += 1
        self.number = Model._count
        try:
            self._read()
            self.require(f"LOGIN {user} secret")
            if enable:
                self.require(f"ENABLE {enable}")
        except BaseException:
            self.close()
            raise

    # -- speaking

    def fail(self, text: str) -> None:
        said = b"".join(self.log[-60:]).decode("latin-1")
        raise Violation(f"session {self.number}, {self.running or 'no command'}: {text}\n{said}")

    def require(self, text: str, *literals: bytes) -> Result:
        """A command that must succeed."""
        result = self.command(text, *literals)
        if not result.ok:
            self.fail(f"{text} was answered {result}")
        return result

    def command(self, text: str, *literals: bytes) -> Result:
        """Send a command (each ``{}`` in it is a literal) and judge everything up to its tagged answer."""
        self.start(text, *literals)
        return self.finish()

    def start(self, text: str, *literals: bytes) -> None:
        if self.wire.readable(0):
            self.running = ""
            while self.wire.readable(0):
                self._untagged(self._read())
        self._tag += 1
        words = text.upper().split()
        self.running = " ".join(words[:2]) if words[0] == "UID" else words[0]
        # RFC 7162 section 3.2.10.2: a UID SEARCH that contains message numbers
        self._may_not = self.running in NO_EXPUNGE or bool(re.match(r"UID SEARCH [\d$]", text.upper()))
        self._code_highest = self._highest_fetched = 0
        self._fetched = set()
        parts = text.split("{}")
        data = f"a{self._tag} {parts[0]}".encode()
        for literal, rest in zip(literals, parts[1:], strict=True):
            data += b"{%d+}\r\n" % len(literal) + literal + rest.encode()
        self.log.append(b"C: " + text.encode() + b"\r\n")
        if self.running in ("SELECT", "EXAMINE"):
            self._opening(words[1], text)
        self._expect(text)
        self.wire.send(data + b"\r\n")

    def finish(self) -> Result:
        untagged: list[Any] = []
        while True:
            response = self._read()
            if response[0].startswith(b"* "):
                untagged.append(self._untagged(response))
                continue
            if response[0].startswith(b"+ "):
                untagged.append("+")
                if self.running == "IDLE":
                    return Result("+", "", "", untagged)
                self.fail("an unexpected continuation")
            return self._tagged(response[0], untagged)

    def _read(self) -> tuple[bytes, list[bytes]]:
        line, literals = self.wire.response()
        self.log.append(b"S: " + line)
        del self.log[:-200]
        return line, literals

    def _tagged(self, line: bytes, untagged: list[Any]) -> Result:
        tag, _, rest = line.partition(b" ")
        found = status(rest)
        if tag != b"a%d" % self._tag or found is None:
            self.fail(f"expected the answer to a{self._tag}, got {line!r}")
        assert found is not None
        result = Result(*found, untagged)
        self._code(result.code)
        self._settle_undo(result)
        vanished = any(isinstance(v, list) and v[0] == "VANISHED" for v in untagged)
        if vanished and self.running.endswith("EXPUNGE") and result.ok and not result.code.startswith("HIGHESTM"):
            self.fail("VANISHED, and no HIGHESTMODSEQ in the tagged OK")  # RFC 7162 section 3.2.7
        if self._code_highest:
            self.highest = self._code_highest
        elif self._highest_fetched > self.highest and "CONDSTORE" in self.enabled:
            self.highest = self._highest_fetched
        if self.running in ("SELECT", "EXAMINE"):
            self._opened(result)
        elif self.running in ("CLOSE", "UNSELECT") and result.ok:
            self._closed()
        self.running = ""
        return result

    def _closed(self) -> None:
        self.mailbox = ""
        self.slots = []

    # -- selecting

    def _opening(self, name: str, text: str) -> None:
        self._closed()
        self.name = name.strip('"')
        self._selects += 1
        self.uidvalidity = self.uidnext = self.highest = 0
        if "CONDSTORE" in text or "QRESYNC" in text:
            self.enabled.add("CONDSTORE")

    def _opened(self, result: Result) -> None:
        if not result.ok:
            self._closed()
            return
        self.mailbox = self.name
        self.read_only = result.code == "READ-ONLY"
        for i, slot in enumerate(self.slots):
            slot.old = True
            if slot.uid >= self.uidnext:
                self.fail(f"message {i + 1} has UID {slot.uid}, UIDNEXT was {self.uidnext}")
        if not (self.uidvalidity and self.uidnext and self.highest):
            self.fail("SELECT did not say UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ")
        self.truth.opened(self.mailbox, self.uidvalidity)

    # -- judging

    def _untagged(self, response: tuple[bytes, list[bytes]]) -> Any:
        line, literals = response
        if not line.startswith(b"* "):
            self.fail(f"not untagged: {line!r}")
        found = status(line[2:])
        if found is not None:
            if found[0] == "BYE" and self.running != "LOGOUT":
                raise Closed(found[2])
            self._code(found[1])
            return found
        values = parse(line[2:], literals)
        if str(values[0]).isdigit():
            getattr(self, "_on_" + values[1].lower())(int(values[0]), values[2:])
        elif values[0] in ("VANISHED", "ENABLED", "FLAGS"):
            getattr(self, "_on_" + values[0].lower())(values[1:])
        return values

    def _code(self, code: str) -> None:
        word, _, rest = code.partition(" ")
        if word == "UIDVALIDITY":
            self.uidvalidity = int(rest)
        elif word == "UIDNEXT":
            self.uidnext = int(rest)
        elif word == "HIGHESTMODSEQ":
            self.highest = self._code_highest = int(rest)
        elif word == "CLOSED" and self.running not in ("SELECT", "EXAMINE"):
            self._closed()

    def _on_enabled(self, values: list[str]) -> None:
        self.enabled.update(v.upper() for v in values)
        if "QRESYNC" in self.enabled:
            self.enabled.add("CONDSTORE")

    def _on_flags(self, values: list[Any]) -> None:
        self.known_flags = {f.lower() for f in values[0]}

    def _on_exists(self, number: int, _: list[Any]) -> None:
        if number < len(self.slots):
            self.fail(f"EXISTS {number} after {len(self.slots)}")
        self.slots += [Slot() for _ in range(number - len(self.slots))]

    def _on_recent(self, number: int, _: list[Any]) -> None:
        if number > len(self.slots):
            self.fail(f"RECENT {number} of {len(self.slots)}")

    def _on_expunge(self, number: int, _: list[Any]) -> None:
        if "QRESYNC" in self.enabled:
            self.fail("EXPUNGE after ENABLE QRESYNC")
        self._may_expunge()
        if not 1 <= number <= len(self.slots):
            self.fail(f"EXPUNGE {number} of {len(self.slots)}")
        del self.slots[number - 1]

    def _may_expunge(self) -> None:
        if self._may_not or not self.running:
            self.fail(f"an expunge during {self.running or 'no command'}")

    def _on_vanished(self, values: list[Any]) -> None:
        if "QRESYNC" not in self.enabled:
            self.fail("VANISHED without ENABLE QRESYNC")
        earlier = values[0] == ["EARLIER"]
        if not earlier:
            self._may_expunge()
        for uid in numbers(values[-1]):
            i = self._place(uid)
            here = i < len(self.slots) and self.slots[i].uid == uid
            if earlier:
                if here:
                    self.fail(f"VANISHED (EARLIER) {uid}, which has a number here")
            elif here or (i < len(self.slots) and not self.slots[i].uid):
                del self.slots[i]
                if not here:  # or one of those beside it: what is known of their flags may belong to another one
                    for slot in self.slots:
                        if not slot.uid:
                            slot.flags, slot.modseq = None, 0
            else:
                self.fail(f"VANISHED {uid}, which is not here")

    def _place(self, uid: int) -> int:
        """Index of this UID, or of a message of unknown UID that may be it, or one after both."""
        known = [(s.uid, i) for i, s in enumerate(self.slots) if s.uid]
        j = bisect_left(known, (uid, 0))
        if j < len(known) and known[j][0] == uid:
            return known[j][1]
        first = known[j - 1][1] + 1 if j else 0
        last = known[j][1] if j < len(known) else len(self.slots)
        old = uid < self.uidnext
        return next((k for k in range(first, last) if self.slots[k].old == old), len(self.slots))

    def _on_fetch(self, number: int, values: list[Any]) -> None:
        if not 1 <= number <= len(self.slots):
            self.fail(f"FETCH {number} of {len(self.slots)}")
        slot = self.slots[number - 1]
        items = {str(k).upper(): v for k, v in zip(values[0][::2], values[0][1::2], strict=True)}
        if "UID" in items:
            self._on_uid(number, slot, int(items["UID"]))
        modseq = int(items["MODSEQ"][0]) if "MODSEQ" in items else 0
        if "FLAGS" in items:
            self._on_new_flags(number, slot, {f.lower() for f in items["FLAGS"]}, modseq)
        if modseq:
            if modseq < slot.modseq:
                self.fail(f"MODSEQ of {number} went from {slot.modseq} to {modseq}")
            slot.modseq = modseq
            self._highest_fetched = max(self._highest_fetched, modseq)
        self._fetched.add(number)

    def _on_uid(self, number: int, slot: Slot, uid: int) -> None:
        if slot.uid not in (0, uid):
            self.fail(f"UID of {number} went from {slot.uid} to {uid}")
        slot.uid = uid
        before = next((s.uid for s in reversed(self.slots[: number - 1]) if s.uid), 0)
        after = next((s.uid for s in self.slots[number:] if s.uid), 1 << 32)
        if not before < uid < after:
            self.fail(f"UID {uid} between {before} and {after}")
        if self.mailbox and slot.old != (uid < self.uidnext):
            self.fail(f"UID {uid} of message {number}, UIDNEXT was {self.uidnext}")

    def _on_new_flags(self, number: int, slot: Slot, flags: set[str], modseq: int) -> None:
        if "\\recent" in flags and not self.read_only and slot.uid and self.mailbox:
            self.truth.is_recent(self.mailbox, self.uidvalidity, slot.uid, f"{self.number}.{self._selects}")
        told = frozenset(flags - {"\\recent"})
        unknown = told - SYSTEM - self.known_flags
        if unknown:
            self.fail(f"flags that FLAGS did not name: {unknown}")
        unasked = self.running not in ("FETCH", "UID FETCH")
        if unasked and "CONDSTORE" in self.enabled and not modseq:
            self.fail("new FLAGS without MODSEQ")
        if unasked and "QRESYNC" in self.enabled and not slot.uid:
            self.fail("new FLAGS without UID")
        if slot.flags is not None and told != slot.flags:
            if self._strict and number not in self._fetched:
                self.fail(f"flags of {number} (UID {slot.uid}) are {set(told)}, I was told {set(slot.flags)}")
            told_now = number in self._fetched or id(slot) in self._undo
            if modseq and modseq == slot.modseq and not told_now:
                slot.ghost = slot.silent
                if not slot.ghost:
                    self.fail(f"flags of {number} changed, MODSEQ did not")
        slot.silent = False
        slot.flags = told
        self._undo.pop(id(slot), None)

    # -- what this client does to flags itself

    def store(self, numbers_: list[int], how: str, flags: list[str], *, uid: bool, since: int = 0) -> Result:
        """STORE or UID STORE."""
        condition = f" (UNCHANGEDSINCE {since})" if since else ""
        chosen = number_set(numbers_)
        text = f"{'UID ' if uid else ''}STORE {chosen}{condition} {how} ({' '.join(flags)})"
        if since:
            self.enabled.add("CONDSTORE")
        return self.command(text)

    def _expect(self, text: str) -> None:
        """A silent STORE: take for done what was asked, until the server says something else."""
        m = _SILENT.match(text)
        if m is None:
            return
        wanted = set(numbers(m["set"]))
        for i, slot in enumerate(self.slots):
            if (slot.uid if m["uid"] else i + 1) in wanted and slot.flags is not None:
                self._undo[id(slot)] = slot.flags
                slot.flags, slot.silent = _applied(slot.flags, m["how"], m["flags"].split()), True

    def _settle_undo(self, result: Result) -> None:
        """Take back what a conditional or failed silent STORE did not do."""
        undo, self._undo = self._undo, {}
        if not undo:
            return
        failed = numbers(result.code.split(" ")[1]) if result.code.startswith("MODIFIED") else []
        for i, slot in enumerate(self.slots):
            name = slot.uid if self.running.startswith("UID") else i + 1
            if id(slot) in undo and (not result.ok or name in failed):
                slot.flags = undo[id(slot)]

    # -- standing still

    def learn(self) -> None:
        """Ask for the UIDs and flags that are not known yet."""
        missing = [i + 1 for i, s in enumerate(self.slots) if not s.uid or s.flags is None]
        if missing:
            self.require(f"FETCH {number_set(missing)} ({self._items()})")

    def _items(self) -> str:
        return "UID FLAGS MODSEQ" if "CONDSTORE" in self.enabled else "UID FLAGS"

    def verify(self) -> dict[int, frozenset[str]]:
        """Look for news, then compare the whole picture with a full FETCH; returns UID -> flags."""
        self.require("NOOP")
        if any(slot.ghost for slot in self.slots):
            self.fail("a silent STORE was not done, and the message is there")
        if self.slots:
            count, self._strict = len(self.slots), True
            result = self.require(f"FETCH 1:* ({self._items()})")
            self._strict = False
            told = [v for v in result.untagged if isinstance(v, list) and v[1:2] == ["FETCH"]]
            if len(told) < count:
                self.fail("FETCH 1:* left messages out")
        return {s.uid: s.flags or frozenset() for s in self.slots}

    def idle(self, seconds: float) -> None:
        """IDLE for so long at most, or until something is told."""
        self.start("IDLE")
        self.finish()
        while self.wire.readable(seconds):
            self._untagged(self._read())
            seconds = 0.002
        self.wire.send(b"DONE\r\n")
        self.finish_idle()

    def finish_idle(self) -> None:
        while True:
            response = self._read()
            if not response[0].startswith(b"* "):
                self._tagged(response[0], [])
                return
            self._untagged(response)

    # -- losing the connection

    def cache(self) -> Cache:
        """What survives a lost connection; what was not answered is not believed."""
        kept = {}
        for slot in self.slots:
            flags = self._undo.get(id(slot), slot.flags)
            if slot.uid and flags is not None:
                kept[slot.uid] = flags
        return Cache(self.uidvalidity, self.highest, kept)

    def resume(self, mailbox: str, cache: Cache) -> None:
        """SELECT with QRESYNC; what the server says must make the cache right. RFC 7162 section 3.2.5."""
        self.require("ENABLE QRESYNC")
        known = f" {number_set(sorted(cache.flags))}" if cache.flags and self.number % 2 else ""
        result = self.require(f"SELECT {mailbox} (QRESYNC ({cache.uidvalidity} {cache.modseq}{known}))")
        if cache.uidvalidity != self.uidvalidity:
            self.fail(f"UIDVALIDITY was {cache.uidvalidity}, now it is {self.uidvalidity}")
        if self.highest < cache.modseq:
            self.fail(f"HIGHESTMODSEQ was {cache.modseq}, now it is {self.highest}")
        state = dict(cache.flags)
        for values in result.untagged:
            if values[0] == "VANISHED":
                for uid in numbers(values[-1]):
                    state.pop(uid, None)
        if self.slots:
            self.require(f"FETCH 1:{len(self.slots)} (UID)")
        stale = state.keys() - {slot.uid for slot in self.slots}
        if stale:
            self.fail(f"never told that these vanished: {stale}")
        for slot in self.slots:
            if slot.flags is None:
                slot.flags = state.get(slot.uid)
        self.learn()
        self.verify()

    def close(self) -> None:
        self.wire.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _applied(flags: frozenset[str], how: str, given: list[str]) -> frozenset[str]:
    words = frozenset(f.lower() for f in given)
    if how.startswith("+"):
        return flags | words
    return flags - words if how.startswith("-") else words


def message(token: str, size: int = 0) -> bytes:
    """A message that can be told from all others."""
    return f"Subject: {token}\r\nMessage-ID: <{token}@example.com>\r\n\r\n".encode() + b"x" * size + b"\r\n"
