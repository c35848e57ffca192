"""Logging: one line per event, as logfmt or JSON, on standard error.

``log = get("imap")`` then ``log.info("login", conn=conn, user=name)``. Each line carries the time (UTC), the level and
the event, then ``conn`` (the connection's id) and ``rip`` (the remote address) before anything a client chose, so that
a filter that looks for the address cannot be misled by a user name. Control characters, quotes and overlong values are
escaped or cut; a line is one line.

Not done here: rotation, files, syslog. Standard error belongs to the supervisor (systemd, a container).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import traceback
from collections.abc import Callable
from typing import Protocol

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "none": 100}
MAX_VALUE = 1000  # characters of one value; a client must not fill the disk by one long name
MAX_TRACE = 8000  # characters of a traceback

Sink = Callable[[bytes], object]


class Peer(Protocol):
    """What a line says about a connection (`mailserver.net.connection.Connection` is one)."""

    @property
    def id(self) -> str:
        """Short name of the connection."""
        ...

    @property
    def peer(self) -> tuple[str, int]:
        """Remote address and port."""
        ...


def _to_stderr(line: bytes) -> None:
    try:
        os.write(2, line)
    except OSError:  # standard error is closed or full: the mail goes on
        pass


class _State:
    """What `configure` sets; one per process."""

    threshold: int = LEVELS["info"]
    as_json: bool = False
    sink: Sink = staticmethod(_to_stderr)


def configure(level: str = "info", form: str = "logfmt", sink: Sink | None = None) -> None:
    """Set the lowest ``level`` written, the ``form`` (``logfmt`` or ``json``) and where lines go (default: standard
    error).
    """
    _State.threshold = LEVELS[level]
    _State.as_json = form == "json"
    _State.sink = staticmethod(sink or _to_stderr)


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        value = value.decode("utf-8", "backslashreplace")
    text = str(value)
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "..."


_ESCAPES = {ord("\\"): "\\\\", ord('"'): '\\"', 10: "\\n", 13: "\\r", 9: "\\t"}
_ESCAPES |= {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if code not in _ESCAPES}
_ESCAPES |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0xD800, 0xE000))}
_PLAIN = re.compile(r"[\w\-.:/@+,;%*!?#$&~^|()\[\]{}<>']+")


def quote(value: object) -> str:
    """Write ``value`` as a logfmt value: bare if that is unambiguous, else quoted, control characters escaped."""
    text = _text(value)
    return text if _PLAIN.fullmatch(text) else '"' + text.translate(_ESCAPES) + '"'


def _stamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"


class Logger:
    """Writes lines of one part of the program; ``proto`` stands on each."""

    def __init__(self, proto: str) -> None:
        self.proto = proto

    def debug(self, event: str, conn: Peer | None = None, **fields: object) -> None:
        """Log what only someone hunting a fault wants to see."""
        if _State.threshold <= 10:
            self._write("debug", event, conn, fields)

    def info(self, event: str, conn: Peer | None = None, **fields: object) -> None:
        """Log what normally happens: logins, deliveries."""
        if _State.threshold <= 20:
            self._write("info", event, conn, fields)

    def warning(self, event: str, conn: Peer | None = None, **fields: object) -> None:
        """Log what somebody should look at: refused logins, limits reached."""
        if _State.threshold <= 30:
            self._write("warning", event, conn, fields)

    def error(self, event: str, conn: Peer | None = None, **fields: object) -> None:
        """Log a failure of the server or of its surroundings."""
        if _State.threshold <= 40:
            self._write("error", event, conn, fields)

    def exception(self, event: str, conn: Peer | None = None, **fields: object) -> str:
        """Log the exception being handled, its traceback in one line; return the id under which it can be found."""
        identity = secrets.token_hex(4)
        trace = traceback.format_exc()[-MAX_TRACE:]
        if _State.threshold <= 40:
            self._write("error", event, conn, {"id": identity, **fields}, trace)
        return identity

    def _write(self, level: str, event: str, conn: Peer | None, fields: dict[str, object], trace: str = "") -> None:
        values = {"time": _stamp(time.time()), "level": level, "event": event}
        if conn is not None:
            values |= {"conn": conn.id, "rip": _text(conn.peer[0])}
        values["proto"] = self.proto
        values |= {key: _text(value) for key, value in fields.items() if value is not None}
        if _State.as_json:
            line = json.dumps(values | ({"trace": trace} if trace else {}))
        else:
            line = " ".join(f"{key}={quote(value)}" for key, value in values.items())
            line += f' trace="{trace.translate(_ESCAPES)}"' if trace else ""
        _State.sink(line.encode("utf-8", "backslashreplace") + b"\n")


def get(proto: str) -> Logger:
    """Return the logger of a part of the program."""
    return Logger(proto)
