"""The scheduler: one thread that knows what is due, and threads that deliver, one or few for each destination.

The contract. Each recipient has a state of its own. A temporary failure is tried again after a pause that doubles up to
a longest one, with some chance in it, so that what failed together does not come back together; after the lifetime it
becomes permanent. A permanent failure is reported to the sender, if NOTIFY does not say otherwise, and the report is in
the queue (or the mailbox) before the recipient is struck off: a crash may repeat a report or a delivery, and loses
neither. What nobody foresaw is temporary. After some hours of temporary failures the sender is told once.

The schedule itself is the spool's table; so several processes and the ``queue`` command can change it, and this thread
sees it at its next look. In memory is only what is under way: for each destination the messages that are due next, and
the lanes, the threads that take them one after the other over one connection each. A destination has at most so many
lanes, and more than one only while half of all lanes are free: a slow one holds up nobody but itself.
"""

from __future__ import annotations

import random
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mailserver.delivery.queue import bounce
from mailserver.delivery.queue.bounce import Item
from mailserver.delivery.queue.reporter import Reporter
from mailserver.delivery.queue.spool import WARNED_BY, WARNED_LATE, Queued, Spool, Waiting
from mailserver.delivery.queue.transfer import Outcome
from mailserver.delivery.target import DeliveryTarget, Envelope, Recipient, Refused, Status
from mailserver.mail import headers
from mailserver.ops import log as logging
from mailserver.ops import metrics

LOOK_SECONDS = 2.0  # how soon a message of another process, or a command by hand, is seen
LINGER_SECONDS = 1.0  # a connection waits so long for another message to the same destination
SWEEP_SECONDS = 3600.0
BUSY_SHARE = 10  # a look may take one part of so many of this thread's time
_REFILL = 1000  # messages of one destination in memory
_CHUNK = 1 << 17
_DELIVERED = Outcome(Status(250, "2.1.5", "Delivered"))
_LATE = Status(554, "5.4.7", "It could not be delivered in the time that the sender gave")
_FIRST_FIELD = re.compile(rb"[^\n]*(?:\n[ \t][^\n]*)*")
_EXPIRED = "It could not be delivered in time; the last answer was: "

_log = logging.get("queue")


class Way(Protocol):
    """Takes messages to one destination, one after the other: `mailserver.delivery.queue.relay.Way`."""

    def deliver(self, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]) -> list[Outcome]:
        """Try once; return an outcome for each recipient."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


class Mailboxes(DeliveryTarget, Protocol):
    """Takes messages to users here: `mailserver.delivery.local.LocalTarget`."""

    def has(self, user: str, beginning: bytes, since: float) -> bool:
        """Say whether a user has a message with this in its header, come after ``since``."""
        ...


class Carrier(Protocol):
    """Takes messages to other servers: `mailserver.delivery.queue.relay.Relay`."""

    def destination(self, recipient: Recipient) -> str:
        """Return what recipients of one attempt have in common."""
        ...

    def way(self, destination: str) -> Way:
        """Return the way there."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Times in seconds."""

    first: float = 300.0
    longest: float = 14400.0
    lifetime: float = 432000.0
    bounce_lifetime: float = 86400.0  # reports are not worth as much patience
    warning: float = 14400.0  # 0: the sender is not told of delays
    workers: int = 50  # lanes, over all destinations
    per_destination: int = 3

    def pause(self, attempts: int) -> float:
        """Return how long to wait after so many attempts that failed."""
        pause = min(self.longest, self.first * 2.0 ** min(attempts, 30))
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - only spreads the load


@dataclass(slots=True)
class _Destination:
    """What is under way to one destination ("": the mailboxes here)."""

    name: str
    waiting: deque[str] = field(default_factory=deque)  # messages that are due
    known: set[str] = field(default_factory=set)  # those, and those that a lane has
    lanes: int = 0


