"""UIDVALIDITY values that are never given twice within an account.

Dovecot keeps the last one in ``dovecot-uidvalidity`` (eight hexadecimal digits) and in the name of an empty file
``dovecot-uidvalidity.<same digits>``; so do we, that either server goes on where the other stopped.
"""

from __future__ import annotations

import contextlib
import os
import re
import time

from mailserver.store.formats.maildir.syncing import sync_path

NAME = "dovecot-uidvalidity"
_FILE = re.compile(NAME + r"\.([0-9a-f]{8})\Z")


def fresh(root: str, *, sync: bool) -> int:
    """A UIDVALIDITY above all given before: the time, or the last one plus one. Under the account's lock.

    ``sync``: after a power loss too, whatever the clock says then: the name of the empty file is enough.
    """
    marks = [name for name in os.listdir(root) if _FILE.match(name)]
    last = max((int(name[-8:], 16) for name in marks), default=0)
    with contextlib.suppress(FileNotFoundError, ValueError), open(f"{root}/{NAME}", encoding="ascii") as f:
        last = max(last, int(f.read(8), 16))
    value = max(int(time.time()), last + 1)
    mark = f"{root}/{NAME}.{value:08x}"
    os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    temporary = f"{root}/{NAME}.tmp"
    with open(temporary, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(f"{value:08x}")
    os.rename(temporary, f"{root}/{NAME}")
    if sync:
        sync_path(root)
    for name in marks:
        if not mark.endswith(name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{root}/{name}")
    return value
