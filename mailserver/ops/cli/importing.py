"""``import USER --from-...``: mail of another server, or in files. Works while the server runs; may be done again."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import os
import sys
from collections.abc import Callable
from dataclasses import asdict

from mailserver.ops.cli.common import add_config, add_json, complain, say, say_json
from mailserver.ops.cli.failure import Failure, explain
from mailserver.ops.cli.mail import store_of
from mailserver.ops.cli.progress import Meter
from mailserver.store.store import Store
from mailserver.store.tree import names
from mailserver.transfer.engine import Import, Progress, Result
from mailserver.transfer.model import Origin, SourceError
from mailserver.transfer.naming import Mapping
from mailserver.transfer.plan import Planned, plan
from mailserver.transfer.record import Record
from mailserver.transfer.sources import url
from mailserver.transfer.sources.eml import EmlOrigin
from mailserver.transfer.sources.imap import ImapOrigin
from mailserver.transfer.sources.maildir import MaildirOrigin
from mailserver.transfer.sources.mbox import MboxOrigin
from mailserver.transfer.sources.pop3 import Pop3Origin

HELP = "bring mail here from another server, or from files"
_SERVERS: dict[str, Callable[[url.Server], Origin]] = {"imap": ImapOrigin, "pop3": Pop3Origin}
_FILES: dict[str, Callable[[str], Origin]] = {"mbox": MboxOrigin, "maildir": MaildirOrigin, "eml": EmlOrigin}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("user", help="whose mail it becomes")
    source = parser.add_mutually_exclusive_group(required=True)
    for name in _SERVERS:
        source.add_argument(f"--from-{name}", metavar="URL", help=f"{name}s://user@host[:port], or {name}://")
    source.add_argument("--from-mbox", metavar="PATH", help="an mbox, or a directory of them (Thunderbird's, too)")
    source.add_argument("--from-maildir", metavar="PATH", help="a Maildir with its folders: Dovecot's, Courier's, any")
    source.add_argument("--from-eml", metavar="PATH", help="a file with a message, or a directory of *.eml")
    add_folders(parser)
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="connections at a time (1 to 32; default 4)")
    add_mirror(parser)
    parser.add_argument("--again", action="store_true", help="look at all messages, also at those imported before")
    password = parser.add_mutually_exclusive_group()
    password.add_argument("--password-file", metavar="FILE", help="its first line is the password there")
    password.add_argument("--password-stdin", action="store_true", help="read it from standard input; else it is asked")
    parser.add_argument("--no-verify", action="store_true", help="believe any certificate")
    parser.add_argument(
        "--allow-cleartext", action="store_true", help="send the password without TLS, if there is none"
    )
    add_config(parser)
    add_json(parser)


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add ``--map`` and ``--skip``."""
    parser.add_argument("--map", metavar="OLD=NEW", action="append", default=[], help="a folder gets another name")
    parser.add_argument("--skip", metavar="NAME", action="append", default=[], help="leave a folder out")


def add_mirror(parser: argparse.ArgumentParser) -> None:
    """Add ``--mirror`` and ``--dry-run``."""
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="remove what came from there and is gone there, unless it was changed since",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")


def run(arguments: argparse.Namespace) -> int:
    """Do it. Raises `Failure`."""
    mapping = mapping_of(arguments)
    if not 1 <= arguments.jobs <= 32:
        raise Failure(os.EX_USAGE, "--jobs: 1 to 32")
    try:
        origin = _origin(arguments)
    except OSError as error:
        raise explain(error, error.filename or "the source") from error
    except SourceError as error:
        raise Failure(os.EX_UNAVAILABLE, str(error)) from error
    try:
        with store_of(arguments) as (store, user):
            return (
                _plan(store, user, origin, mapping, arguments)
                if arguments.dry_run
                else _import(store, user, origin, mapping, arguments)
            )
    except SourceError as error:
        raise Failure(
            os.EX_UNAVAILABLE, f"{error}; what was imported stays, and the import can be done again"
        ) from error
    finally:
        origin.close()


