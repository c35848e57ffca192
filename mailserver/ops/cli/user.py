"""``user add|passwd|list|delete``: the users file.

It is rewritten whole, so a server sees the old one or the new one.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from mailserver.auth import passwords
from mailserver.auth.names import BadName, NameRules
from mailserver.auth.saslprep import spellings
from mailserver.auth.users import UserFile, UsersUnavailable
from mailserver.config.schema import Settings
from mailserver.ops.cli.common import add_config, add_json, say, say_json, settings_of
from mailserver.ops.cli.failure import Failure, explain

HELP = "add, change, list and delete users"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|passwd|list|delete")
    for name, text in (
        ("add", "add a user and ask for the password"),
        ("passwd", "give a user another password"),
        ("list", "list users and the schemes of their passwords"),
        ("delete", "delete a user; the mail stays"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        add_config(action)
        add_json(action)
        if name != "list":
            action.add_argument("name")
        if name in ("add", "passwd"):
            action.add_argument("--password-stdin", action="store_true", help="read the password from standard input")


def run(arguments: argparse.Namespace) -> int:
    """Do it. Raises `Failure`."""
    settings = settings_of(arguments)
    users = _users(settings)
    try:
        return _ACTIONS[arguments.action](users, arguments)
    except BadName as error:
        raise Failure(os.EX_DATAERR, f"{arguments.name!r}: {error}") from error
    except UsersUnavailable as error:
        raise Failure(os.EX_NOINPUT, str(error)) from error
    except OSError as error:
        raise explain(error, users.path, "write") from error


def _users(settings: Settings) -> UserFile:
    return UserFile(settings.auth.users_file, NameRules(settings.auth.username_lowercase, settings.auth.default_domain))


def _done(arguments: argparse.Namespace, users: UserFile, what: str) -> int:
    if arguments.json:
        say_json({"user": arguments.name, "done": what, "file": str(users.path)})
    else:
        say(f"{arguments.name}: {what} in {users.path}")
    return os.EX_OK


def _add(users: UserFile, arguments: argparse.Namespace) -> int:
    password = _password(arguments)
    try:
        users.add(arguments.name, passwords.hash_new(password))
    except KeyError as error:
        raise Failure(os.EX_DATAERR, f"{arguments.name}: exists already in {users.path}") from error
    return _done(arguments, users, "added")


def _passwd(users: UserFile, arguments: argparse.Namespace) -> int:
    password = _password(arguments)
    try:
        users.set_password(arguments.name, passwords.hash_new(password))
    except KeyError as error:
        raise _nobody(users, arguments) from error
    return _done(arguments, users, "password changed")


def _delete(users: UserFile, arguments: argparse.Namespace) -> int:
    try:
        users.delete(arguments.name)
    except KeyError as error:
        raise _nobody(users, arguments) from error
    return _done(arguments, users, "deleted")


def _list(users: UserFile, arguments: argparse.Namespace) -> int:
    found = [{"user": r.name, "scheme": passwords.split_field(r.password_field)[0]} for r in users.all()]
    if arguments.json:
        say_json(found)
    else:
        for row in found:
            say(f"{row['user']}\t{row['scheme']}")
    return os.EX_OK


def _nobody(users: UserFile, arguments: argparse.Namespace) -> Failure:
    return Failure(os.EX_NOUSER, f"{arguments.name}: no such user in {users.path}")


def _password(arguments: argparse.Namespace) -> bytes:
    if arguments.password_stdin:
        password = sys.stdin.buffer.readline(passwords.MAX_PASSWORD + 2).rstrip(b"\r\n")
    else:
        try:
            password = getpass.getpass("Password: ").encode()
            if getpass.getpass("Again: ").encode() != password:
                raise Failure(os.EX_DATAERR, "the two passwords differ")
        except (EOFError, KeyboardInterrupt) as error:
            raise Failure(os.EX_NOINPUT, "no password given") from error
    if not password or b"\0" in password or len(password) > passwords.MAX_PASSWORD:
        raise Failure(os.EX_DATAERR, f"a password has 1 to {passwords.MAX_PASSWORD} octets and no NUL")
    return spellings(password, stored=True)[0]


_ACTIONS = {"add": _add, "passwd": _passwd, "list": _list, "delete": _delete}
