"""All that mail programs remember of an account: it must not change when the server does."""

from __future__ import annotations

import hashlib
import poplib
import re

from tests.interop.serving import PASSWORD
from tests.interop.wire import Wire, fetched

_STATUS = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"
_ATTRIBUTES = "UID FLAGS INTERNALDATE RFC822.SIZE"
State = dict[str, object]


def state(wire: Wire, *, octets: bool = False) -> State:
    """By IMAP: folders, subscriptions, and of each folder numbers, flags, keywords, dates and sizes; or ``octets``."""
    asked = f"{_ATTRIBUTES} BODY.PEEK[]" if octets else _ATTRIBUTES
    lines = wire('LIST "" "*"')
    found: State = {"folders": sorted(names(lines)), "subscribed": sorted(names(wire('LSUB "" "*"')))}
    for name in sorted(names([line for line in lines if b"\\Noselect" not in line])):
        quoted = f'"{name}"'
        (status,) = wire(f"STATUS {quoted} {_STATUS}")
        validity = re.search(rb"UIDVALIDITY (\d+)", b" ".join(wire(f"EXAMINE {quoted}")))
        messages = fetched(wire(f"FETCH 1:* ({asked})", fails=True))
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
    uid, size = re.search(rb"UID (\d+)", answer), re.search(rb"SIZE (\d+)", answer)
    date = re.search(rb'INTERNALDATE "([^"]*)"', answer)
    assert uid is not None
    assert date is not None
    assert size is not None
    body = re.search(rb"BODY\[\] \{(\d+)\}\r\n", answer)
    text = answer[body.end() : body.end() + int(body[1])] if body else b""
    return (
        *(int(uid[1]), frozenset(flags[1].split()) - {b"\\Recent"}, date[1].lstrip(b" 0"), int(size[1])),
        hashlib.sha256(text).hexdigest(),
    )


def drop(port: int, *, octets: bool = True) -> tuple[object, ...]:
    """By POP3: order, unique-ids, sizes, and, with ``octets``, the messages, which become seen by that."""
    client = poplib.POP3("127.0.0.1", port, timeout=30)
    client.user("user1")
    client.pass_(PASSWORD)
    count, _ = client.stat()
    tops = [client.top(n, 3)[1] for n in range(1, count + 1)]
    retrieved = [client.retr(n)[1] for n in range(1, count + 1)] if octets else []
    seen = (client.stat(), client.uidl()[1], client.list()[1], tops, retrieved)
    client.quit()
    return seen


def same(first: tuple[State, object], second: tuple[State, object]) -> None:
    """Assert that two servers told the same, by IMAP and by POP3."""
    told, other = first[0], second[0]
    for key in told.keys() | other.keys():
        assert told.get(key) == other.get(key), f"{key}: {told.get(key)} is not {other.get(key)}"
    assert first[1] == second[1], f"{first[1]} is not {second[1]}"
