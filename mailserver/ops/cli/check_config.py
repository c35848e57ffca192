"""``check-config``: are the settings right? Says all errors at once, and looks at the files they name."""

from __future__ import annotations

import argparse
import os

from mailserver.config.load import ConfigError, load
from mailserver.config.schema import Settings
from mailserver.net.tls import TlsError, server_context
from mailserver.ops.cli.common import add_config, add_json, complain, config_path, say, say_json
from mailserver.ops.cli.failure import Failure, explain
from mailserver.store.formats.maildir.syncing import make_directories

HELP = "check the settings and the files they name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check; the status is 0, or 78 if there are errors."""
    path = config_path(arguments)
    try:
        errors = problems(load(path) if path else Settings())
    except ConfigError as error:
        errors = error.errors
    except OSError as error:
        assert path is not None
        raise explain(error, path) from error
    name = str(path or "(defaults)")
    if arguments.json:
        say_json({"file": name, "errors": errors})
    elif errors:
        for line in errors:
            complain(line)
    else:
        say(f"{name}: no errors")
    return os.EX_CONFIG if errors else os.EX_OK


def problems(settings: Settings) -> list[str]:
    """Return what is wrong with the files and directories that the settings name."""
    found = []
    if settings.tls.certificate and settings.tls.private_key:
        try:
            server_context(settings.tls.certificate, settings.tls.private_key)
        except TlsError as error:
            found.append(f"tls: {error}")
    for check in (check_users_file, check_mailbox_path):
        try:
            check(settings)
        except Failure as failure:
            found.append(str(failure))
    return found


def check_users_file(settings: Settings) -> None:
    """Raise `Failure` if the users file cannot be read."""
    path = settings.auth.users_file
    try:
        with open(path, "rb"):
            pass
    except FileNotFoundError as error:
        text = f"auth.users_file: {path}: no such file; `python -m mailserver user add NAME` makes it"
        raise Failure(os.EX_NOINPUT, text) from error
    except OSError as error:
        failure = explain(error, path)
        raise Failure(failure.status, f"auth.users_file: {failure}") from error


def check_mailbox_path(settings: Settings) -> None:
    """Make the directory of all mail if it is missing; raise `Failure` if it cannot be written to."""
    path = os.path.dirname(settings.storage.mailbox_path.partition("{")[0] + "x")
    try:
        make_directories(path, sync=True, mode=0o777)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        failure = explain(error, path, "write")
        raise Failure(failure.status, f"storage.mailbox_path: {failure}") from error
