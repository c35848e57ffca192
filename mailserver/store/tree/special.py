"""Special-use attributes (RFC 6154): which mailbox is for what.

Kept in ``mailserver-special-use``, a line ``\\Sent<TAB>name in modified UTF-7`` each. Without the file the usual names
count, so that a Maildir made by others shows its folders rightly.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from mailserver.mail import mutf7
from mailserver.store.books import read_book
from mailserver.store.formats.maildir.syncing import sync_path

NAME = "mailserver-special-use"
_LARGEST = 1 << 20  # octets
USES = ("\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash")
DEFAULTS: Mapping[str, str] = {  # made in a new account, in this order
    "Drafts": "\\Drafts",
    "Sent": "\\Sent",
    "Junk": "\\Junk",
    "Trash": "\\Trash",
    "Archive": "\\Archive",
}


def read(path: str) -> dict[str, str]:
    """Mailbox name -> attribute."""
    try:
        lines = read_book(path, _LARGEST).decode("ascii", "replace").splitlines()
    except FileNotFoundError:
        return dict(DEFAULTS)
    found = {}
    for line in lines:
        use, _, stored = line.partition("\t")
        try:
            name = mutf7.decode(stored)
        except ValueError:
            continue  # a line that nobody can have meant
        if use in USES and name:
            found[name] = use
    return found


def write(path: str, uses: Mapping[str, str], *, sync: bool) -> None:
    """Replace the file by rename."""
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write("".join(f"{use}\t{mutf7.encode(name)}\n" for name, use in uses.items()))
        f.flush()
        if sync:
            os.fsync(f.fileno())
    os.rename(temporary, path)
    if sync:
        sync_path(os.path.dirname(path))
