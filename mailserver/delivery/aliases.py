"""The file of aliases: other names for users, lists, and where mail for unknown names of a domain goes.

A line is ``name: target, target``; a line that begins with space goes on with the one before; ``#`` begins a comment.
``name`` is a local part (in all domains), an address, or ``@domain`` for whatever else comes to a domain. A target is a
user or an address, here or elsewhere. Programs and files (``|command``, ``/path``) are not known, on purpose.

The file is read again when it changes. Names are compared without regard to case.
"""

from __future__ import annotations

import os
import threading

from mailserver.ops import log as logging

_log = logging.get("delivery")


class Aliases:
    """The aliases of a file; none for "". May be used by several threads."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] = ()
        self._table: dict[str, tuple[str, ...]] = {}

    def lookup(self, name: str) -> tuple[str, ...]:
        """Return the targets of ``name``, () for what is no alias. Raises `OSError` when the file cannot be read."""
        if not self._path:
            return ()
        found = os.stat(self._path)
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp != self._stamp:
            with self._lock, open(self._path, encoding="utf-8", errors="surrogateescape") as file:
                self._table = parse(file.read())
                self._stamp = stamp
        return self._table.get(name.lower(), ())


def parse(text: str) -> dict[str, tuple[str, ...]]:
    """Read the text of a file; lines that cannot be understood are logged and left out."""
    table: dict[str, tuple[str, ...]] = {}
    for line in _logical_lines(text):
        name, colon, targets = line.partition(":")
        name = name.strip().strip('"').lower()
        words = tuple(word.strip().strip('"') for word in targets.split(",") if word.strip())
        unusable = [word for word in words if word[0] in "|/:"]
        if not colon or not name or not words or unusable:
            _log.warning("bad-alias", line=line[:100])
            continue
        table[name] = (*table.get(name, ()), *words)
    return table


def _logical_lines(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.splitlines():
        line = line.partition("#")[0].rstrip()
        if not line:
            continue
        if line[0] in " \t" and lines:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line.strip())
    return lines
