"""All that mail programs remember of an account: it must not change when the server does."""

from __future__ import annotations

import poplib
import re

from tests.interop.serving import PASSWORD
from tests.interop.wire import Wire, fetched

_STATUS = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"


def state(wire: Wire) -> dict[str, object]:
    """By IMAP: folders, subscriptions, and of each folder numbers, flags, keywords, dates and sizes."""
    lines = wire('LIST "" "*"')
    found: dict[str, object] = {"folders": sorted(names(lines)), "subscribed": sorted(names(wire('LSUB "" "*"')))}
    for name in sorted(names([line for line in lines if b"\\Noselect" not in line])):
        quoted = f'"{name}"'
        (status,) = wire(f"STATUS {quoted} {_STATUS}")
        validity = re.search(rb"UIDVALIDITY (\d+)", b" ".join(wire(f"EXAMINE {quoted}")))
        messages = fetched(wire("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)", fails=True))
        found[name] = (
            sorted(re.findall(rb"[A-Z]+ \d+", status)),
            validity and validity[1],
            [_message(messages[n]) for n in sorted(messages)],
        )
    return found


def names(lines: list[bytes]) -> list[str]:
    """Of the mailboxes in LIST and LSUB responses."""
    found = [re.search(rb'"/" (?:"([^"]*)"|(\S+))\r\n', line) for line in lines]
    return [(m[1] or m[2]).decode() for m in found if m]


def _message(answer: bytes) -> tuple[object, ...]:
    flags = re.search(rb"FLAGS \(([^)]*)\)", answer)
    assert flags is not None
    uid, date, size = re.search(rb"UID (\d+)", answer), re.search(rb'"(.*)"', answer), re.search(rb"SIZE (\d+)", answer)
    assert uid is not None
    assert date is not None
    assert size is not None
    return int(uid[1]), frozenset(flags[1].split()) - {b"\\Recent"}, date[1].lstrip(b" 0"), int(size[1])


def drop(port: int) -> tuple[object, ...]:
    """By POP3: order, unique-ids, sizes, and the messages."""
    client = poplib.POP3("127.0.0.1", port, timeout=30)
    client.user("user1")
    client.pass_(PASSWORD)
    count, _ = client.stat()
    tops = [client.top(n, 3)[1] for n in range(1, count + 1)]
    retrieved = [client.retr(n)[1] for n in range(1, count + 1)]
    seen = (client.stat(), client.uidl()[1], client.list()[1], tops, retrieved)
    client.quit()
    return seen
