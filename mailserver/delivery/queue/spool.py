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
from mailserver.mail.lines import CrlfWriter
from mailserver.ops import log as logging
from mailserver.store.formats.maildir.syncing import make_directories

_log = logging.get("queue")
_SCHEMA = """
create table if not exists message (
    id text primary key, sender text not null, user text not null, utf8 integer not null, body text not null,
    ret text not null, envid text not null, size integer not null, created real not null, held integer not null
) without rowid;
create table if not exists recipient (
    number integer primary key, message text not null, address text not null, user text not null, given text not null,
    notify text not null, orcpt text not null, attempts integer not null, due real not null, warned integer not null,
    code integer not null, enhanced text not null, said text not null
);
create index if not exists recipient_due on recipient (due);
create index if not exists recipient_message on recipient (message);
"""
_ORPHAN_SECONDS = 3600.0  # a file without rows so old is no message that is just being received
_BUFFER = 1 << 18
DISK_FULL = Status(452, "4.3.1", "No room in the queue")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recipient who has not got the message yet. ``number`` names the row; ``due`` in seconds since 1970."""

    number: int
    recipient: Recipient
    attempts: int
    due: float
    warned: bool
    last: Status | None


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
            self._db = self._open()
        self._charge = -1

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(f"{self.path}/queue.sqlite", timeout=30.0, isolation_level=None, check_same_thread=False)
        db.execute("pragma journal_mode = wal")
        db.execute(f"pragma synchronous = {'full' if self.sync else 'off'}")
        db.executescript(_SCHEMA)
        return db

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
        with self._transaction() as db:
            db.execute(
                "insert into message values (?,?,?,?,?,?,?,?,?,0)",
                (e.id, e.sender, e.user, e.utf8, e.body, e.ret, e.envid, size, now),
            )
            db.executemany(
                "insert into recipient values (null,?,?,?,?,?,?,0,?,0,0,'','')",
                [(envelope.id, r.address, r.user, r.given, r.notify, r.orcpt, now) for r in recipients],
            )
        self.on_new()

    # -- what there is

    def due(self, now: float, limit: int = 10000) -> list[tuple[str, Recipient]]:
        """Return message and recipient, without parameters, of all that are due, longest first; none that are held."""
        query = (
            "select r.message, r.address, r.user from recipient r join message m on m.id = r.message"
            " where r.due <= ? and not m.held order by r.due limit ?"
        )
        with self._lock:
            rows = self._db.execute(query, (now, limit)).fetchall()
        return [(row[0], Recipient(row[1], row[2])) for row in rows]

    def next_due(self) -> float | None:
        """Return when the next recipient is due; None when nobody waits."""
        query = "select min(r.due) from recipient r join message m on m.id = r.message where not m.held"
        with self._lock:
            found: float | None = self._db.execute(query).fetchone()[0]
        return found

    def get(self, message: str) -> Queued | None:
        """Return a message, None when it is gone."""
        with self._lock:
            row = self._db.execute("select * from message where id = ?", (message,)).fetchone()
            rows = self._db.execute("select * from recipient where message = ? order by number", (message,)).fetchall()
        if row is None:
            return None
        envelope = Envelope(row[0], row[1], row[2], bool(row[3]), row[4], row[5], row[6])
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

    def done(self, numbers: Iterable[int]) -> None:
        """Strike recipients off: they have it, or their failure has been reported."""
        with self._transaction() as db:
            db.executemany("delete from recipient where number = ?", [(number,) for number in numbers])

    def postpone(self, number: int, due: float, status: Status) -> None:
        """Try a recipient again at ``due``; ``status`` is what went wrong."""
        with self._transaction() as db:
            db.execute(
                "update recipient set due = ?, attempts = attempts + 1, code = ?, enhanced = ?, said = ?"
                " where number = ?",
                (due, status.code, status.enhanced, status.text, number),
            )

    def warned(self, numbers: Iterable[int]) -> None:
        """Note that the sender has been told of the delay."""
        with self._transaction() as db:
            db.executemany("update recipient set warned = 1 where number = ?", [(number,) for number in numbers])

    def finish(self, message: str) -> bool:
        """Remove a message nobody waits for any more; say whether that was so."""
        with self._transaction() as db:
            if db.execute("select 1 from recipient where message = ? limit 1", (message,)).fetchone():
                return False
            db.execute("delete from message where id = ?", (message,))
        self._unlink(message)
        return True

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
        with self._lock:
            known = {row[0] for row in self._db.execute("select id from message")}
        removed = 0
        for entry in list(os.scandir(f"{self.path}/messages")):
            with contextlib.suppress(OSError):  # gone meanwhile
                old = entry.stat().st_mtime < time.time() - _ORPHAN_SECONDS
                if old and entry.name.removesuffix(".part") not in known:
                    os.unlink(entry.path)
                    removed += 1
        return removed


def _waiting(row: Sequence[object]) -> Waiting:
    number, _, address, user, given, notify, orcpt, attempts, due, warned, code, enhanced, said = row
    last = Status(int(str(code)), str(enhanced), str(said)) if code else None
    recipient = Recipient(str(address), str(user), str(given), str(notify), str(orcpt))
    return Waiting(int(str(number)), recipient, int(str(attempts)), float(str(due)), bool(warned), last)


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
        self._buffer += self._crlf.convert(data)
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
            body = self._envelope.body or ("8BITMIME" if self._eight_bit else "")
            self._spool.insert(replace(self._envelope, body=body), self._size, self._recipients)
        return {}

    def abort(self) -> None:
        """Forget it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._buffer.clear()
        with contextlib.suppress(FileNotFoundError):  # committed, or never written
            os.unlink(self._part)


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
