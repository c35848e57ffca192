"""The spool: what waits, on disk. A file for each message's octets, SQLite for who still has to get it and when.

``commit`` returns when file, directory and rows are synced, so 250 may be said then. Nothing here delivers. Several
processes may use one spool; `Spool.take_charge` sees to it that one of them delivers.

A crash leaves either a file without rows (swept at the next start) or a message with all its rows. It never leaves rows
of a recipient who has the message, except between the other server's 250 and our commit: then it is sent twice, which
RFC 5321 section 6.1 prefers to losing it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from mailserver.delivery.target import Envelope, Recipient, Refused, Status
from mailserver.mail.addrspec import normal_domain
from mailserver.mail.lines import CrlfWriter
from mailserver.ops import log as logging
from mailserver.store.formats.maildir.syncing import make_directories

_log = logging.get("queue")
_SCHEMA = """
create table if not exists message (
    id text primary key, sender text not null, user text not null, utf8 integer not null, body text not null,
    ret text not null, envid text not null, size integer not null, created real not null, held integer not null,
    tls text not null default '', release real not null default 0, deadline real not null default 0,
    by_mode text not null default '', by_trace integer not null default 0, priority integer not null default 0
) without rowid;
create table if not exists recipient (
    number integer primary key, message text not null, address text not null, user text not null, given text not null,
    notify text not null, orcpt text not null, attempts integer not null, due real not null, warned integer not null,
    code integer not null, enhanced text not null, said text not null, domain text not null default '',
    trying integer not null default 0
);
create index if not exists recipient_due on recipient (due);
create index if not exists recipient_message on recipient (message);
"""
_DOMAINS = "create index if not exists recipient_domain on recipient (domain, due)"
# columns that a queue of an earlier version does not have
_LATER = {
    "message": ("tls text", "release real", "deadline real", "by_mode text", "by_trace integer", "priority integer"),
    "recipient": ("domain text", "trying integer"),
}
_MESSAGE = (
    "id, sender, user, utf8, body, ret, envid, size, created, held, tls, release, deadline, by_mode, by_trace, priority"
)
_RECIPIENT = "number, message, address, user, given, notify, orcpt, attempts, due, warned, code, enhanced, said, trying"
_ORPHAN_SECONDS = 3600.0  # a file without rows so old is no message that is just being received
_BUFFER = 1 << 18
DISK_FULL = Status(452, "4.3.1", "No room in the queue")


WARNED_LATE = 1  # the sender knows that it takes long
WARNED_BY = 2  # the sender knows that the time of DELIVERBY has passed


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recipient who has not got the message yet. ``number`` names the row; ``due`` in seconds since 1970."""

    number: int
    recipient: Recipient
    attempts: int
    due: float
    warned: int  # WARNED_LATE, WARNED_BY, both or 0
    last: Status | None
    trying: bool = False  # an attempt began, and nobody noted its end


@dataclass(frozen=True, slots=True)
class Queued:
    """A message and who still waits for it."""

    envelope: Envelope
    size: int
    created: float
    held: bool
    waiting: Sequence[Waiting]


