"""``queue list|show|retry|hold|release|delete``: mail that waits for delivery. Works while the server runs."""

from __future__ import annotations

import argparse
import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from mailserver.delivery.queue.spool import Queued, Spool
from mailserver.ops.cli.common import add_config, add_json, say, say_json, settings_of
from mailserver.ops.cli.failure import Failure, explain

HELP = "list, show, retry, hold, release and delete mail that waits"
_SHOWN = 1 << 20  # octets of a message that are shown

_ACTIONS: dict[str, tuple[str, str, Callable[[Spool, str], bool]]] = {
    "retry": ("try messages again now", "will be tried now", Spool.retry),
    "hold": ("keep messages back", "held", lambda spool, name: spool.hold(name, True)),
    "release": ("let held messages go", "released", lambda spool, name: spool.hold(name, False)),
    "delete": ("throw messages away; their senders are not told", "deleted", Spool.delete),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|retry|hold|release|delete")
    rows = {"list": "list messages and who waits for them", "show": "show a message"}
    for name, text in (rows | {name: text for name, (text, _, _) in _ACTIONS.items()}).items():
        action = actions.add_parser(name, help=text, description=text)
        add_config(action)
        add_json(action)
        if name == "show":
            action.add_argument("id")
        elif name != "list":
            action.add_argument("id", nargs="*")
            action.add_argument("--all", action="store_true", help="all messages of the queue")


def run(arguments: argparse.Namespace) -> int:
    """Do it. Raises `Failure`."""
    settings = settings_of(arguments)
    path = settings.queue.path
    if not os.path.exists(f"{path}/queue.sqlite"):
        raise Failure(os.EX_NOINPUT, f"{path}: there is no queue")
    try:
        spool = Spool(path)
    except (OSError, sqlite3.Error) as error:
        raise (
            explain(error, path) if isinstance(error, OSError) else Failure(os.EX_IOERR, f"{path}: {error}")
        ) from error
    try:
        if arguments.action == "list":
            return _list(spool, arguments)
        if arguments.action == "show":
            return _show(spool, arguments)
        return _act(spool, arguments)
    finally:
        spool.close()


def _row(message: Queued) -> dict[str, Any]:
    return {
        "id": message.envelope.id,
        "sender": message.envelope.sender,
        "size": message.size,
        "created": message.created,
        "held": message.held,
        "priority": message.envelope.priority,
        "release": message.envelope.release,
        "deadline": message.envelope.by,
        "recipients": [
            {
                "address": waiting.recipient.address,
                "attempts": waiting.attempts,
                "due": waiting.due,
                "last": str(waiting.last) if waiting.last is not None else "",
            }
            for waiting in message.waiting
        ],
    }


def _list(spool: Spool, arguments: argparse.Namespace) -> int:
    rows = [_row(message) for message in spool.all()]
    if arguments.json:
        say_json(rows)
        return os.EX_OK
    for row in rows:
        mark = " held" if row["held"] else ""
        mark += f" priority {row['priority']}" if row["priority"] else ""
        mark += f" not before {_stamp(row['release'])}" if row["release"] else ""
        mark += f" until {_stamp(row['deadline'])}" if row["deadline"] else ""
        say(f"{row['id']}  {_stamp(row['created'])}  {row['size']} octets  <{_clean(row['sender'])}>{mark}")
        for recipient in row["recipients"]:
            last = f": {_clean(recipient['last'])}" if recipient["last"] else ""
            say(
                f"    {_clean(recipient['address'])}  attempts {recipient['attempts']},"
                f" next {_stamp(recipient['due'])}{last}"
            )
    say(f"{len(rows)} messages")
    return os.EX_OK


def _show(spool: Spool, arguments: argparse.Namespace) -> int:
    message = spool.get(arguments.id)
    if message is None:
        raise Failure(os.EX_DATAERR, f"{arguments.id}: no such message")
    with open(spool.file(arguments.id), "rb") as file:
        text = file.read(_SHOWN).decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    if arguments.json:
        say_json(_row(message) | {"message": text})
    else:
        say("".join(c if c.isprintable() or c in "\n\t" else "?" for c in text))
    return os.EX_OK


def _act(spool: Spool, arguments: argparse.Namespace) -> int:
    _, done, act = _ACTIONS[arguments.action]
    names = [message.envelope.id for message in spool.all()] if arguments.all else arguments.id
    if not names and not arguments.all:
        raise Failure(os.EX_USAGE, "which messages? name them, or say --all")
    missing = [name for name in names if not act(spool, name)]
    if missing:
        raise Failure(os.EX_DATAERR, f"{', '.join(missing)}: no such message")
    if arguments.json:
        say_json({"done": done, "messages": names})
    else:
        say(f"{len(names)} messages {done}")
    return os.EX_OK


def _stamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