class Scheduler:
    """See the module."""

    def __init__(self, spool: Spool, carrier: Carrier, local: Mailboxes, reporter: Reporter, timing: Timing) -> None:
        self._spool = spool
        self._carrier = carrier
        self._local = local
        self._reporter = reporter
        self._timing = timing
        self._changed = threading.Condition()
        self._news = False
        self._stopping = False
        self._destinations: dict[str, _Destination] = {}
        self._lanes: set[threading.Thread] = set()
        self._thread = threading.Thread(target=self._schedule, name="queue", daemon=True)

    # -- life

    def start(self) -> None:
        """Begin to deliver, in threads of its own."""
        self._spool.on_new = self.wake
        self._thread.start()

    def stop(self, grace: float = 5.0) -> None:
        """Begin nothing new; what is under way has ``grace`` seconds. Cut off, it is tried again at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            threads = [self._thread, *self._lanes]
        deadline = time.monotonic() + grace
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def wake(self) -> None:
        """Look at the spool now."""
        with self._changed:
            self._news = True
            self._changed.notify_all()

    # -- the thread that knows what is due

    def _schedule(self) -> None:
        sweep_at = 0.0
        while not self._stopping:
            begun = time.monotonic()
            try:
                if begun >= sweep_at:  # what a killed process left behind
                    self._spool.sweep()
                    sweep_at = begun + SWEEP_SECONDS
                self._hand_out()
                metrics.QUEUE_MESSAGES.inc(self._spool.count() - metrics.QUEUE_MESSAGES.value())
                pause = self._pause()
            except (sqlite3.Error, OSError) as error:
                _log.error("spool-failed", reason=str(error))
                pause = LOOK_SECONDS
            took = time.monotonic() - begun
            with self._changed:
                if not self._stopping and took > 0.001:  # a long queue must not keep this thread busy with looking
                    self._changed.wait_for(lambda: self._stopping, min(LOOK_SECONDS, BUSY_SHARE * took))
                if not self._news and not self._stopping:
                    self._changed.wait_for(lambda: self._news or self._stopping, pause)
                self._news = False

    def _pause(self) -> float:
        due = self._spool.next_due()
        return LOOK_SECONDS if due is None else min(LOOK_SECONDS, max(0.05, due - time.time()))

    def _hand_out(self) -> None:
        now = time.time()
        domains: dict[str, list[str]] = {}
        for domain in self._spool.due_domains(now):
            name = self._carrier.destination(Recipient(f"x@{domain}")) if domain else ""
            domains.setdefault(name, []).append(domain)
        for name, those in domains.items():
            with self._changed:
                found = self._destinations.setdefault(name, _Destination(name))
                full = len(self._lanes) >= self._timing.workers and not found.lanes
            if not full:
                for start in range(0, len(those), 500):  # so many marks an old SQLite surely takes
                    self._offer(found, self._spool.due(now, those[start : start + 500], _REFILL))
        with self._changed:
            for name in [name for name, one in self._destinations.items() if not one.lanes and not one.known]:
                del self._destinations[name]

    def _offer(self, to: _Destination, messages: Sequence[str]) -> None:
        """Give messages to the lanes of a destination, and begin as many lanes as it may have."""
        with self._changed:
            fresh = [message for message in messages if message not in to.known]
            to.waiting += fresh
            to.known.update(fresh)
            while not self._stopping and to.lanes < min(self._timing.per_destination, len(to.known)):
                room = self._timing.workers if not to.lanes else self._timing.workers // 2
                if len(self._lanes) >= room:
                    break
                lane = threading.Thread(target=self._run_lane, args=(to,), name="queue-lane", daemon=True)
                self._lanes.add(lane)
                to.lanes += 1
                lane.start()
            self._changed.notify_all()

    # -- the threads that deliver

    def _run_lane(self, to: _Destination) -> None:
        way: Way = _Here(self._local) if not to.name else self._carrier.way(to.name)
        try:
            while (message := self._next(to)) is not None:
                try:
                    self._do(message, to, way)
                except sqlite3.ProgrammingError:
                    if not self._stopping:  # else the spool was closed while this lane still spoke
                        raise
                    return
                except Exception:
                    metrics.FAULTS.inc(protocol="queue")
                    _log.exception("fault", id=message)
                    self._put_off(message, to)
                finally:
                    with self._changed:
                        to.known.discard(message)
        finally:
            way.close()
            with self._changed:
                to.lanes -= 1
                self._lanes.discard(threading.current_thread())
            self.wake()  # others may have waited for room; and what came while this lane ended

    def _next(self, to: _Destination) -> str | None:
        """Return the next message for a lane; None when it shall end."""
        with self._changed:
            if not to.waiting:
                self._news = True  # there may be more than was read at once
                self._changed.notify_all()
                if len(self._lanes) <= self._timing.workers // 2:  # else somebody else needs the room
                    self._changed.wait_for(lambda: bool(to.waiting) or self._stopping, LINGER_SECONDS)
            if self._stopping or not to.waiting:
                return None
            return to.waiting.popleft()

    def _put_off(self, message: str, to: _Destination) -> None:
        status = Status(451, "4.3.0", "Internal error")
        try:
            now = time.time()
            waiting = self._waiting(to, self._spool.get(message), now)
            self._spool.settle(message, [], [(w.number, now + self._timing.pause(w.attempts), status) for w in waiting])
        except sqlite3.Error as error:  # the spool itself is broken: the pause of the loop must do
            _log.error("spool-failed", reason=str(error))

    def _do(self, name: str, to: _Destination, way: Way) -> None:
        now = time.time()
        message = self._spool.get(name)
        waiting = self._waiting(to, message, now)
        if message is None or message.held or not waiting:
            return
        envelope = message.envelope
        recipients = [one.recipient for one in waiting]
        if envelope.by_mode == "R" and now >= envelope.by:  # RFC 2852: what is late goes back
            outcomes = [Outcome(_LATE)] * len(recipients)
        elif to.name:
            outcomes = way.deliver(envelope, self._spool.file(envelope.id), message.size, recipients)
        else:
            outcomes = self._deliver_here(message, waiting, way)
        self._conclude(message, list(zip(waiting, outcomes, strict=True)))

    def _deliver_here(self, message: Queued, waiting: Sequence[Waiting], way: Way) -> list[Outcome]:
        """Deliver to mailboxes; who got it before we were killed, and could not note it, does not get it twice."""
        path = self._spool.file(message.envelope.id)
        again = [w.recipient for w in waiting if w.trying]
        have = {r for r in again if self._local.has(r.user, _beginning(path, message.envelope), message.created)}
        rest = [w.recipient for w in waiting if w.recipient not in have]
        outcomes = dict.fromkeys(have, _DELIVERED)
        if rest:
            self._spool.begin(w.number for w in waiting)
            outcomes |= dict(zip(rest, way.deliver(message.envelope, path, message.size, rest), strict=True))
        return [outcomes[w.recipient] for w in waiting]

    def _waiting(self, to: _Destination, message: Queued | None, now: float) -> list[Waiting]:
        """Return who is still due: meanwhile another attempt may have ended, or someone deleted it."""
        everybody = message.waiting if message is not None else ()
        return [w for w in everybody if w.due <= now and self._destination(w.recipient) == to.name]

    def _destination(self, recipient: Recipient) -> str:
        return "" if recipient.user else self._carrier.destination(recipient)

    # -- what became of it

    def _conclude(self, message: Queued, results: list[tuple[Waiting, Outcome]]) -> None:
        now = time.time()
        lifetime = self._lifetime(message)
        done: list[Waiting] = []
        postponed: list[tuple[int, float, Status]] = []
        failed: list[Item] = []
        succeeded: list[tuple[str, Item]] = []
        passed: list[Item] = []  # RFC 2852: the sender hears of it unless NOTIFY is NEVER
        for waiting, outcome in results:
            status = outcome.status
            if status.temporary and now >= lifetime:
                status = Status(554, "4.4.7", f"{_EXPIRED}{status}")
            item = Item(waiting.recipient, status, outcome.peer)
            self._note(message, waiting, item)
            if status.temporary:
                postponed.append((waiting.number, self._again(message, waiting, now), status))
                continue
            done.append(waiting)
            if not status.ok:
                failed.append(item)
            elif outcome.tell:
                passed.append(item)
            elif not outcome.dsn:  # RFC 3461 section 5.2.2: a server that knows DSN reports itself
                succeeded.append(("delivered" if waiting.recipient.user else "relayed", item))
        self._report(message, "failed", "FAILURE", failed)
        for action in ("delivered", "relayed"):
            self._report(message, action, "SUCCESS", [item for name, item in succeeded if name == action])
        self._report(message, "relayed", "", passed)
        self._spool.settle(message.envelope.id, [waiting.number for waiting in done], postponed)
        late = [(w, o) for w, o in results if o.status.temporary and now < lifetime]
        self._warn(message, late, now, lifetime)

    def _lifetime(self, message: Queued) -> float:
        """Return when it is given up. What is held (RFC 4865) begins to age when it is released."""
        begun = max(message.created, message.envelope.release)
        return begun + (self._timing.lifetime if message.envelope.sender else self._timing.bounce_lifetime)

    def _again(self, message: Queued, waiting: Waiting, now: float) -> float:
        """Return when to try again: the end of DELIVERBY's time is not missed."""
        due, by = now + self._timing.pause(waiting.attempts), message.envelope.by
        return min(due, by) if by > now else due

    def _report(self, message: Queued, action: str, what: str, items: Sequence[Item]) -> None:
        chosen = [item for item in items if bounce.wanted(item.recipient, what)]
        if not chosen or not message.envelope.sender:
            return
        try:
            with open(self._spool.file(message.envelope.id), "rb") as file:
                octets = file.read(bounce.MAX_RETURNED + 1)
        except FileNotFoundError:  # deleted by hand while it was under way
            return
        whole = len(octets) == message.size
        self._reporter.report(action, message.envelope, chosen, octets, whole=whole, arrived=message.created)

    def _warn(self, message: Queued, late: list[tuple[Waiting, Outcome]], now: float, until: float) -> None:
        """Tell the sender once that it takes long, and once that the time of DELIVERBY has passed."""
        envelope = message.envelope
        if self._timing.warning and now - max(message.created, envelope.release) >= self._timing.warning:
            self._tell(message, late, WARNED_LATE, "DELAY", until)
        if envelope.by_mode == "N" and now >= envelope.by:
            self._tell(message, late, WARNED_BY, "", until)

    def _tell(self, message: Queued, late: list[tuple[Waiting, Outcome]], which: int, what: str, until: float) -> None:
        chosen = [(w, o) for w, o in late if not w.warned & which]
        self._report(message, "delayed", what, [Item(w.recipient, o.status, o.peer, until) for w, o in chosen])
        self._spool.warned([waiting.number for waiting, _ in chosen], which)

    def _note(self, message: Queued, waiting: Waiting, item: Item) -> None:
        status = item.status
        result = "ok" if status.ok else "deferred" if status.temporary else "failed"
        metrics.RELAYED.inc(result=result)
        _log.info(
            "delivery",
            id=message.envelope.id,
            sender=f"<{message.envelope.sender}>",
            rcpt=waiting.recipient.address,
            peer=item.peer or None,
            result=result,
            attempt=waiting.attempts + 1,
            delay=round(time.time() - message.created, 1),
            reply=status,
        )


