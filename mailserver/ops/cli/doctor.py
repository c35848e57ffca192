"""``doctor [USER] [--fix]``: looks at the machine, the settings and the mail. Changes nothing without ``--fix``."""

from __future__ import annotations

import argparse
import os

from mailserver.auth.users import UserFile, UsersUnavailable
from mailserver.config.schema import Settings
from mailserver.ops.cli.common import add_config, add_json, say, say_json, settings_of
from mailserver.ops.cli.failure import explain
from mailserver.ops.cli.mail import become_owner, stay_ourselves, user_of
from mailserver.ops.doctor import machine, mail, sharing
from mailserver.ops.doctor.finding import Finding
from mailserver.services import Services
from mailserver.store.errors import StoreError

HELP = "find what is wrong with machine, settings and mail, and put right what is safe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("user", nargs="?", help="whose mail is looked at; else that of all in the users file")
    parser.add_argument("--fix", action="store_true", help="put right what is safe to")
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the status is 0, or 65 when something serious is left. Raises `Failure`."""
    settings = settings_of(arguments)
    found = [] if arguments.user else list(machine.check(settings))
    if arguments.fix:
        for finding in found:
            finding.fix()
    services = Services(settings)
    try:
        for user in _users(services, settings, arguments):
            found += _account(services, settings, user, fix=arguments.fix)
    finally:
        services.close()
        stay_ourselves()
    left = [finding for finding in found if finding.serious and not finding.fixed]
    if arguments.json:
        say_json([{k: getattr(f, k) for k in ("place", "kind", "text", "serious", "fixed")} for f in found])
    else:
        for finding in found:
            mark = "fixed" if finding.fixed else "serious" if finding.serious else "advice"
            text = "".join(c if c.isprintable() else "?" for c in finding.text)
            say(f"{finding.place}: {mark}: {finding.kind}: {text}")
        say(f"{len(found)} findings, {sum(f.fixed for f in found)} fixed, {len(left)} serious ones left")
    return os.EX_DATAERR if left else os.EX_OK


def _users(services: Services, settings: Settings, arguments: argparse.Namespace) -> list[str]:
    if arguments.user:
        return [user_of(settings, arguments.user)]
    try:
        known = [record.name for record in services.users.all()] if isinstance(services.users, UserFile) else []
    except UsersUnavailable:  # said by the check of the settings
        return []
    return [user for user in known if services.store.has_account(user)]


def _account(services: Services, settings: Settings, user: str, *, fix: bool) -> list[Finding]:
    stay_ourselves()
    try:
        if not services.store.has_account(user):
            return [Finding(user, "account", "there is no mail of this user", serious=False)]
        become_owner(settings, services.store.directory(user))
        store = services.store
        tree = store.tree_of(user)
        place = mail.Place(
            user,
            tree.home if os.path.isdir(tree.home) else tree.root,
            tree,
            store.index_of(user),
            lambda: store.account(user),
        )
        found = list(mail.check(place))
        found += sharing.check(user, place.tree, store.shares, settings.storage.shared_prefix)
        if fix:
            for finding in found:
                finding.fix()
    except StoreError as error:
        return [Finding(user, "account", f"{error.text} ({error.__cause__})")]
    except OSError as error:
        return [Finding(user, "account", str(explain(error, error.filename or user)))]
    return found
