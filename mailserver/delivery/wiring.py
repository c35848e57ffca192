"""From the settings to router and queue."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from mailserver.auth.secret import Secret
from mailserver.config.schema import QueueConfig, Settings
from mailserver.delivery.aliases import Aliases
from mailserver.delivery.local import LocalTarget
from mailserver.delivery.queue.relay import Relay, RelayHost
from mailserver.delivery.queue.reporter import Reporter
from mailserver.delivery.queue.resolver import Resolver
from mailserver.delivery.queue.scheduler import Scheduler, Timing
from mailserver.delivery.queue.spool import Spool
from mailserver.delivery.router import Router, Rules
from mailserver.ops import log as logging

if TYPE_CHECKING:
    from mailserver.services import Services

_log = logging.get("queue")


def router(services: Services) -> Router:
    """Return the router for these services; with a queue when they have one."""
    settings = services.settings
    delivery = settings.delivery
    rules = Rules(settings.hostname, settings.domains, delivery.recipient_delimiter, delivery.postmaster)
    made = Router(
        rules,
        services.authenticator,
        local(services),
        queue=services.spool,
        aliases=Aliases(delivery.aliases_file),
        first_user=services.users.first,
    )
    if services.spool is not None:
        made.on_delivered = Reporter(settings.hostname, made).delivered
    return made


def local(services: Services) -> LocalTarget:
    """Return the mailboxes of this server as a target."""
    delivery = services.settings.delivery
    return LocalTarget(lambda: services.store, spam_to=delivery.spam_folder, spam_header=delivery.spam_header)


def spool(settings: Settings) -> Spool:
    """Open the spool. Raises `OSError`."""
    path = settings.queue.path
    try:
        return Spool(path, sync=settings.storage.durability == "strict")
    except sqlite3.Error as error:
        raise OSError(f"queue: {path}: {error}") from error
    except OSError as error:
        raise type(error)(error.errno, f"queue: {path}: {error.strerror}") from error


def scheduler(services: Services, spool: Spool, carrier: Relay | None = None) -> Scheduler | None:
    """Begin to deliver from ``spool``; None when another process does. Raises `OSError`."""
    settings = services.settings
    if not spool.take_charge():
        _log.warning("queue-busy", path=spool.path, reason="another process delivers from it")
        return None
    carrier = carrier or relay(services)
    reporter = Reporter(settings.hostname, services.router)
    made = Scheduler(spool, carrier, local(services), reporter, timing(settings.queue))
    made.start()
    return made


def relay(services: Services) -> Relay:
    """Return the way to other servers. Raises `OSError` for the relay host's password file."""
    settings = services.settings
    resolver = Resolver([settings.hostname], services.resolver)
    return Relay(
        settings.hostname, resolver, relay_host(settings.queue), port=settings.queue.port, tls=settings.queue.tls
    )


def timing(queue: QueueConfig) -> Timing:
    """Return what the settings say about when."""
    return Timing(
        first=queue.retry_first_seconds,
        longest=queue.retry_longest_seconds,
        lifetime=queue.lifetime_seconds,
        bounce_lifetime=min(queue.lifetime_seconds, 86400),
        warning=queue.delay_warning_seconds,
        workers=queue.workers,
        per_destination=queue.connections_per_destination,
    )


def relay_host(queue: QueueConfig) -> RelayHost | None:
    """Return the server that takes everything, None for delivery by MX. Raises `OSError` for its password file."""
    if not queue.relay_host:
        return None
    host, colon, port = queue.relay_host.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = queue.relay_host, "465" if queue.relay_tls == "implicit" else "25"
    password = Path(queue.relay_password_file).read_bytes().strip() if queue.relay_password_file else b""
    return RelayHost(host.strip("[]"), int(port), queue.relay_user, Secret(password), queue.relay_tls)
