"""What all servers of a program share: store, authenticator, TLS, the waiter, and the counts over all workers.

Built once (`Services`), handed to each server, closed at the end. `ProtocolServer` is the base of the IMAP, POP3 and
SMTP servers: it takes the settings of its section and the services, or builds the services when a program embeds one
server alone.

A Services may be made before the workers are forked: threads and database handles begin at first use.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from mailserver.auth.names import NameRules
from mailserver.auth.service import Authenticator, AuthRules
from mailserver.auth.throttle import Throttle
from mailserver.auth.users import StaticUsers, UserFile, UserSource, UsersUnavailable
from mailserver.config.schema import Listener, Settings
from mailserver.net.limits import SharedLimits
from mailserver.net.listen import Endpoint
from mailserver.net.server import ServerOptions, StreamServer
from mailserver.net.tls import TlsKeeper
from mailserver.net.waiter import Waiter
from mailserver.ops.rates import Rates

if TYPE_CHECKING:
    import dns.resolver

    from mailserver.delivery.queue.scheduler import Scheduler
    from mailserver.delivery.queue.spool import Spool
    from mailserver.delivery.router import Router
    from mailserver.delivery.webhook import Webhook
    from mailserver.store.quota import Limits
    from mailserver.store.store import Store


class Services:
    """See the module. ``users`` stands in for the users file. Raises `mailserver.net.tls.TlsError`."""

    def __init__(self, settings: Settings | None = None, *, users: Mapping[str, str] | None = None) -> None:
        settings = settings or Settings()
        if not settings.hostname:
            settings = dataclasses.replace(settings, hostname=socket.getfqdn())
        self.settings = settings
        self.limits = SharedLimits(worker_count(settings))
        self.per_minute = Rates(60.0, worker_count(settings))
        self.per_hour = Rates(3600.0, worker_count(settings))
        self.waiter = Waiter()
        self.tls = _tls(settings)
        self.users: UserSource = _users(settings, users)
        self.authenticator = Authenticator(self.users, _rules(settings), Throttle())
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._router: Router | None = None
        self.spool: Spool | None = None  # there is a queue once `start_queue` was called
        self._scheduler: Scheduler | None = None
        self._webhook: Webhook | None = None
        self._resolver: dns.resolver.Resolver | None = None
        self.worker = 0  # number of this worker process; background work that must run once runs in worker 0

    @property
    def store(self) -> Store:
        """The store, opened at first use: after the fork."""
        if self._store is None:
            from mailserver.store.store import Store  # not needed by who only checks settings

            with self._lock:
                if self._store is None:
                    storage = self.settings.storage
                    self._store = Store(
                        storage.mailbox_path,
                        index_path=storage.index_path,
                        durability=storage.durability,
                        format=storage.format,
                        layout=storage.layout,
                        mbox_inbox=storage.mbox_inbox,
                        limits=self._limits,
                        shared=bool(storage.shared_prefix),
                    )
        return self._store

    @property
    def router(self) -> Router:
        """Where mail goes; one for all servers of this process."""
        if self._router is None:
            from mailserver.delivery.wiring import router  # not needed by IMAP and POP3 alone

            made = router(self)
            with self._lock:
                self._router = self._router or made
        return self._router

    @property
    def resolver(self) -> dns.resolver.Resolver:
        """The way to the name servers, made at first use."""
        if self._resolver is None:
            from mailserver.delivery import dns  # not needed by IMAP and POP3 alone

            with self._lock:
                self._resolver = self._resolver or dns.resolver(self.settings.server.nameservers)
        return self._resolver

    @property
    def webhook(self) -> Webhook | None:
        """Who is told of messages received; None when nobody is."""
        own = self.settings.webhook
        if self._webhook is None and own.url:
            from mailserver.delivery.webhook import Webhook  # not needed by who has none

            with self._lock:
                self._webhook = self._webhook or Webhook(own.url, own.timeout_seconds, own.max_waiting)
        return self._webhook

    def adopt(self, row: int) -> None:
        """Say which worker this process is; called once, just after the fork."""
        self.limits.adopt(row)
        self.per_minute.adopt(row)
        self.per_hour.adopt(row)

    def _limits(self, user: str) -> Limits:
        """What a user may keep: by the users file, else by the settings."""
        from mailserver.store.quota import Limits, parse_rule  # as above

        try:
            record = self.users.lookup(user)
        except UsersUnavailable:
            record = None
        rule = record.extra.get("userdb_quota_rule") or record.extra.get("quota_rule") if record is not None else None
        storage = self.settings.storage
        return parse_rule(rule) if rule else Limits(storage.quota_octets, storage.quota_messages)

    def start_queue(self) -> None:
        """Open the queue for mail to other servers; in one process also deliver from it.

        Before the servers start, after the fork. Raises `OSError`.
        """
        from mailserver.delivery import wiring

        if self.spool is None and self.settings.queue.path:
            self.spool = wiring.spool(self.settings)
            if self.worker == 0:
                self._scheduler = wiring.scheduler(self, self.spool)

    def options(self, name: str, config: Listener, *, must_log_in: bool = True) -> ServerOptions:
        """Return what a server of that section needs.

        ``must_log_in``: connections that do not are cut off and capped.
        """
        limits = self.settings.limits
        endpoints = []
        if config.port >= 0:
            endpoints.append(Endpoint(name, config.host, config.port))
        if config.ssl_port >= 0 and config.enable_ssl and self.tls is not None:
            endpoints.append(Endpoint(_secure_name(name), config.host, config.ssl_port, implicit_tls=True))
        return ServerOptions(
            name=name,
            endpoints=endpoints,
            max_connections=config.max_connections,
            max_connections_per_address=limits.max_connections_per_address,
            max_unauthenticated=limits.max_unauthenticated if must_log_in else 0,
            timeout=float(config.connection_timeout_seconds),
            handshake_timeout=float(limits.handshake_timeout_seconds),
            login_timeout=float(limits.login_timeout_seconds) if must_log_in else 0.0,
            tls=self.tls if config.enable_ssl else None,
            limits=self.limits,
            waiter=self.waiter,
        )

    def close(self) -> None:
        """Close the store and end the waiter's thread; servers must have been stopped."""
        if self._scheduler is not None:
            self._scheduler.stop()
            self._scheduler = None
        if self.spool is not None:
            self.spool.close()
            self.spool = None
        if self._webhook is not None:
            self._webhook.close()
            self._webhook = None
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()
        self.waiter.close()