class Spool:
    """See the module. May be used by several threads; make it after the workers are forked."""

    def __init__(self, path: str, *, sync: bool = True) -> None:
        """Raises `OSError`, `sqlite3.Error`."""
        self.path = path
        self.sync = sync
        self.on_new: Callable[[], None] = lambda: None
        make_directories(f"{path}/messages", sync=sync)
        self._lock = threading.Lock()
        with open(f"{path}/opening.lock", "ab", opener=lambda p, f: os.open(p, f, 0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the change to wal waits for nobody: of two workers one would fail
            self._db = sqlite3.connect(
                f"{path}/queue.sqlite", timeout=30.0, isolation_level=None, check_same_thread=False
            )
            self._db.execute("pragma journal_mode = wal")
            self._db.execute(f"pragma synchronous = {'full' if sync else 'off'}")
            self._db.executescript(_SCHEMA)
            self._complete()
        self._charge = -1

    def _complete(self) -> None:
        """Add what a queue of an earlier version lacks."""
        self._db.create_function("domain_of", 1, domain_of, deterministic=True)
        for table, columns in _LATER.items():
            known = {row[1] for row in self._db.execute(f"pragma table_info({table})")}
            missing = [column for column in columns if column.split()[0] not in known]
            for column in missing:
                empty = "''" if column.endswith("text") else "0"
                self._db.execute(f"alter table {table} add column {column} not null default {empty}")
            if "domain text" in missing:
                self._db.execute("update recipient set domain = domain_of(address) where user = ''")
        self._db.execute(_DOMAINS)

    def close(self) -> None:
        """Close the database; give up charge."""
        with self._lock:
            self._db.close()
        if self._charge >= 0:
            os.close(self._charge)
            self._charge = -1

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("begin immediate")
            try:
                yield self._db
                self._db.execute("commit")
            except BaseException:
                self._db.execute("rollback")
                raise

    def file(self, message: str) -> str:
        """The path of a message's octets."""
        return f"{self.path}/messages/{message}"

    # -- in

    def start(self, envelope: Envelope) -> SpoolDelivery:
        """Begin a message; this makes the spool a `mailserver.delivery.target.DeliveryTarget`."""
        return SpoolDelivery(self, envelope)

    def insert(self, envelope: Envelope, size: int, recipients: Iterable[Recipient]) -> None:
        """Note a message whose file is complete; due now."""
        now = time.time()
        e = envelope
        due = max(now, e.release)
        late = (e.tls, e.release, e.by, e.by_mode, e.by_trace, e.priority)
        with self._transaction() as db:
            db.execute(
                "insert into message values (?,?,?,?,?,?,?,?,?,0,?,?,?,?,?,?)",
                (e.id, e.sender, e.user, e.utf8, e.body, e.ret, e.envid, size, now, *late),
            )
            db.executemany(
                "insert into recipient values (null,?,?,?,?,?,?,0,?,0,0,'','',?,0)",
                [
                    (e.id, r.address, r.user, r.given, r.notify, r.orcpt, due, "" if r.user else domain_of(r.address))
                    for r in recipients
                ],
            )
        self.on_new()

    # -- what there is

    def due_domains(self, now: float) -> list[str]:
        """Return the domains to which something is due, "" for mailboxes here: highest priority, then longest first."""
        query = (
            "select r.domain from recipient r join message m on m.id = r.message where r.due <= ? and not m.held"
            " group by r.domain order by max(m.priority) desc, min(r.due)"
        )
        with self._lock:
            return [row[0] for row in self._db.execute(query, (now,))]

    def due(self, now: float, domains: Sequence[str], limit: int = 1000) -> list[str]:
        """Return the messages due to any of ``domains``, none that are held: highest priority, then longest first."""
        marks = ",".join("?" * len(domains))
        query = (
            "select r.message from recipient r join message m on m.id = r.message"  # noqa: S608 - marks only
            f" where r.domain in ({marks}) and r.due <= ? and not m.held"
            " group by r.message order by m.priority desc, min(r.due) limit ?"
        )
        with self._lock:
            return [row[0] for row in self._db.execute(query, (*domains, now, limit))]

    def next_due(self) -> float | None:
        """Return when the next recipient is due; None when nobody waits."""
        query = "select min(r.due) from recipient r join message m on m.id = r.message where not m.held"
        with self._lock:
            found: float | None = self._db.execute(query).fetchone()[0]
        return found

    def get(self, message: str) -> Queued | None:
        """Return a message, None when it is gone."""
        with self._lock:
            row = self._db.execute(f"select {_MESSAGE} from message where id = ?", (message,)).fetchone()  # noqa: S608
            rows = self._db.execute(
                f"select {_RECIPIENT} from recipient where message = ? order by number",  # noqa: S608 - constants
                (message,),
            ).fetchall()
        if row is None:
            return None
        wishes = (row[10], row[11], row[12], row[13], bool(row[14]), row[15])
        envelope = Envelope(row[0], row[1], row[2], bool(row[3]), row[4], row[5], row[6], False, *wishes)
        return Queued(envelope, row[7], row[8], bool(row[9]), [_waiting(r) for r in rows])

    def all(self) -> list[Queued]:
        """Return everything, oldest first."""
        with self._lock:
            names = [row[0] for row in self._db.execute("select id from message order by created")]
        return [found for name in names if (found := self.get(name)) is not None]

    def count(self) -> int:
        """Return how many messages wait."""
        with self._lock:
            found: int = self._db.execute("select count(*) from message").fetchone()[0]
        return found

    # -- out

    def begin(self, numbers: Iterable[int]) -> None:
        """Note that recipients may have the message from now on, should we not come to note more."""
        with self._transaction() as db:
            db.executemany("update recipient set trying = 1 where number = ?", [(number,) for number in numbers])

    def settle(self, message: str, done: Iterable[int], postponed: Iterable[tuple[int, float, Status]] = ()) -> bool:
        """Note what became of an attempt, all at once; say whether nobody waits for the message any more.

        ``done``: those who have it, or whose failure has been reported. ``postponed``: who is tried again, when, and
        what went wrong.
        """
        later = [(due, status.code, status.enhanced, status.text, number) for number, due, status in postponed]
        with self._transaction() as db:
            db.executemany("delete from recipient where number = ?", [(number,) for number in done])
            db.executemany(
                "update recipient set due = ?, attempts = attempts + 1, trying = 0, code = ?, enhanced = ?, said = ?"
                " where number = ?",
                later,
            )
            if db.execute("select 1 from recipient where message = ? limit 1", (message,)).fetchone():
                return False
            db.execute("delete from message where id = ?", (message,))
        self._unlink(message)
        return True

    def warned(self, numbers: Iterable[int], what: int = WARNED_LATE) -> None:
        """Note that the sender has been told."""
        with self._transaction() as db:
            db.executemany("update recipient set warned = warned | ? where number = ?", [(what, n) for n in numbers])

    # -- by hand

    def retry(self, message: str) -> bool:
        """Make all its recipients due now; say whether there is such a message."""
        with self._transaction() as db:
            db.execute("update recipient set due = ? where message = ?", (time.time(), message))
            found = db.execute("select 1 from message where id = ?", (message,)).fetchone() is not None
        self.on_new()
        return found

    def hold(self, message: str, held: bool) -> bool:
        """Keep a message back, or let it go; say whether there is such a message."""
        with self._transaction() as db:
            changed = db.execute("update message set held = ? where id = ?", (int(held), message)).rowcount
        self.on_new()
        return bool(changed)

    def delete(self, message: str) -> bool:
        """Throw a message away without a word to its sender; say whether there was one."""
        with self._transaction() as db:
            db.execute("delete from recipient where message = ?", (message,))
            changed = db.execute("delete from message where id = ?", (message,)).rowcount
        self._unlink(message)
        return bool(changed)

    def _unlink(self, message: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file(message))

    # -- one deliverer

    def take_charge(self) -> bool:
        """Become the one process that delivers from here; False when another one is."""
        fd = os.open(f"{self.path}/deliverer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._charge = fd
        return True

    def sweep(self) -> int:
        """Remove files that no row names: their senders were never told 250. Return how many."""
        with self._transaction() as db:  # an earlier version could leave a message that nobody waits for
            db.execute("delete from message where not exists (select 1 from recipient where message = id)")
            known = {row[0] for row in db.execute("select id from message")}
        removed = 0
        for entry in list(os.scandir(f"{self.path}/messages")):
            with contextlib.suppress(OSError):  # gone meanwhile
                old = entry.stat().st_mtime < time.time() - _ORPHAN_SECONDS
                # NAME.part is being received, NAME.7bit-... was made for one server
                if old and entry.name not in known:
                    os.unlink(entry.path)
                    removed += 1
        return removed


def _waiting(row: Sequence[object]) -> Waiting:
    number, _, address, user, given, notify, orcpt, attempts, due, warned, code, enhanced, said, trying = row
    last = Status(int(str(code)), str(enhanced), str(said)) if code else None
    recipient = Recipient(str(address), str(user), str(given), str(notify), str(orcpt))
    return Waiting(
        int(str(number)), recipient, int(str(attempts)), float(str(due)), int(str(warned)), last, bool(trying)
    )


class SpoolDelivery:
    """One message on its way into the spool; see `mailserver.delivery.target.Delivery`."""

    def __init__(self, spool: Spool, envelope: Envelope) -> None:
        self._spool = spool
        self._envelope = envelope
        self._recipients: list[Recipient] = []
        self._part = spool.file(envelope.id) + ".part"
        self._crlf = CrlfWriter()
        self._buffer = bytearray()
        self._eight_bit = False
        self._fd = -1
        self._size = 0

    def recipient(self, recipient: Recipient) -> None:
        """Add a recipient."""
        self._recipients.append(recipient)

    def write(self, data: bytes) -> None:
        """Take octets. Raises `Refused`."""
        self._eight_bit = self._eight_bit or not data.isascii()
        self._buffer += data if self._envelope.binary else self._crlf.convert(data)
        if len(self._buffer) >= _BUFFER:
            with _disk_errors():
                self._flush()

    def _flush(self) -> None:
        if self._fd < 0:
            self._fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with memoryview(self._buffer) as view:
            done = 0
            while done < len(view):
                done += os.write(self._fd, view[done:])
        self._size += len(self._buffer)
        self._buffer.clear()

    def commit(self) -> dict[Recipient, Status]:
        """Put it into the queue, durably. Raises `Refused`."""
        with _disk_errors():
            self._flush()
            if self._spool.sync:
                os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
            os.rename(self._part, self._spool.file(self._envelope.id))
            if self._spool.sync:
                sync_directory(os.path.dirname(self._part))
            envelope = self._envelope
            if self._eight_bit and not envelope.binary:  # whatever was announced
                envelope = replace(envelope, body="8BITMIME")
            try:
                self._spool.insert(envelope, self._size, self._recipients)
            except BaseException:
                os.unlink(self._spool.file(self._envelope.id))
                raise
        return {}

    def abort(self) -> None:
        """Forget it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._buffer.clear()
        with contextlib.suppress(FileNotFoundError):  # committed, or never written
            os.unlink(self._part)


def domain_of(address: str) -> str:
    """Return the domain of a recipient in its one spelling."""
    return normal_domain(address.rpartition("@")[2])


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        _log.error("queue-failed", cause=str(error))
        raise Refused(DISK_FULL) from error


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
