"""``dovecot-keywords``: which keyword each letter ``a`` to ``z`` in file names stands for.

Lines ``<position> <keyword>``, position 0 for ``a``. A keyword keeps its letter for ever; compared without regard to
case, the first spelling stays.
"""

from __future__ import annotations

import os
import re

from mailserver.store.books import read_book
from mailserver.store.formats.maildir.filename import KEYWORD_LETTERS
from mailserver.store.formats.maildir.syncing import sync_file, sync_path

NAME = "dovecot-keywords"
_LARGEST = 1 << 20  # octets
_LINE = re.compile(rb"^(\d{1,4}) ([^\s]+)$", re.M)


def read(path: str) -> tuple[str, ...]:
    """The keywords in the order of their positions; a position without a line is an empty string."""
    try:
        data = read_book(path, _LARGEST)
    except FileNotFoundError:
        return ()
    found = {int(m[1]): m[2].decode("utf-8", "replace") for m in _LINE.finditer(data)}
    return tuple(found.get(i, "") for i in range(max(found, default=-1) + 1))


def write(path: str, keywords: tuple[str, ...], *, sync: bool) -> None:
    """Write those that have a letter; the file is replaced by rename."""
    temporary = path + ".tmp"
    lines = "".join(f"{i} {word}\n" for i, word in enumerate(keywords[: len(KEYWORD_LETTERS)]) if word)
    with open(temporary, "wb", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(lines.encode())
        f.flush()
        if sync:
            sync_file(f.fileno())
    os.rename(temporary, path)
    if sync:  # a letter in a file name is worth nothing without its line here
        sync_path(os.path.dirname(path))
