"""What the commands on mail share: the store as the settings have it, in the rights of whoever owns the mail."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import os
import pwd
from collections.abc import Iterator

from mailserver.auth.names import BadName, NameRules
from mailserver.config.schema import Settings
from mailserver.ops.cli.common import settings_of
from mailserver.ops.cli.failure import Failure, explain
from mailserver.services import Services
from mailserver.store.errors import StoreError
from mailserver.store.store import Store

_CODECS = ("ascii", "latin-1", "idna")  # Python reads them when they are first used, and may lie where only root can


@contextlib.contextmanager
def store_of(arguments: argparse.Namespace, about: str = "the mail", want: str = "read") -> Iterator[tuple[Store, str]]:
    """The store, and the user's name as the server knows it. Raises `Failure`; so does a StoreError or OSError of the
    block, of the file ``about`` where it names none, as whoever had to do what was ``want``ed: see `explain`."""
    settings = settings_of(arguments)
    user = user_of(settings, arguments.user)
    services = Services(settings)
    try:
        become_owner(settings, services.store.directory(user))
        yield services.store, user
    except StoreError as error:
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise Failure(os.EX_TEMPFAIL, f"{user}: {error.text}{cause}") from error
    except OSError as error:
        raise explain(error, error.filename or about, want) from error
    finally:
        services.close()
        stay_ourselves()


def user_of(settings: Settings, name: str) -> str:
    """As at a login. Raises `Failure`."""
    try:
        return NameRules(settings.auth.username_lowercase, settings.auth.default_domain).canonical(name)
    except BadName as error:
        raise Failure(os.EX_DATAERR, f"{name!r}: {error}") from error


def stay_ourselves() -> None:
    """Take `become_owner` back."""
    if os.geteuid() != os.getuid():
        os.seteuid(os.getuid())
        os.setegid(os.getgid())


def become_owner(settings: Settings, directory: str) -> None:
    """As root: act as ``server.user``, or as whoever owns the mail, that the server can use what is made here."""
    if os.geteuid() != 0:
        return
    if settings.server.user:
        try:
            entry = pwd.getpwnam(settings.server.user)
        except KeyError as error:
            raise Failure(os.EX_NOUSER, f"server.user: {settings.server.user}: no such user") from error
        uid, gid = entry.pw_uid, entry.pw_gid
    else:
        while not os.path.exists(directory):
            directory = os.path.dirname(directory)
        found = os.stat(directory)
        uid, gid = found.st_uid, found.st_gid
    if uid != 0:
        for name in _CODECS:
            codecs.lookup(name)
        os.setegid(gid)
        os.seteuid(uid)
