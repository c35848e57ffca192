"""The scheduler: one thread that knows what is due, and few that deliver.

The contract. Each recipient has a state of its own. A temporary failure is tried again after a pause that doubles up to
a longest one, with some chance in it, so that what failed together does not come back together; after the lifetime it
becomes permanent. A permanent failure is reported to the sender, if NOTIFY does not say otherwise, and the report is in
the queue (or the mailbox) before the recipient is struck off: a crash may repeat a report or a delivery, and loses
neither. What nobody foresaw is temporary. After some hours of temporary failures the sender is told once.

The schedule itself is the spool's table, read by its index of due times; so several processes and the ``queue`` command
can change it, and this thread sees it at its next look. In memory is only what is under way: no message is tried twice
at a time, and no destination gets more than so many connections.
"""

from __future__ import annotations

import queue
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mailserver.delivery.queue import bounce
from mailserver.delivery.queue.bounce import Item
from mailserver.delivery.queue.relay import Outcome
from mailserver.delivery.queue.reporter import Reporter
from mailserver.delivery.queue.spool import Queued, Spool, Waiting
from mailserver.delivery.target import DeliveryTarget, Envelope, Recipient, Refused, Status
from mailserver.mail import headers
from mailserver.ops import log as logging
from mailserver.ops import metrics

LOOK_SECONDS = 2.0  # how soon a message of another process, or a command by hand, is seen
_CHUNK = 1 << 17
_EXPIRED = "It could not be delivered in time; the last answer was: "

_log = logging.get("queue")


class Carrier(Protocol):
    """Takes messages to other servers: `mailserver.delivery.queue.relay.Relay`."""

    def destination(self, recipient: Recipient) -> str:
        """Return what recipients of one attempt have in common."""
        ...

    def deliver(self, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]) -> list[Outcome]:
        """Try once; return an outcome for each recipient."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Times in seconds."""

    first: float = 300.0
    longest: float = 14400.0
    lifetime: float = 432000.0
    bounce_lifetime: float = 86400.0  # reports are not worth as much patience
    warning: float = 14400.0  # 0: the sender is not told of delays
    workers: int = 4
    per_destination: int = 3

    def pause(self, attempts: int) -> float:
        """Return how long to wait after so many attempts that failed."""
        pause = min(self.longest, self.first * 2.0 ** min(attempts, 30))
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - only spreads the load


@dataclass(frozen=True, slots=True)
class _Job:
    """The recipients of one message at one destination ("": here) that were due at ``now``."""

    message: str
    destination: str
    now: float

    @property
    def key(self) -> tuple[str, str]:
        return (self.message, self.destination)


