"""The program: from settings to running servers. Builds what they share once, hands it out, and ends all in order.

``with App(settings, ["imap", "pop3"]) as app`` runs in this process, as tests and embedding programs want it;
`App.run` is the service: it forks the workers and takes the signals.
"""

from __future__ import annotations

import gc
import grp
import importlib
import os
import pwd
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import mailserver
from mailserver.config.schema import Listener, Settings
from mailserver.net import workers
from mailserver.net.server import StreamServer
from mailserver.ops import log as logging
from mailserver.ops import memory, metrics
from mailserver.services import Services, worker_count

PROTOCOLS = ("imap", "pop3", "smtp")
# section of the settings -> module and class of its server; imported when they are started, so that --pop3 alone is
# quick
SERVERS: Mapping[str, tuple[str, str]] = {
    "imap": ("mailserver.imap.server", "ImapServer"),
    "pop3": ("mailserver.pop3.server", "Pop3Server"),
    "smtp": ("mailserver.smtp.server", "SmtpServer"),
    "submission": ("mailserver.smtp.server", "SubmissionServer"),
    "lmtp": ("mailserver.smtp.server", "LmtpServer"),
    "http": ("mailserver.ops.http", "HttpServer"),
}
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "imap": ("imap",),
    "pop3": ("pop3",),
    "smtp": ("smtp", "submission", "lmtp"),
}

_log = logging.get("app")
# objects made before the garbage collector looks for cycles: commands make few, and a mailbox holds many that are none
_GC_THRESHOLDS = (20_000, 20, 50)


@dataclass(frozen=True, slots=True)
class Listening:
    """One open port."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        where = self.host if "/" in self.host else f"{self.host or '*'} port {self.port}"
        return f"listening: {self.name} on {where}"


class App:
    """The servers of ``protocols`` (of `PROTOCOLS`), and HTTP.

    ``users``: names and passwords in place of the users file.
    """

    def __init__(
        self, settings: Settings, protocols: Iterable[str] = PROTOCOLS, *, users: Mapping[str, str] | None = None
    ) -> None:
        self.settings = settings
        self.workers = worker_count(settings)
        self.services = Services(settings, users=users)
        self._tidy_memory = memory.Tidy()
        sections = [section for protocol in protocols for section in SECTIONS[protocol]]
        self.servers: list[StreamServer] = [
            self._make(section) for section in [*sections, "http"] if _wanted(getattr(settings, section))
        ]

    def _make(self, section: str) -> StreamServer:
        module, name = SERVERS[section]
        kind: Callable[..., StreamServer] = getattr(importlib.import_module(module), name)
        return kind(getattr(self.settings, section), services=self.services)

    # -- ports

    def bind(self) -> list[Listening]:
        """Open all listening sockets; all or none. Raises `OSError` whose text names the address."""
        try:
            for server in self.servers:
                server.bind()
        except OSError:
            for server in self.servers:
                server.server_close()
            raise
        return self.listening

    @property
    def listening(self) -> list[Listening]:
        """What is open."""
        hosts = {endpoint.name: endpoint.host for server in self.servers for endpoint in server.options.endpoints}
        return [Listening(name, hosts[name], port) for name, port in self.ports.items()]

    @property
    def ports(self) -> dict[str, int]:
        """All bound ports by name: imap, imaps, pop3, pop3s, smtp, submission, submissions, lmtp, http."""
        return {name: port for server in self.servers for name, port in server.addresses.items()}

    # -- life, as a worker or in this process

    def start(self, row: int = 0) -> None:
        """Serve, as worker number ``row``; returns when connections are taken."""
        self.services.worker = row
        if self.workers > 1:
            self.services.adopt(row)
            metrics.REGISTRY.adopt(row)
        if not row:
            metrics.BUILD.inc(1 - metrics.BUILD.value(version=mailserver.__version__), version=mailserver.__version__)
            metrics.STARTED.inc(time.time() - metrics.STARTED.value())
        if any(server.options.name in SECTIONS["smtp"] for server in self.servers):
            self.services.start_queue()
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        """Stop all servers at the same time, then close what they shared."""
        self.services.authenticator.stop()
        grace = float(self.settings.server.grace_seconds)
        stopping = [threading.Thread(target=server.stop, args=(grace,), daemon=True) for server in self.servers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        self.services.close()

    def reload(self) -> None:
        """Read the certificate again. (The users file is looked at with each login anyway.)"""
        if self.services.tls is not None:
            self.services.tls.reload()

    def tidy(self) -> None:
        """Give memory back that is not used any more."""
        self._tidy_memory()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- as a service

    def run(self, ready: Callable[[], Any] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT; call it in the main thread. ``ready`` is called when connections are taken."""
        workers.block_signals()
        self.bind()
        gc.freeze()  # what was made until here stays: the workers share it, and no collection looks at it again
        gc.set_threshold(*_GC_THRESHOLDS)
        if self.workers > 1:
            metrics.REGISTRY.share(self.workers)
            grace = float(self.settings.server.grace_seconds)
            workers.Supervisor(self, self.workers, self._died, grace, ready).run()
        else:
            workers.serve(_Announcing(self, ready))

    def _died(self, row: int) -> None:
        self.services.limits.give_back(row)
        metrics.REGISTRY.regions.zero_gauges(row)


class _Announcing:
    """The app as the only worker: says that it is ready once it has started."""

    def __init__(self, app: App, ready: Callable[[], Any]) -> None:
        self._app = app
        self._ready = ready

    def start(self, row: int) -> None:
        self._app.start(row)
        self._ready()

    def stop(self) -> None:
        self._app.stop()

    def reload(self) -> None:
        self._app.reload()

    def tidy(self) -> None:
        self._app.tidy()


def _wanted(config: Listener) -> bool:
    return config.port >= 0 or config.ssl_port >= 0


def give_up_root(user: str) -> None:
    """Become ``user``, groups and all; nothing for "". Raises `KeyError` for no such user, `PermissionError`."""
    if not user:
        return
    entry = pwd.getpwnam(user)
    if entry.pw_uid == os.geteuid():
        return
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    _log.info("gave-up-root", user=user, group=grp.getgrgid(entry.pw_gid).gr_name)
