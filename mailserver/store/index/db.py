"""The index of one account: SQLite, one handle per process, used under the lane.

A cache and nothing more. Whatever goes wrong with it (deleted, truncated, made by another version, disk full) is said
once in the log, the file is made anew, and callers are told "not known" until the files have filled it again. It never
fails an operation on mail.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mailserver.ops import log as logging
from mailserver.store.index.schema import TABLES, VERSION
from mailserver.store.lane import LANE
from mailserver.store.model.message import Message
from mailserver.store.model.numbers import ModSeq, Uid
from mailserver.store.model.words import keyword_set

_log = logging.get("store")
_COLUMNS = "uid, modseq, file, flags, keywords, internaldate, size, vsize, savedate"
_BUSY_MS = 2000
_SQLITE_MEMORY = 64 << 20  # octets of pages that the handles of a process keep
_HANDLE_KB = 256  # of pages that one handle keeps: more was no quicker, for the system keeps them too
_KEPT_EXPUNGED = 10_000  # of a folder; whoever missed more is told what is left instead of what is gone
_REVS_UNTIL_PRUNED = 256
_QUIET_SECONDS = 60.0  # between two lines in the log that say the same
# what makes a file worthless; anything else (locked, disk full, no descriptors) passes, and the file is still good
_WORTHLESS = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA})


@dataclass(frozen=True, slots=True)
class FolderRow:
    """What the index knows of a folder as a whole. ``fingerprint`` is opaque here: plain numbers as JSON."""

    uidvalidity: int
    uidnext: int
    highestmodseq: int
    first_recent: int
    rev: int
    keywords: tuple[str, ...]
    fingerprint: str
    scanned: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened after a revision, as other processes wrote it.

    ``present``: all UIDs that are left, where not every expunged one is remembered; else None.
    """

    row: FolderRow
    messages: list[Message]
    expunged: list[int]
    present: frozenset[int] | None = None


def _message(row: tuple[int, int, bytes, int, str, int, int, int, int]) -> Message:
    uid, modseq, file, flags, words, date, size, vsize, saved = row
    name = os.fsdecode(file)
    return Message(Uid(uid), name, flags, keyword_set(words), ModSeq(modseq), date, size, vsize, saved)


class _OtherVersion(sqlite3.DatabaseError):
    """Made by another version of this program."""


def _worthless(error: sqlite3.Error) -> bool:
    if isinstance(error, _OtherVersion):
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return isinstance(error, sqlite3.DatabaseError) and code & 0xFF in _WORTHLESS