def mapping_of(arguments: argparse.Namespace) -> Mapping:
    """What ``--map`` and ``--skip`` say. Raises `Failure`."""
    rules = []
    for rule in arguments.map:
        old, equals, new = rule.partition("=")
        if not equals or not old or not new:
            raise Failure(os.EX_USAGE, f"--map {rule}: OLD=NEW is wanted")
        rules.append((names.canonical(old), names.canonical(new)))
    return Mapping(tuple(rules), tuple(names.canonical(name) for name in arguments.skip))


def _origin(arguments: argparse.Namespace) -> Origin:
    for name, make in _FILES.items():
        path = getattr(arguments, f"from_{name}")
        if path is not None:
            return make(path)
    name, place = next((n, u) for n in _SERVERS if (u := getattr(arguments, f"from_{n}")) is not None)
    server = url.parse(place, name)
    server = dataclasses.replace(server, verify=not arguments.no_verify, clear=arguments.allow_cleartext)
    return _SERVERS[name](dataclasses.replace(server, password=_password(arguments, server)))


def _password(arguments: argparse.Namespace, server: url.Server) -> str:
    if arguments.password_file is not None:
        with open(arguments.password_file, encoding="utf-8", errors="surrogateescape") as f:
            return f.readline().rstrip("\r\n")
    if arguments.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if server.password:
        return server.password
    try:
        return getpass.getpass(f"Password of {server.user} at {server.host}: ")
    except (EOFError, KeyboardInterrupt) as error:
        raise Failure(os.EX_NOINPUT, "no password given") from error


def _plan(store: Store, user: str, origin: Origin, mapping: Mapping, arguments: argparse.Namespace) -> int:
    planned = plan(origin, Record(store.tree_of(user).home, origin.identity, writing=False), mapping)
    if arguments.json:
        say_json({"user": user, "source": origin.identity, "dry_run": True, "folders": [asdict(p) for p in planned]})
        return os.EX_OK
    for p in planned:
        say(planned_line(p))
    return os.EX_OK


def planned_line(planned: Planned) -> str:
    """What would be done with one folder."""
    p = planned
    changed = f", {p.changed} have other flags" if p.changed else ""
    gone = f", {p.gone} are gone there" if p.gone else ""
    return f"{_clean(p.name)}: {p.messages} messages, {p.octets} octets to bring, {p.present} are here{changed}{gone}"


def _import(store: Store, user: str, origin: Origin, mapping: Mapping, arguments: argparse.Namespace) -> int:
    account = store.account(user)
    record = Record(account.root, origin.identity, writing=True)
    meter = Meter(quiet=arguments.json)

    def show(progress: Progress) -> None:
        meter.update(progress.folder, progress.done, progress.messages, progress.octets)

    job = Import(account, origin, record, mapping, arguments.jobs, show, again=arguments.again, mirror=arguments.mirror)
    try:
        results = job.run()
    finally:
        meter.end()
        record.close()
    if arguments.json:
        rows = [asdict(r) for r in results]
        said = {"user": user, "source": origin.identity, "dry_run": False, "folders": rows, "vanished": job.vanished}
        say_json(said)
    else:
        for name in job.vanished:
            say(f"{_clean(name)}: it is not there any more; what came from it stays here")
        for result in results:
            say(result_line(result, "imported", "here"))
    for result in results:
        if result.problem:
            complain(f"{_clean(result.source)}: {result.problem}")
    return os.EX_DATAERR if any(result.problem for result in results) else os.EX_OK


def result_line(result: Result, done: str, place: str) -> str:
    """What became of one folder; ``done`` and ``place``: the words for it."""
    further = {
        "gone meanwhile": result.missing,
        "not to be had": result.withheld,
        "with new flags": result.changed,
        "removed": result.removed,
        "gone there but changed here": result.kept,
    }
    more = "".join(f", {count} {what}" for what, count in further.items() if count)
    numbers = ", UIDs kept" if result.numbers else ""
    return f"{_clean(result.name)}: {result.imported} {done}, {result.present} {place} already{more}{numbers}"


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
