"""Serving: what happens without a command. Says which ports are open, then serves until it is told to stop."""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys

from mailserver.app import PROTOCOLS, App, give_up_root
from mailserver.config.schema import Settings
from mailserver.net.tls import TlsError
from mailserver.ops import log as logging
from mailserver.ops import memory
from mailserver.ops.cli.check_config import check_mailbox_path, check_users_file
from mailserver.ops.cli.common import add_config, say, settings_of
from mailserver.ops.cli.failure import Failure, port_failure

_log = logging.get("app")
DESCRIPTORS = 65536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    for protocol in PROTOCOLS:
        parser.add_argument(f"--{protocol}", action="store_true", help=f"start {protocol.upper()} (no flag: all)")
    add_config(parser)
    parser.add_argument(
        "--ready-fd", type=int, metavar="N", help="write the open ports as JSON to descriptor N, close it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve. Raises `Failure` if that is not possible."""
    memory.share_heaps()
    settings = settings_of(arguments)
    logging.configure(settings.server.log_level, settings.server.log_format)
    app = _app(settings, [protocol for protocol in PROTOCOLS if getattr(arguments, protocol)] or list(PROTOCOLS))
    if not app.servers:
        raise Failure(os.EX_CONFIG, "nothing to do: every port is -1")
    if app.services.tls is None:
        _log.warning("no-tls", reason="no certificate in [tls]", consequence="no TLS ports, no STARTTLS")
    _allow_descriptors()
    _open_ports(app)
    _give_up_root(settings.server.user)
    check_users_file(settings)  # as the user who will read it
    check_mailbox_path(settings)
    app.run(lambda: _announce(app, arguments.ready_fd))
    return os.EX_OK


def _open_ports(app: App) -> None:
    try:
        app.bind()
    except OSError as error:
        raise port_failure(error) from error


def _give_up_root(user: str) -> None:
    try:
        give_up_root(user)
    except KeyError as error:
        raise Failure(os.EX_NOUSER, f"server.user: {user}: no such user") from error
    except PermissionError as error:
        raise Failure(os.EX_NOPERM, f"server.user: {user}: only root can become another user") from error


def _allow_descriptors() -> None:
    """Raise the soft limit of open files: 1024 would be the cap of connections, whatever the settings say."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _app(settings: Settings, protocols: list[str]) -> App:
    try:
        return App(settings, protocols)
    except TlsError as error:
        raise Failure(os.EX_NOINPUT, f"tls: {error}") from error


def _announce(app: App, ready_fd: int | None) -> None:
    try:
        for line in app.listening:
            say(str(line))
    except BrokenPipeError:  # whoever started us does not read: that is no reason not to serve
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # stays open to the end
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w") as file:
            json.dump(app.ports, file)
            file.write("\n")
