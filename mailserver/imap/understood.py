"""Commands that were understood before: clients say the same few lines again and again."""

from __future__ import annotations

from typing import Any, NamedTuple

from mailserver.imap.framer import Command
from mailserver.imap.state import LOGGED_IN
from mailserver.imap.table import CommandSpec

_LONGEST = 200  # octets of a line behind the tag
_MOST = 4096  # lines, of all sessions of a process
_known: dict[bytes, Understood] = {}


class Understood(NamedTuple):
    """What a command means, whoever says it. The arguments are never changed."""

    name: str
    spec: CommandSpec
    args: Any


def _key(command: Command, tag: str | None) -> bytes | None:
    if tag is None or command.literals:
        return None
    rest = command.line[len(tag) :]
    return rest if len(rest) <= _LONGEST else None


def recall(command: Command, tag: str | None) -> Understood | None:
    """What the command meant the last time, None when it was not heard lately."""
    key = _key(command, tag)
    return _known.get(key) if key is not None else None


def remember(command: Command, tag: str | None, understood: Understood) -> None:
    """For the next time; but nothing that only somebody says who has not logged in: that may be a password."""
    key = _key(command, tag)
    if key is None or not understood.spec.states & LOGGED_IN:
        return
    if len(_known) >= _MOST:
        _known.clear()
    _known[key] = understood