class Scheduler:
    """See the module."""

    def __init__(
        self, spool: Spool, carrier: Carrier, local: DeliveryTarget, reporter: Reporter, timing: Timing
    ) -> None:
        self._spool = spool
        self._carrier = carrier
        self._local = local
        self._reporter = reporter
        self._timing = timing
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._news = False
        self._stopping = False
        self._running: set[tuple[str, str]] = set()
        self._by_destination: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []

    # -- life

    def start(self) -> None:
        """Begin to deliver, in threads of its own."""
        self._spool.on_new = self.wake
        names = ["queue", *(f"queue-{number}" for number in range(self._timing.workers))]
        runs = [self._schedule, *[self._work] * self._timing.workers]
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True) for run, name in zip(runs, names, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, grace: float = 5.0) -> None:
        """Begin nothing new; what is under way has ``grace`` seconds. Cut off, it is tried again at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for _ in range(self._timing.workers):
            self._jobs.put(None)
        deadline = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def wake(self) -> None:
        """Look at the spool now."""
        with self._changed:
            self._news = True
            self._changed.notify_all()

    # -- the thread that knows what is due

    def _schedule(self) -> None:
        while not self._stopping:
            try:
                self._hand_out()
                metrics.QUEUE_MESSAGES.inc(self._spool.count() - metrics.QUEUE_MESSAGES.value())
                pause = self._pause()
            except sqlite3.Error as error:
                _log.error("spool-failed", reason=str(error))
                pause = LOOK_SECONDS
            with self._changed:
                if not self._news and not self._stopping:
                    self._changed.wait(pause)
                self._news = False

    def _pause(self) -> float:
        due = self._spool.next_due()
        return LOOK_SECONDS if due is None else min(LOOK_SECONDS, max(0.05, due - time.time()))

    def _hand_out(self) -> None:
        now = time.time()
        jobs = dict.fromkeys(_Job(name, self._destination(recipient), now) for name, recipient in self._spool.due(now))
        for job in jobs:
            if len(self._running) >= 2 * self._timing.workers:
                break
            if self._enter(job):
                self._jobs.put(job)

    def _destination(self, recipient: Recipient) -> str:
        return "" if recipient.user else self._carrier.destination(recipient)

    def _enter(self, job: _Job) -> bool:
        with self._changed:
            full = self._by_destination[job.destination] >= self._timing.per_destination
            if job.key in self._running or (full and job.destination) or self._stopping:
                return False
            self._running.add(job.key)
            self._by_destination[job.destination] += 1
            return True

    def _leave(self, job: _Job) -> None:
        with self._changed:
            self._running.discard(job.key)
            self._by_destination[job.destination] -= 1
            if not self._by_destination[job.destination]:
                del self._by_destination[job.destination]
        self.wake()

    # -- the threads that deliver

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if not self._stopping:
                    self._do(job)
            except Exception:
                metrics.FAULTS.inc(protocol="queue")
                _log.exception("fault", id=job.message)
                self._put_off(job)
            finally:
                self._leave(job)

    def _put_off(self, job: _Job) -> None:
        status = Status(451, "4.3.0", "Internal error")
        try:
            for waiting in self._waiting(job, self._spool.get(job.message)):
                self._spool.postpone(waiting.number, time.time() + self._timing.pause(waiting.attempts), status)
        except sqlite3.Error as error:  # the spool itself is broken: the pause of the loop must do
            _log.error("spool-failed", reason=str(error))

    def _do(self, job: _Job) -> None:
        message = self._spool.get(job.message)
        waiting = self._waiting(job, message)
        if message is None or message.held or not waiting:
            return
        recipients = [one.recipient for one in waiting]
        path = self._spool.file(message.envelope.id)
        if job.destination:
            outcomes = self._carrier.deliver(message.envelope, path, message.size, recipients)
        else:
            outcomes = self._deliver_here(message.envelope, path, recipients)
        self._conclude(message, list(zip(waiting, outcomes, strict=True)))
        self._spool.finish(message.envelope.id)

    def _waiting(self, job: _Job, message: Queued | None) -> list[Waiting]:
        """Return who is still due: since the job was made, another attempt may have ended, or someone deleted it."""
        everybody = message.waiting if message is not None else ()
        return [w for w in everybody if w.due <= job.now and self._destination(w.recipient) == job.destination]

    def _deliver_here(self, envelope: Envelope, path: str, recipients: Sequence[Recipient]) -> list[Outcome]:
        """Deliver to mailboxes of this server that could not take it at first."""
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
        delivered = Status(250, "2.1.5", "Delivered")
        return [Outcome(failed.get(recipient, delivered)) for recipient in recipients]

    # -- what became of it

    def _conclude(self, message: Queued, results: list[tuple[Waiting, Outcome]]) -> None:
        now = time.time()
        lifetime = self._timing.lifetime if message.envelope.sender else self._timing.bounce_lifetime
        done: list[Waiting] = []
        failed: list[Item] = []
        succeeded: list[tuple[str, Item]] = []
        for waiting, outcome in results:
            status = outcome.status
            if status.temporary and now - message.created >= lifetime:
                status = Status(554, "4.4.7", f"{_EXPIRED}{status}")
            item = Item(waiting.recipient, status, outcome.peer)
            self._note(message, waiting, item)
            if status.temporary:
                self._spool.postpone(waiting.number, now + self._timing.pause(waiting.attempts), status)
                continue
            done.append(waiting)
            if not status.ok:
                failed.append(item)
            elif not outcome.dsn:  # RFC 3461 section 5.2.2: a server that knows DSN reports itself
                succeeded.append(("delivered" if waiting.recipient.user else "relayed", item))
        self._report(message, "failed", "FAILURE", failed)
        for action in ("delivered", "relayed"):
            self._report(message, action, "SUCCESS", [item for name, item in succeeded if name == action])
        self._spool.done(waiting.number for waiting in done)
        self._warn(message, results, now, lifetime)

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

    def _warn(self, message: Queued, results: list[tuple[Waiting, Outcome]], now: float, lifetime: float) -> None:
        if not self._timing.warning or now - message.created < self._timing.warning:
            return
        late = [(w, o) for w, o in results if o.status.temporary and not w.warned and now - message.created < lifetime]
        until = message.created + lifetime
        self._report(message, "delayed", "DELAY", [Item(w.recipient, o.status, o.peer, until) for w, o in late])
        self._spool.warned(waiting.number for waiting, _ in late)

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