def worker_count(settings: Settings) -> int:
    """Return how many processes are wanted."""
    workers = settings.server.workers
    return workers if isinstance(workers, int) else len(os.sched_getaffinity(0))


def _secure_name(name: str) -> str:
    return {"submission": "submissions", "smtp": "smtps"}.get(name, name + "s")


def _tls(settings: Settings) -> TlsKeeper | None:
    tls = settings.tls
    return TlsKeeper(tls.certificate, tls.private_key) if tls.certificate and tls.private_key else None


def _rules(settings: Settings) -> AuthRules:
    auth = settings.auth
    return AuthRules(
        names=NameRules(auth.username_lowercase, auth.default_domain),
        allow_cleartext=auth.allow_cleartext,
        allow_weak_schemes=auth.allow_weak_schemes,
        delay_failures=auth.delay_failures,
    )


def _users(settings: Settings, users: Mapping[str, str] | None) -> UserSource:
    names = _rules(settings).names
    return UserFile(settings.auth.users_file, names) if users is None else StaticUsers(users, names)


def embedded(section: str, config: Listener) -> Services:
    """Return the services of one server that a program embeds: what its configuration says, else the defaults."""
    settings = Settings()
    changes: dict[str, Any] = {section: config}
    if config.mailbox_path:
        changes["storage"] = dataclasses.replace(
            settings.storage,
            mailbox_path=str(config.mailbox_path),
            format=config.mailbox_format,
            layout=config.mailbox_layout,
        )
    if config.certificate:
        changes["tls"] = dataclasses.replace(
            settings.tls, certificate=str(config.certificate), private_key=str(config.private_key)
        )
    return Services(dataclasses.replace(settings, **changes), users=config.users)


C = TypeVar("C", bound=Listener)


class ProtocolServer(StreamServer, Generic[C]):
    """Base of the protocols' servers.

    A subclass sets the class attributes and gives `handle_connection` and `refuse`.
    """

    section: ClassVar[str] = ""  # of the settings; also the name of its port
    must_log_in: ClassVar[bool] = True

    def __init__(self, config: C, services: Services | None = None) -> None:
        self.config = config
        self._embedded = services is None
        self.services = services if services is not None else embedded(self.section, config)
        super().__init__(self.services.options(self.section, config, must_log_in=self.must_log_in))

    @property
    def port(self) -> int:
        """The port for clients that begin in clear; -1 if there is none."""
        return self.addresses.get(self.section, -1)

    @property
    def ssl_port(self) -> int:
        """The port for clients that begin with TLS; -1 if there is none."""
        return self.addresses.get(_secure_name(self.section), -1)

    def start(self) -> None:
        """Start as `StreamServer.start`."""
        self.services.authenticator.resume()
        super().start()

    def stop(self, grace: float = 5.0) -> None:
        """Stop as `StreamServer.stop`; services that this server made for itself are closed."""
        if self._embedded:
            self.services.authenticator.stop()
        super().stop(grace)
        if self._embedded:
            self.services.close()
