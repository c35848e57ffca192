"""``subscriptions``: which mailboxes a user wants to see, as Dovecot keeps it.

Version 2: ``V<TAB>2``, an empty line, then a mailbox a line with TAB between the levels, in modified UTF-7. Version 1
has a name a line, with the separator of the layout, ``.`` or ``/``; it is read, and version 2 is written.
"""

from __future__ import annotations

import os

from mailserver.mail import mutf7
from mailserver.store.books import read_book
from mailserver.store.formats.maildir.syncing import sync_path
from mailserver.store.tree import names

NAME = "subscriptions"
_LARGEST = 1 << 24  # octets
_HEADER = "V\t2\n\n"
_ESCAPES = (("\x01", "\x011"), ("\t", "\x01t"), ("\n", "\x01n"), ("\r", "\x01r"))


def read(path: str, separator: str = ".") -> list[str]:
    """The names in the order of the file, each once. ``separator``: of version 1."""
    try:
        text = read_book(path, _LARGEST).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    lines = text.split("\n")
    if lines[0] == "V\t2":
        found = [names.SEPARATOR.join(_level(part) for part in line.split("\t")) for line in lines[1:] if line]
    else:
        found = [names.SEPARATOR.join(_level(part) for part in line.split(separator)) for line in lines if line]
    return list(dict.fromkeys(names.canonical(name) for name in found))


def _level(stored: str) -> str:
    for plain, escaped in reversed(_ESCAPES):
        stored = stored.replace(escaped, plain)
    try:
        return mutf7.decode(stored)
    except ValueError:
        return stored


def write(path: str, subscribed: list[str], *, sync: bool) -> None:
    """Replace the file by rename."""
    lines = []
    for name in subscribed:
        levels = [mutf7.encode(level) for level in name.split(names.SEPARATOR)]
        for plain, escaped in _ESCAPES:
            levels = [level.replace(plain, escaped) for level in levels]
        lines.append("\t".join(levels) + "\n")
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape", opener=_private) as f:
        f.write(_HEADER + "".join(lines))
        f.flush()
        if sync:
            os.fsync(f.fileno())
    os.rename(temporary, path)
    if sync:
        sync_path(os.path.dirname(path))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
