"""``export USER DIRECTORY``: all mail of a user as a Maildir, as mbox files, or for Courier. Works while the server
runs."""

from __future__ import annotations

import argparse
import functools
import os
from dataclasses import asdict

from mailserver.ops.cli.common import add_config, add_json, complain, say, say_json, settings_of
from mailserver.ops.cli.failure import Failure
from mailserver.ops.cli.importing import add_folders, add_mirror, mapping_of, planned_line, result_line
from mailserver.ops.cli.mail import store_of
from mailserver.ops.cli.progress import Meter
from mailserver.pop3.uidl import unique_ids
from mailserver.store.account import Account
from mailserver.store.tree.layout import LAYOUTS
from mailserver.transfer.couriers import Lost
from mailserver.transfer.engine import Progress
from mailserver.transfer.export import FORMATS, export, home_of
from mailserver.transfer.model import SourceError
from mailserver.transfer.naming import Mapping
from mailserver.transfer.plan import plan
from mailserver.transfer.record import Record
from mailserver.transfer.sources.account import AccountOrigin, UniqueIds

HELP = "write a user's mail to a directory that Dovecot, Courier or others can serve"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("user", help="whose mail")
    parser.add_argument("directory", help="where to; done again, it gets what is new")
    parser.add_argument("--format", choices=FORMATS, default="maildir", help="maildir (the default) is Dovecot's")
    parser.add_argument("--layout", choices=tuple(LAYOUTS), default="maildir++", help="how folders lie there")
    add_folders(parser)
    add_mirror(parser)
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="threads that read (1 to 32; default 2)")
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it. Raises `Failure`."""
    mapping = mapping_of(arguments)
    if not 1 <= arguments.jobs <= 32:
        raise Failure(os.EX_USAGE, "--jobs: 1 to 32")
    if arguments.format == "courier" and arguments.layout != "maildir++":
        raise Failure(os.EX_USAGE, "--layout: Courier has maildir++ only")
    ids = functools.partial(unique_ids, settings_of(arguments).pop3.uidl_format)
    meter = Meter(quiet=arguments.json)

    def show(progress: Progress) -> None:
        meter.update(progress.folder, progress.done, progress.messages, progress.octets)

    try:
        with store_of(arguments, arguments.directory, "write") as (store, user):
            if not store.has_account(user):
                raise Failure(os.EX_NOUSER, f"{user}: there is no mail of this user")
            if arguments.dry_run:
                return _plan(store.account(user), user, arguments, mapping, ids)
            results, lost = export(
                store.account(user),
                arguments.directory,
                arguments.format,
                layout=arguments.layout,
                mapping=mapping,
                unique_ids=ids,
                jobs=arguments.jobs,
                mirror=arguments.mirror,
                show=show,
            )
    except SourceError as error:
        raise Failure(os.EX_CANTCREAT, str(error)) from error
    finally:
        meter.end()
    if arguments.json:
        say_json(
            {
                "user": user,
                "directory": arguments.directory,
                "dry_run": False,
                "folders": [asdict(r) for r in results],
                "lost": asdict(lost),
            }
        )
    else:
        for result in results:
            say(result_line(result, "exported", "there"))
    for text in [*_lost(lost), *(f"{result.source}: {result.problem}" for result in results if result.problem)]:
        complain(text)
    return os.EX_DATAERR if any(result.problem for result in results) else os.EX_OK


def _plan(account: Account, user: str, arguments: argparse.Namespace, mapping: Mapping, ids: UniqueIds) -> int:
    origin = AccountOrigin(account, ids)
    home = home_of(arguments.directory, arguments.format, arguments.layout)
    planned = plan(origin, Record(home, origin.identity, writing=False), mapping)
    if arguments.json:
        rows = [asdict(p) for p in planned]
        say_json({"user": user, "directory": arguments.directory, "dry_run": True, "folders": rows})
    else:
        for p in planned:
            say(planned_line(p))
    return os.EX_OK


def _lost(lost: Lost) -> list[str]:
    found = []
    if lost.unique_ids:
        found.append(f"{lost.unique_ids} messages of the INBOX will have another unique-id in Courier's POP3")
    if lost.order:
        found.append("Courier's POP3 will show the messages of the INBOX in another order")
    if lost.names:
        found.append(f"{lost.names} folders have names that Courier cannot have")
    return found
