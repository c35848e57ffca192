"""``mailbox convert USER NAME maildir|mbox``: a mailbox gets the other format. Works while the server runs."""

from __future__ import annotations

import argparse
import os

from mailserver.ops.cli.common import add_config, add_json, complain, say, say_json
from mailserver.ops.cli.failure import Failure
from mailserver.ops.cli.mail import store_of
from mailserver.ops.cli.progress import Meter
from mailserver.store import conversion

HELP = "change the format of a mailbox"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="convert")
    text = "give a mailbox the other format; UIDs, UIDVALIDITY, flags, keywords and dates stay"
    action = actions.add_parser("convert", help=text, description=text)
    action.add_argument("user")
    action.add_argument("name", help="of the mailbox, e.g. INBOX or Work/2024")
    action.add_argument("format", choices=("maildir", "mbox"))
    action.add_argument("--lose-unique-ids", action="store_true", help="even if POP3 clients download all mail again")
    add_config(action)
    add_json(action)


def run(arguments: argparse.Namespace) -> int:
    """Do it. Raises `Failure`."""
    meter = Meter(quiet=arguments.json)
    with store_of(arguments) as (store, user):
        if not store.has_account(user):
            raise Failure(os.EX_NOUSER, f"{user}: there is no mail of this user")
        account = store.account(user)
        mailbox = account.mailbox(arguments.name)
        lost = conversion.lost(mailbox, arguments.format)
        if any(lost) and mailbox.files.format != arguments.format and not arguments.lose_unique_ids:
            text = "POP3 clients know its messages by ids, or in an order, for which an mbox has no place"
            raise Failure(os.EX_DATAERR, f"{arguments.name}: {text}; see --lose-unique-ids")
        try:
            done = account.convert(
                arguments.name, arguments.format, lambda done, of: meter.update(arguments.name, done, of, 0)
            )
        finally:
            meter.end()
        messages = len(account.mailbox(arguments.name).rescan().messages)
    if arguments.json:
        say_json(
            {"user": user, "name": arguments.name, "format": arguments.format, "converted": done, "messages": messages}
        )
    elif done:
        say(f"{arguments.name}: {messages} messages, {arguments.format} now")
    else:
        complain(f"{arguments.name}: it has this format already")
    return os.EX_OK