class Index:
    """``path`` is the database file; its directory exists."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self.epoch = ""  # changes when the file is made anew
        self._complained = -_QUIET_SECONDS
        self._patient = True  # waits for a lock; not again after it waited in vain, until it succeeds

    # -- life cycle

    def _open(self) -> sqlite3.Connection:
        db = self._db
        if db is not None:
            try:
                if os.stat(self._path).st_ino == self._inode:
                    return db
            except FileNotFoundError:
                pass
            self._close()
            _log.warning("index-gone", path=self._path, consequence="built anew from the files")
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if not _worthless(error):
                raise
            self._discard(error)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if not os.path.exists(self._path):
            self._make_file()
        inode = os.stat(self._path).st_ino
        patience = _BUSY_MS / 1000 if self._patient else 0
        db = sqlite3.connect(self._path, timeout=patience, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(f"PRAGMA soft_heap_limit={_SQLITE_MEMORY}")
            db.execute(f"PRAGMA cache_size=-{_HANDLE_KB}")
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._db, self._inode = db, inode
        return db

    def _make_file(self) -> None:
        """An empty file, without the log of a removed one beside it: SQLite would replay that into the new one."""
        with open(self._path + ".lock", "ab", opener=lambda p, f: os.open(p, f, 0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(self._path):
                return
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path + suffix)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _prepare(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in filter(str.strip, TABLES.split(";")):
                    db.execute(statement)
                db.execute("CREATE TABLE epoch (value TEXT)")
                db.execute("INSERT INTO epoch VALUES (?)", (secrets.token_hex(8),))
                db.execute(f"PRAGMA user_version={VERSION}")
            db.execute("COMMIT")
        elif version != VERSION:
            raise _OtherVersion(f"index of version {version}, this program writes {VERSION}")
        self.epoch = db.execute("SELECT value FROM epoch").fetchone()[0]

    def _discard(self, cause: Exception) -> None:
        self._close()
        _log.warning("index-rebuilt", path=self._path, cause=str(cause))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):  # nothing of worth is in it that the files do not have
                db.close()

    def close(self) -> None:
        """Close the handle; the next call opens it again."""
        with LANE:
            self._close()

    @contextlib.contextmanager
    def _use(self) -> Iterator[sqlite3.Connection | None]:
        """The handle, under the lane; any SQLite error ends the block quietly and leaves the index to be rebuilt."""
        with LANE:
            try:
                db = self._open()
            except (sqlite3.Error, OSError) as error:
                self._complain(error)
                yield None
                return
            try:
                yield db
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                if _worthless(error) and self._is_ours():
                    self._discard(error)
                else:
                    self._complain(error)
                    self._close()
            else:
                if not self._patient:
                    self._patient = True
                    db.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
                    _log.info("index-usable", path=self._path)

    def _is_ours(self) -> bool:
        """Whether the file at our path is the one that we have open."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self._path).st_ino == self._inode
        return False

    def _complain(self, error: Exception) -> None:
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            self._patient = False  # the lane is held while we wait, and all accounts with us
        if time.monotonic() - self._complained >= _QUIET_SECONDS:
            self._complained = time.monotonic()
            _log.warning("index-unusable", path=self._path, cause=str(error), consequence="served from the files")

    # -- reading

    def load(self, directory: str) -> Changes | None:
        """Everything about a folder, None when the index does not know it."""
        return self.changes(directory, -1)

    def changes(self, directory: str, rev: int) -> Changes | None:
        """What was written after revision ``rev``, None when the index does not know the folder."""
        with self._use() as db:
            if db is None:
                return None
            db.execute("BEGIN")
            found = self._folder(db, directory)
            if found is None:
                db.execute("COMMIT")
                return None
            key, row = found
            if row.rev == rev:
                db.execute("COMMIT")
                return Changes(row, [], [])
            query = f"SELECT {_COLUMNS} FROM message WHERE folder=? AND rev>? ORDER BY uid"  # noqa: S608 - constant
            messages = [_message(r) for r in db.execute(query, (key, rev))]
            expunged = [u for (u,) in db.execute("SELECT uid FROM expunged WHERE folder=? AND rev>?", (key, rev))]
            present = None
            if 0 <= rev < db.execute("SELECT floor FROM folder WHERE id=?", (key,)).fetchone()[0]:
                present = frozenset(u for (u,) in db.execute("SELECT uid FROM message WHERE folder=?", (key,)))
            db.execute("COMMIT")
            return Changes(row, messages, expunged, present)
        return None

    def _folder(self, db: sqlite3.Connection, directory: str) -> tuple[int, FolderRow] | None:
        row = db.execute(
            "SELECT id, uidvalidity, uidnext, highestmodseq, first_recent, rev, keywords, print, scanned"
            " FROM folder WHERE directory=?",
            (os.fsencode(directory),),
        ).fetchone()
        if row is None:
            return None
        return row[0], FolderRow(row[1], row[2], row[3], row[4], row[5], tuple(json.loads(row[6])), row[7], row[8])

    def expunged_since(self, directory: str, modseq: int) -> list[int] | None:
        """UIDs expunged with a higher MODSEQ, None when the index is too young to know."""
        with self._use() as db:
            if db is None:
                return None
            found = db.execute("SELECT id, born FROM folder WHERE directory=?", (os.fsencode(directory),)).fetchone()
            if found is None or modseq < found[1]:
                return None
            query = "SELECT uid FROM expunged WHERE folder=? AND modseq>? ORDER BY uid"
            return [u for (u,) in db.execute(query, (found[0], modseq))]
        return None

    # -- writing

    def save(
        self,
        directory: str,
        row: FolderRow,
        changed: Sequence[Message] = (),
        expunged: Iterable[tuple[int, int]] = (),
        *,
        every: Sequence[Message],
        epoch: str,
    ) -> bool:
        """One transaction: the folder's row, changed or new messages, expunged (uid, modseq).

        Unless the file is the one of ``epoch``, which knows all others, ``every`` message is written, and nothing else
        stays; so it is where the file does not know the folder. False when it could not be written: then the files
        stand alone, and the index must be given every message next time (``epoch`` empty).
        """
        with self._use() as db:
            if db is None:
                return False
            db.execute("BEGIN IMMEDIATE")
            key, new = self._put_folder(db, directory, row)
            if new or epoch != self.epoch:
                db.execute("UPDATE folder SET born=?, floor=? WHERE id=?", (row.highestmodseq, row.rev, key))
                db.execute("DELETE FROM message WHERE folder=?", (key,))
                db.execute("DELETE FROM fact WHERE folder=?", (key,))
                changed = every
            if changed:
                _put_messages(db, key, row.rev, changed)
            gone = [(key, uid, row.rev, modseq) for uid, modseq in expunged]
            if gone:
                db.executemany("DELETE FROM message WHERE folder=? AND uid=?", [g[:2] for g in gone])
                db.executemany("DELETE FROM fact WHERE folder=? AND uid=?", [g[:2] for g in gone])
                db.executemany("INSERT OR REPLACE INTO expunged VALUES (?,?,?,?)", gone)
            if row.rev % _REVS_UNTIL_PRUNED == 0:
                _prune(db, key)
            db.execute("COMMIT")
            return True
        return False

    def _put_folder(self, db: sqlite3.Connection, directory: str, row: FolderRow) -> tuple[int, bool]:
        """Its key, and whether it is new."""
        values = (
            row.uidvalidity,
            row.uidnext,
            row.highestmodseq,
            row.first_recent,
            row.rev,
            json.dumps(row.keywords),
            row.fingerprint,
            row.scanned,
        )
        found = db.execute(
            "UPDATE folder SET uidvalidity=?, uidnext=?, highestmodseq=?, first_recent=?, rev=?, keywords=?, print=?,"
            " scanned=? WHERE directory=? RETURNING id",
            (*values, os.fsencode(directory)),
        ).fetchall()
        if found:
            return int(found[0][0]), False
        cursor = db.execute(
            "INSERT INTO folder (uidvalidity, uidnext, highestmodseq, first_recent, rev, keywords, print, scanned,"
            " directory, born, floor) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (*values, os.fsencode(directory), row.highestmodseq, row.rev),
        )
        return int(cursor.lastrowid or 0), True

    def forget(self, directory: str) -> None:
        """The folder is gone."""
        with self._use() as db:
            if db is not None and (found := self._folder(db, directory)):
                db.execute("BEGIN IMMEDIATE")
                for table in ("message", "expunged", "fact"):
                    db.execute(f"DELETE FROM {table} WHERE folder=?", (found[0],))  # noqa: S608 - constants
                db.execute("DELETE FROM folder WHERE id=?", (found[0],))
                db.execute("COMMIT")

    def rename(self, old: str, new: str) -> None:
        """The folder's directory has another name."""
        with self._use() as db:
            if db is not None:
                db.execute("UPDATE folder SET directory=? WHERE directory=?", (os.fsencode(new), os.fsencode(old)))

    # -- facts made from a message's octets

    def facts(self, directory: str, kind: str, uids: Sequence[int]) -> dict[int, bytes]:
        """Stored values of one kind for these UIDs, as far as they are known."""
        with self._use() as db:
            if db is None or (found := self._folder(db, directory)) is None:
                return {}
            key = found[0]
            if len(uids) > 50:
                query = "SELECT uid, value FROM fact WHERE folder=? AND kind=? AND uid BETWEEN ? AND ?"
                return dict(db.execute(query, (key, kind, min(uids), max(uids))))
            marks = ",".join("?" * len(uids))
            query = f"SELECT uid, value FROM fact WHERE folder=? AND kind=? AND uid IN ({marks})"  # noqa: S608 - marks
            return dict(db.execute(query, (key, kind, *uids)))
        return {}

    def put_facts(self, directory: str, kind: str, values: dict[int, bytes]) -> None:
        """Keep values of one kind."""
        with self._use() as db:
            if db is None or (found := self._folder(db, directory)) is None:
                return
            rows = [(found[0], uid, kind, value) for uid, value in values.items()]
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT OR REPLACE INTO fact VALUES (?,?,?,?)", rows)
            db.execute("COMMIT")


def _prune(db: sqlite3.Connection, key: int) -> None:
    """Forget the oldest expunged UIDs of a folder, and remember from where on the rest is whole."""
    query = "SELECT rev FROM expunged WHERE folder=? ORDER BY rev DESC LIMIT 1 OFFSET ?"
    found = db.execute(query, (key, _KEPT_EXPUNGED)).fetchone()
    if found is None:
        return
    forgotten = "(SELECT MAX(modseq) FROM expunged WHERE folder=? AND rev<=?)"
    db.execute(
        f"UPDATE folder SET floor=MAX(floor, ?), born=MAX(born, {forgotten}) WHERE id=?",  # noqa: S608 - constant
        (*found, key, *found, key),
    )
    db.execute("DELETE FROM expunged WHERE folder=? AND rev<=?", (key, *found))


def _put_messages(db: sqlite3.Connection, key: int, rev: int, messages: Sequence[Message]) -> None:
    rows = [
        (
            key,
            m.uid,
            rev,
            m.modseq,
            os.fsencode(m.file),
            m.flags,
            " ".join(sorted(m.keywords)),
            m.internaldate,
            m.size,
            m.vsize,
            m.savedate,
        )
        for m in messages
    ]
    db.executemany("INSERT OR REPLACE INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows)
