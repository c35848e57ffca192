"""From a destination to a connection that is good enough for a message: which hosts, which protection, and again.

Opportunistic TLS (RFC 7435): where STARTTLS is offered it is used, whatever the certificate; when the handshake fails,
the next try is in clear. The settings may demand more, a relay host that wants a login does, and so does a message that
came with REQUIRETLS (RFC 8689 section 4.2.1): a name that DNSSEC vouches for, a right certificate, and REQUIRETLS
there.

A `Way` keeps its connection for the next message to the same destination (RFC 5321 section 3.3: "there may be zero or
more transactions in a session").
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mailserver.auth.secret import Secret
from mailserver.delivery.queue.client import Broken, Client
from mailserver.delivery.queue.resolver import NO_SERVER, Resolver
from mailserver.delivery.queue.transfer import LOST, Outcome, Transfer, limits_of
from mailserver.delivery.target import Envelope, Recipient, Refused, Status
from mailserver.mail.addrspec import normal_domain

CONNECT_SECONDS = 60.0
REPLY_SECONDS = 300.0  # RFC 5321 section 4.5.3.2: 5 minutes for a reply to most commands
MAX_ADDRESSES = 20  # tried for one message at one time
MAX_MESSAGES = 1000  # over one connection: a server behind a balancer that gets better shall have a chance

NO_CONNECTION = Status(451, "4.4.1", "No mail server of the domain could be reached")
NO_TLS = Status(451, "4.7.5", "The mail server offers no TLS, and it is demanded")
NEEDS_REQUIRETLS = Status(550, "5.7.30", "REQUIRETLS support required")
NEEDS_ENCRYPTION = Status(550, "5.7.10", "Encryption needed")
NEEDS_DNSSEC = Status(550, "5.7.10", "The name of the mail server is not secured by DNSSEC")


@dataclass(frozen=True, slots=True)
class RelayHost:
    """The server that takes everything. ``tls``: auto, required, implicit or never."""

    host: str
    port: int = 25
    user: str = ""
    password: Secret = field(default_factory=lambda: Secret(b""))
    tls: str = "auto"


@dataclass(frozen=True, slots=True)
class _Demand:
    """What protection a message wants. ``tls``: there must be some; ``verified``; ``requiretls``: RFC 8689."""

    tls: bool
    verified: bool
    requiretls: bool = False

    def refused(self, status: Status, permanent: Status) -> Status:
        """Return what to say when it cannot be had: only REQUIRETLS returns the message."""
        return permanent if self.requiretls else status


class Relay:
    """``port``: where the hosts of MX records listen. ``tls``: opportunistic, required or verified."""

    def __init__(
        self,
        hostname: str,
        resolver: Resolver,
        relay_host: RelayHost | None = None,
        *,
        port: int = 25,
        tls: str = "opportunistic",
        connect_seconds: float = CONNECT_SECONDS,
        reply_seconds: float = REPLY_SECONDS,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.hostname = hostname
        self.resolver = resolver
        self.relay_host = relay_host
        self.port = relay_host.port if relay_host is not None else port
        self.tls = tls
        self.connect_seconds = connect_seconds
        self.reply_seconds = reply_seconds
        self.verifying = context or ssl.create_default_context()
        self.unverified = ssl.create_default_context()
        self.unverified.check_hostname = False
        self.unverified.verify_mode = ssl.CERT_NONE

    def destination(self, recipient: Recipient) -> str:
        """Return what recipients of one attempt have in common; connections are limited by it."""
        if self.relay_host is not None:
            return self.relay_host.host
        return normal_domain(recipient.address.rpartition("@")[2])

    def way(self, destination: str) -> Way:
        """Return a way there; nothing is opened yet."""
        return Way(self, destination)

    def deliver(self, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]) -> list[Outcome]:
        """Try one message once; see `Way.deliver`."""
        way = self.way(self.destination(recipients[0]))
        try:
            return way.deliver(envelope, path, size, recipients)
        finally:
            way.close()


class Way:
    """The way to one destination, for one message after the other; used by one thread."""

    def __init__(self, relay: Relay, destination: str) -> None:
        self._relay = relay
        self._destination = destination
        self._client: Client | None = None
        self._secure = False  # the name of the host came by a secure way
        self._sent = 0
        self._unclean: Transfer | None = None

    def deliver(self, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]) -> list[Outcome]:
        """Try once; return an outcome for each recipient, in order. Never raises for what a server or the net does."""
        demand = self._demand(envelope)
        found = self._again(demand, envelope, path, size, recipients)
        if found is not None:
            return found
        try:
            return self._try_hosts(demand, envelope, path, size, recipients)
        except Refused as refused:
            return [Outcome(refused.status)] * len(recipients)

    def close(self) -> None:
        """Say goodbye, if there is somebody to say it to."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Broken):  # the messages have their answers already
                client.quit()
            client.close()

    # -- what protection

    def _demand(self, envelope: Envelope) -> _Demand:
        relay, host = self._relay, self._relay.relay_host
        # RFC 8689 section 5: a report "SHOULD NOT" be lost because the way back is worse
        if envelope.tls == "required" and envelope.sender:
            return _Demand(True, True, True)
        if host is not None and host.user:
            return _Demand(host.tls != "never", host.tls != "never")
        if host is not None and host.tls in ("implicit", "required"):
            return _Demand(True, host.tls == "implicit")
        if envelope.tls == "optional":  # RFC 8689 section 4.2.2: policies are ignored
            return _Demand(False, False)
        return _Demand(relay.tls != "opportunistic", relay.tls == "verified")

    def _suits(self, client: Client, demand: _Demand) -> Status | None:
        """Return why the connection is not good enough."""
        if demand.requiretls and not self._secure:
            return NEEDS_DNSSEC
        if (demand.tls and not client.tls) or (demand.verified and not client.verified):
            return demand.refused(NO_TLS, NEEDS_ENCRYPTION)
        if demand.requiretls and "REQUIRETLS" not in client.features:
            return NEEDS_REQUIRETLS
        return None

    # -- the connection that is open

    def _again(
        self, demand: _Demand, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]
    ) -> list[Outcome] | None:
        """Use the open connection; None when there is none, or it turns out to be gone before anything was said."""
        client = self._client
        if client is None:
            return None
        most = min(limits_of(client.features).get("MAILMAX", 0) or MAX_MESSAGES, MAX_MESSAGES)
        if self._sent >= most or self._suits(client, demand) is not None:
            self.close()
            return None
        transfer = Transfer(client, envelope, path, size, recipients)
        try:
            if self._unclean is not None:
                self._unclean.reset()
            return self._run(transfer)
        except Broken as error:
            self._drop()
            return [Outcome(_lost(error), client.host)] * len(recipients) if transfer.answered else None

    def _run(self, transfer: Transfer) -> list[Outcome]:
        self._sent += 1
        outcomes = transfer.run()
        self._unclean = None if transfer.clean else transfer
        if any(outcome.status.code == 421 for outcome in outcomes):  # RFC 5321 section 3.8: it hangs up
            self._drop()
        return outcomes

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    # -- a new connection

    def _try_hosts(
        self, demand: _Demand, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]
    ) -> list[Outcome]:
        last: Outcome | None = None
        for host, address in self._places():
            # what a server said tells more than that another one could not be reached
            told = last is not None and last.status.enhanced != NO_CONNECTION.enhanced
            try:
                client = self._connect(host, address, demand, tls=True)
            except _NextHost as error:
                last = last if told else Outcome(error.status, host)
                continue
            self._client, self._sent, self._unclean = client, 0, None
            transfer = Transfer(client, envelope, path, size, recipients)
            try:
                return self._run(transfer)
            except Broken as error:
                self._drop()
                failed = Outcome(_lost(error), host)
                if transfer.sent:  # it may have the message: another host now could make two of it
                    return [failed] * len(recipients)
            last = last if told else failed
        return [last or Outcome(NO_SERVER)] * len(recipients)

    def _places(self) -> Iterator[tuple[str, str]]:
        """Yield hosts and their addresses in the order to try. Raises `Refused` when there are none."""
        relay = self._relay
        if relay.relay_host is not None:
            hosts, self._secure = [relay.relay_host.host], True
        else:
            route = relay.resolver.route(self._destination)
            hosts, self._secure = route.hosts, route.secure
        count, failed = 0, None
        for host in hosts:
            try:
                addresses = relay.resolver.addresses(host)
            except Refused as refused:
                failed = refused
                continue
            for address in addresses[: MAX_ADDRESSES - count]:
                count += 1
                yield host, address
        if not count:
            raise failed or Refused(NO_SERVER)

    def _connect(self, host: str, address: str, demand: _Demand, *, tls: bool) -> Client:
        """Open a connection, up to the login. Raises `_NextHost`."""
        client = self._open(host, address)
        try:
            self._prepare(client, demand, tls=tls)
        except _TlsFailed:
            client.close()
            return self._connect(host, address, demand, tls=False)
        except Broken as error:
            client.close()
            raise _NextHost(_unreachable(host, error)) from error
        except BaseException:
            client.close()
            raise
        return client

    def _open(self, host: str, address: str) -> Client:
        relay = self._relay
        try:
            sock = socket.create_connection((address, relay.port), timeout=relay.connect_seconds)
        except OSError as error:
            raise _NextHost(_unreachable(host, error)) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Client(host, sock, relay.reply_seconds)

    def _prepare(self, client: Client, demand: _Demand, *, tls: bool) -> None:
        relay, host = self._relay, self._relay.relay_host
        mode = host.tls if host is not None else "auto"
        if mode == "implicit":
            client.start_tls(relay.verifying)
        greeting = client.reply()
        if greeting.code != 220:
            raise _NextHost(greeting.status)
        self._hello(client)
        if tls and mode != "never" and not client.tls:
            self._start_tls(client, demand)
        refused = self._suits(client, demand)
        if refused is not None:
            with contextlib.suppress(Broken):  # RFC 8689 section 4.2.1: "issue a QUIT"
                client.quit()
            raise _NextHost(refused, ours=True)
        self._log_in(client)

    def _hello(self, client: Client) -> None:
        reply = client.hello(self._relay.hostname)
        if reply.code != 250:
            raise _NextHost(reply.status)

    def _start_tls(self, client: Client, demand: _Demand) -> None:
        if "STARTTLS" not in client.features or client.say("STARTTLS").code != 220:
            return
        try:
            client.start_tls(self._relay.verifying if demand.verified else self._relay.unverified)
        except Broken as error:
            if not demand.tls:
                raise _TlsFailed from error
            text = str(error)[:200]
            status = Status(NO_TLS.code, NO_TLS.enhanced, text)
            needed = Status(NEEDS_ENCRYPTION.code, NEEDS_ENCRYPTION.enhanced, f"{NEEDS_ENCRYPTION.text}: {text}")
            raise _NextHost(demand.refused(status, needed), ours=True) from error
        self._hello(client)

    def _log_in(self, client: Client) -> None:
        host = self._relay.relay_host
        if host is None or not host.user:
            return
        reply = client.log_in(host.user, host.password.reveal())
        if reply.code != 235:  # mail must not bounce because our password is wrong
            raise _NextHost(Status(451, "4.7.8", f"The relay host does not let us in: {reply.code} {reply.lines[0]}"))


class _NextHost(Exception):
    """This host is no use now; another one may be."""

    def __init__(self, status: Status, *, ours: bool = False) -> None:
        super().__init__(str(status))
        # RFC 5321 section 4.2.1: what a host says before MAIL is about the host, not about the recipient
        kept = status.temporary or ours
        self.status = status if kept else Status(451, "4.4.0", f"{status.code} {status.text}")


class _TlsFailed(Exception):
    """The handshake failed; opportunistic TLS goes on without."""


def _lost(error: Broken) -> Status:
    return Status(LOST.code, LOST.enhanced, f"{LOST.text}: {error}")


def _unreachable(host: str, error: Exception) -> Status:
    return Status(NO_CONNECTION.code, NO_CONNECTION.enhanced, f"{host}: {error}")