class _Here:
    """The way to mailboxes of this server: those that could not take it at first, or for whom it was held."""

    def __init__(self, local: DeliveryTarget) -> None:
        self._local = local

    def deliver(self, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]) -> list[Outcome]:
        """Deliver."""
        delivery = self._local.start(envelope)
        try:
            for recipient in recipients:
                delivery.recipient(recipient)
            with open(path, "rb") as file:
                header, _ = headers.split(file.read(1 << 20))
                delivery.write(header)
                file.seek(len(header))
                while data := file.read(_CHUNK):
                    delivery.write(data)
            failed = delivery.commit()
        except Refused as refused:
            failed = dict.fromkeys(recipients, refused.status)
        finally:
            delivery.abort()
        return [Outcome(failed[r]) if r in failed else _DELIVERED for r in recipients]

    def close(self) -> None:
        """Nothing is open."""


def _beginning(path: str, envelope: Envelope) -> bytes:
    """Return the first octets of a message: Received or Message-ID tell it from all others.

    Of a binary one only the first field: labels change when it is converted.
    """
    with open(path, "rb") as file:
        octets = file.read(1000)
    end = octets.find(b"\r\n\r\n") + 1 or len(octets)
    return _FIRST_FIELD.match(octets)[0] if envelope.binary else octets[:end]  # type: ignore[index]  # it always fits
