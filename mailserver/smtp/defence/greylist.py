"""Greylisting. RFC 6647: who is not known is asked to come again; mail servers do, most senders of junk do not.

What counts is the network, the sender and the recipient together. Once one of them has come again in time, its network
is known, and all its mail passes. The table is a cache: lost, or not to be written, it costs time and no mail.
"""

from __future__ import annotations

import hashlib
import ipaddress
import sqlite3
import threading
import time
from collections.abc import Callable

from mailserver.ops import log as logging

MAX_ROWS = 500_000  # the oldest go first
TRY_SECONDS = 86400.0  # RFC 6647 section 5: who has not come again within a day begins anew
KEEP_SECONDS = 36 * 86400.0  # a monthly letter is not delayed each time
_CLEAN_EVERY = 1000  # questions

_SCHEMA = """
create table if not exists seen (key blob primary key, first real not null, last real not null, known integer not null)
without rowid;
create index if not exists seen_last on seen (last);
"""
_log = logging.get("smtp")


class Greylist:
    """The table at ``path``. ``delay`` in seconds. Several processes may share it."""

    def __init__(self, path: str, delay: float, clock: Callable[[], float] = time.time) -> None:
        """Raises `sqlite3.Error`."""
        self._delay = delay
        self._clock = clock
        self._lock = threading.Lock()
        self._asked = 0
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = off")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the table."""
        with self._lock:
            self._db.close()

    def wait(self, address: str, sender: str, recipient: str) -> float:
        """Return the seconds after which the client may come again; 0 when the mail may pass now."""
        net = network(address)
        try:
            with self._lock:
                self._asked += 1
                if self._asked % _CLEAN_EVERY == 1:
                    self._clean()
                return self._wait(_key(net), _key(net, sender.lower(), recipient.lower()))
        except sqlite3.Error as error:
            _log.warning("greylist-failed", reason=str(error))
            return 0.0

    def _wait(self, net: bytes, triple: bytes) -> float:
        now = self._clock()
        known = self._db.execute("select last from seen where key = ? and known = 1", (net,)).fetchone()
        if known is not None and now - known[0] < KEEP_SECONDS:
            self._db.execute("update seen set last = ? where key = ?", (now, net))
            return 0.0
        row = self._db.execute("select first, last from seen where key = ?", (triple,)).fetchone()
        if row is None or now - row[1] > TRY_SECONDS:
            self._db.execute("insert or replace into seen values (?, ?, ?, 0)", (triple, now, now))
            return self._delay
        if now - row[0] < self._delay:
            return max(1.0, self._delay - (now - float(row[0])))
        self._db.execute("insert or replace into seen values (?, ?, ?, 1)", (net, now, now))
        self._db.execute("delete from seen where key = ?", (triple,))
        return 0.0

    def _clean(self) -> None:
        now = self._clock()
        self._db.execute("delete from seen where last < ? and known = 0", (now - TRY_SECONDS,))
        self._db.execute("delete from seen where last < ?", (now - KEEP_SECONDS,))
        extra = self._db.execute("select count(*) from seen").fetchone()[0] - MAX_ROWS
        if extra > 0:
            self._db.execute("delete from seen where key in (select key from seen order by last limit ?)", (extra,))


def network(address: str) -> str:
    """Return the network of an address: /24 or /64, for big senders come from several machines."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{found}/{24 if found.version == 4 else 64}", strict=False))


def _key(*words: str) -> bytes:
    return hashlib.blake2b("\0".join(words).encode("utf-8", "surrogateescape"), digest_size=16).digest()
