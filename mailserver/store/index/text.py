"""The text index of one account: which messages may hold a string. A second SQLite file, as disposable as the first.

FTS5 with trigrams, contentless: for a needle of three characters or more it names candidates, which are then verified
on the text itself, so that the answer is exactly that of scanning. Apart from the main index, for filling it takes long
and must hold up nobody: it has its own handle, its own lock, and is never used under the lane.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mailserver.ops import log as logging

_log = logging.get("store")
T = TypeVar("T")
VERSION = 1
_SCHEMA = (
    "CREATE TABLE doc (id INTEGER PRIMARY KEY AUTOINCREMENT, folder TEXT NOT NULL, uid INTEGER NOT NULL,"
    " partial INTEGER NOT NULL, UNIQUE (folder, uid))",
    # before SQLite 3.43 a contentless table cannot delete: rows without a doc are passed over
    "CREATE VIRTUAL TABLE words USING fts5(text, content='', detail='none', columnsize=0,"
    " tokenize='trigram case_sensitive 1')",
    f"PRAGMA user_version={VERSION}",
)
MAX_TEXT = 1 << 20  # characters indexed of one message; a longer one is always a candidate
_MAX_TRIGRAMS = 24  # of a needle: more would not sift better
_ORPHANS = 5000  # dead rows, beyond those that live, after which the file is made anew


class TextIndex:
    """``path`` is the database file. Without FTS5 in SQLite nothing is indexed, and everything is a candidate."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._broken = False

    def in_use(self) -> bool:
        """Whether somebody has searched: then it is worth filling."""
        return self._db is not None or os.path.exists(self._path)

    def missing(self, folder: str, uids: Sequence[int]) -> list[int]:
        """Those of the messages that are not indexed yet."""

        def read(db: sqlite3.Connection) -> list[int]:
            known = {u for (u,) in db.execute("SELECT uid FROM doc WHERE folder=?", (folder,))}
            return [u for u in uids if u not in known]

        return self._use(read, list(uids))

    def add(self, folder: str, texts: Mapping[int, str]) -> None:
        """Index messages: UID -> folded text."""

        def write(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            rows = []
            for uid, text in texts.items():
                row = (folder, uid, int(len(text) > MAX_TEXT))
                cursor = db.execute("INSERT OR IGNORE INTO doc (folder, uid, partial) VALUES (?,?,?)", row)
                if cursor.rowcount:
                    # the tokenizer stops at a NUL; no trigram that is asked for has one
                    safe = text[:MAX_TEXT].replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
                    rows.append((cursor.lastrowid, safe))
            # all together: after a statement on another table FTS5 writes out what it has gathered
            db.executemany("INSERT INTO words (rowid, text) VALUES (?,?)", rows)
            db.execute("COMMIT")

        self._use(write, None)

    def candidates(self, folder: str, needle: str) -> frozenset[int] | None:
        """UIDs that may hold the folded needle; None: any may."""
        grams = trigrams(needle)
        if not grams:
            return None
        query = " AND ".join('"' + gram.replace('"', '""') + '"' for gram in grams)

        def read(db: sqlite3.Connection) -> frozenset[int] | None:
            matching = "SELECT rowid FROM words WHERE words MATCH ?"
            found = f"SELECT uid FROM doc WHERE folder=? AND (partial OR id IN ({matching}))"  # noqa: S608 - constant
            return frozenset(u for (u,) in db.execute(found, (folder, query)))

        return self._use(read, None)

    def forget(self, folder: str, uids: Sequence[int] | None = None) -> None:
        """These messages, or the whole folder, are gone."""

        def write(db: sqlite3.Connection) -> None:
            if uids is None:
                db.execute("DELETE FROM doc WHERE folder=?", (folder,))
            else:
                db.executemany("DELETE FROM doc WHERE folder=? AND uid=?", [(folder, uid) for uid in uids])
            alive = db.execute("SELECT COUNT(*) FROM doc").fetchone()[0]
            ever = db.execute("SELECT COALESCE(MAX(id), 0) FROM doc").fetchone()[0]
            if ever > 2 * alive + _ORPHANS:
                self._start_anew()

        if os.path.exists(self._path):
            self._use(write, None)

    # -- the file

    def _use(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Run it; whatever is wrong with the file is no error, only a loss of time."""
        with self._lock:
            if self._broken:
                return otherwise
            try:
                if self._db is None or not os.path.exists(self._path):
                    self._close()
                    self._db = self._open()
                return action(self._db)
            except sqlite3.OperationalError as error:
                self._rollback()
                if "no such module" in str(error) or "no such tokenizer" in str(error):
                    self._broken = True
                    _log.warning("text-index-impossible", cause=str(error), consequence="searches read the messages")
                return otherwise
            except sqlite3.Error as error:
                _log.warning("text-index-rebuilt", path=self._path, cause=str(error))
                self._start_anew()
                return otherwise

    def _open(self) -> sqlite3.Connection:
        if not os.path.exists(self._path):
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path + suffix)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self._path, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")  # after a power failure it is made anew if it has to be
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                db.execute("BEGIN IMMEDIATE")
                if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in _SCHEMA:
                        db.execute(statement)
                db.execute("COMMIT")
            elif version != VERSION:
                raise sqlite3.DatabaseError(f"text index of version {version}")
        except BaseException:
            db.close()
            raise
        return db

    def _rollback(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _start_anew(self) -> None:
        self._close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def close(self) -> None:
        """Close the handle; the next call opens it again."""
        with self._lock:
            self._close()


def trigrams(needle: str) -> list[str]:
    """The trigrams that a text with this needle must have; none for a short needle."""
    found = dict.fromkeys(needle[i : i + 3] for i in range(len(needle) - 2))
    return [gram for gram in found if "\0" not in gram and gram.isprintable()][:_MAX_TRIGRAMS]
