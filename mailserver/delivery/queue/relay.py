"""One attempt to hand a message to another server: which hosts, which protection, what it answered.

Opportunistic TLS (RFC 7435): where STARTTLS is offered it is used, whatever the certificate; when the handshake fails,
the next try is in clear. With a relay host that wants a login, TLS and a right certificate are demanded.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailserver.auth.secret import Secret
from mailserver.delivery.queue.resolver import NO_SERVER, Resolver
from mailserver.delivery.target import Envelope, Recipient, Refused, Status
from mailserver.mail.addrspec import normal_domain

CONNECT_SECONDS = 60.0
REPLY_SECONDS = 600.0  # RFC 5321 section 4.5.3.2.6: 10 minutes for the reply to the end of the data
_CHUNK = 1 << 17
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})[ \t]+")

NO_CONNECTION = Status(451, "4.4.1", "No mail server of the domain could be reached")
LOST = Status(451, "4.4.2", "The connection was lost")
NEEDS_UTF8 = Status(553, "5.6.7", "The next mail server does not know SMTPUTF8")
TOO_BIG = Status(552, "5.3.4", "Too big for the next mail server")
NO_TLS = Status(451, "4.7.5", "The relay host offers no TLS, so no password is sent")


@dataclass(frozen=True, slots=True)
class RelayHost:
    """The server that takes everything. ``tls``: auto, implicit or never."""

    host: str
    port: int = 25
    user: str = ""
    password: Secret = field(default_factory=lambda: Secret(b""))
    tls: str = "auto"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient. ``peer`` is who said it; ``dsn``: the peer reports to the sender itself."""

    status: Status
    peer: str = ""
    dsn: bool = False


class Relay:
    """``port``: where the hosts of MX records listen."""

    def __init__(
        self,
        hostname: str,
        resolver: Resolver,
        relay_host: RelayHost | None = None,
        *,
        port: int = 25,
        connect_seconds: float = CONNECT_SECONDS,
        reply_seconds: float = REPLY_SECONDS,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._hostname = hostname
        self._resolver = resolver
        self._relay_host = relay_host
        self._port = port
        self._connect_seconds = connect_seconds
        self._reply_seconds = reply_seconds
        self._verifying = context or ssl.create_default_context()
        self._unverified = ssl.create_default_context()
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE

    def destination(self, recipient: Recipient) -> str:
        """Return what recipients of one attempt have in common; connections are limited by it."""
        if self._relay_host is not None:
            return self._relay_host.host
        return normal_domain(recipient.address.rpartition("@")[2])

    def deliver(self, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]) -> list[Outcome]:
        """Try once; return an outcome for each recipient, in order. Never raises for what a server or the net does."""
        try:
            return self._try_hosts(envelope, path, size, recipients)
        except Refused as refused:
            return [Outcome(refused.status)] * len(recipients)

    def _try_hosts(self, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]) -> list[Outcome]:
        last: Outcome | None = None
        for host, address in self._places(self.destination(recipients[0])):
            try:
                with self._connected(host, address) as peer:
                    return _Transfer(peer, envelope, path, size, recipients, host).run()
            except _NextHost as error:
                failed = Outcome(error.status, host)
            except (smtplib.SMTPException, OSError) as error:
                failed = Outcome(Status(LOST.code, LOST.enhanced, f"{LOST.text}: {error}"), host)
            # what a server said tells more than that another one could not be reached
            if last is None or last.status.enhanced == NO_CONNECTION.enhanced:
                last = failed
        return [last or Outcome(NO_SERVER)] * len(recipients)

    def _places(self, destination: str) -> Iterator[tuple[str, str]]:
        """Yield hosts and their addresses in the order to try. Raises `Refused` when there are none."""
        relay = self._relay_host
        hosts = [relay.host] if relay is not None else self._resolver.hosts(destination)
        found, failed = False, None
        for host in hosts:
            try:
                addresses = self._resolver.addresses(host)
            except Refused as refused:
                failed = refused
                continue
            for address in addresses:
                found = True
                yield host, address
        if not found:
            raise failed or Refused(NO_SERVER)

    @contextlib.contextmanager
    def _connected(self, host: str, address: str) -> Iterator[_Peer]:
        peer = self._connect(host, address, tls=True)
        try:
            yield peer
        finally:
            with contextlib.suppress(smtplib.SMTPException, OSError):  # the message has its answer already
                if peer.sock is not None:
                    peer.sock.settimeout(10.0)
                    peer.quit()
            peer.close()

    def _connect(self, host: str, address: str, *, tls: bool) -> _Peer:
        relay = self._relay_host
        peer = _Peer(host, self._hostname, self._connect_seconds, self._verifying if _implicit(relay) else None)
        try:
            code, text = peer.connect(address, relay.port if relay is not None else self._port)
            if code != 220:
                raise _NextHost(_status(code, text))
            self._hello(peer)
            if tls and not (relay is not None and relay.tls == "never") and not _implicit(relay):
                self._start_tls(peer)
            self._log_in(peer)
            assert peer.sock is not None
            peer.sock.settimeout(self._reply_seconds)
        except _TlsFailed:
            peer.close()
            return self._connect(host, address, tls=False)
        except (smtplib.SMTPException, OSError) as error:
            peer.close()
            raise _NextHost(Status(NO_CONNECTION.code, NO_CONNECTION.enhanced, f"{host}: {error}")) from error
        except BaseException:
            peer.close()
            raise
        return peer

    def _hello(self, peer: _Peer) -> None:
        code, text = peer.ehlo()
        if code >= 500:
            code, text = peer.helo()
        if code != 250:
            raise _NextHost(_status(code, text))

    def _start_tls(self, peer: _Peer) -> None:
        if not peer.has_extn("starttls"):
            return
        demanded = self._relay_host is not None and bool(self._relay_host.user)
        try:
            code, _ = peer.starttls(context=self._verifying if demanded else self._unverified)
        except (smtplib.SMTPException, OSError, ValueError) as error:
            if demanded:
                raise _NextHost(Status(451, "4.7.5", f"TLS: {error}")) from error
            raise _TlsFailed from error
        if code == 220:
            self._hello(peer)

    def _log_in(self, peer: _Peer) -> None:
        relay = self._relay_host
        if relay is None or not relay.user:
            return
        if not isinstance(peer.sock, ssl.SSLSocket) and relay.tls != "never":
            raise _NextHost(NO_TLS)
        try:
            peer.login(relay.user, relay.password.reveal().decode())
        except smtplib.SMTPException as error:  # mail must not bounce because our password is wrong
            raise _NextHost(Status(451, "4.7.8", f"The relay host does not let us in: {error}")) from error


def _implicit(relay: RelayHost | None) -> bool:
    return relay is not None and relay.tls == "implicit"


class _NextHost(Exception):
    """This host is no use now; another one may be."""

    def __init__(self, status: Status) -> None:
        super().__init__(str(status))
        # RFC 5321 section 4.2.1: what a host says before MAIL is about the host, not about the recipient
        self.status = status if status.temporary else Status(451, "4.4.0", f"{status.code} {status.text}")


class _TlsFailed(Exception):
    """The handshake failed; opportunistic TLS goes on without."""


class _Peer(smtplib.SMTP):
    """smtplib's client; ``host`` is the name that TLS looks for, whatever address is connected to."""

    def __init__(self, host: str, hostname: str, seconds: float, implicit: ssl.SSLContext | None) -> None:
        super().__init__(local_hostname=hostname, timeout=seconds)
        self._host = host
        self._implicit = implicit

    def connect(self, host: str = "", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        """Connect to the address ``host``."""
        name = self._host
        answer = super().connect(host, port, source_address)
        self._host = name
        return answer

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        sock = super()._get_socket(host, port, timeout)  # type: ignore[misc]  # typeshed leaves it out
        if self._implicit is not None:
            return self._implicit.wrap_socket(sock, server_hostname=self._host)
        return sock


class _Transfer:
    """MAIL to the end of the data."""

    def __init__(
        self,
        peer: _Peer,
        envelope: Envelope,
        path: str,
        size: int,
        recipients: Sequence[Recipient],
        host: str,
    ) -> None:
        self._peer = peer
        self._envelope = envelope
        self._path = path
        self._size = size
        self._recipients = recipients
        self._host = host
        self._dsn = peer.has_extn("dsn")

    def run(self) -> list[Outcome]:
        """Return the outcomes. Raises smtplib's exceptions and `OSError` when the connection breaks."""
        refused = self._cannot() or self._say(f"MAIL FROM:<{self._envelope.sender}>{self._mail_parameters()}")
        if not refused.ok:
            return [Outcome(refused, self._host)] * len(self._recipients)
        statuses = [self._say(f"RCPT TO:<{r.address}>{self._rcpt_parameters(r)}") for r in self._recipients]
        if any(status.ok for status in statuses):
            final = self._data()
            statuses = [final if status.ok else status for status in statuses]
        return [Outcome(status, self._host, self._dsn) for status in statuses]

    def _cannot(self) -> Status | None:
        peer = self._peer
        addresses = [self._envelope.sender, *(r.address for r in self._recipients)]
        utf8 = self._envelope.utf8 or not all(address.isascii() for address in addresses)
        if utf8 and not peer.has_extn("smtputf8"):
            return NEEDS_UTF8
        limit = peer.esmtp_features.get("size", "")
        if limit.isdigit() and 0 < int(limit) < self._size:  # RFC 1870 section 6: 0 is no limit
            return TOO_BIG
        return None

    def _mail_parameters(self) -> str:
        peer, envelope = self._peer, self._envelope
        words = [f"SIZE={self._size}"] if peer.has_extn("size") else []
        if envelope.body == "8BITMIME" and peer.has_extn("8bitmime"):
            words.append("BODY=8BITMIME")
        if envelope.utf8:
            words.append("SMTPUTF8")
        if self._dsn and envelope.ret:
            words.append(f"RET={envelope.ret}")
        if self._dsn and envelope.envid:
            words.append(f"ENVID={_xtext(envelope.envid)}")
        return "".join(f" {word}" for word in words)

    # RFC 3461 section 5.2.1: parameters go along to a server that knows them
    def _rcpt_parameters(self, recipient: Recipient) -> str:
        if not self._dsn:
            return ""
        words = f" NOTIFY={recipient.notify}" if recipient.notify else ""
        kind, _, text = recipient.orcpt.partition(";")
        return words + (f" ORCPT={kind};{_xtext(text)}" if text and text.isascii() else "")

    def _say(self, line: str) -> Status:
        self._peer.send(line.encode() + b"\r\n")
        return _status(*self._peer.getreply())

    def _data(self) -> Status:
        status = self._say("DATA")
        if status.code != 354:
            return status if not status.ok else LOST
        for piece in stuffed(self._path):
            self._peer.send(piece)
        return _status(*self._peer.getreply())


# RFC 5321 section 4.5.2: a period at the beginning of a line is doubled
def stuffed(path: str) -> Iterator[bytes]:
    """Yield the octets of a file as DATA wants them, the end included. The file's lines end with CRLF."""
    last = b"\r\n"
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            out = data.replace(b"\r\n.", b"\r\n..")
            if last == b"\r\n" and data.startswith(b"."):
                out = b"." + out
            elif last.endswith(b"\r") and data.startswith(b"\n."):
                out = b"\n." + out[1:]
            yield out
            last = (last + data[-2:])[-2:]
    yield b".\r\n" if last == b"\r\n" else b"\r\n.\r\n"


def _status(code: int, text: bytes) -> Status:
    if code < 0:  # smtplib's way to say that the connection ended
        return LOST
    words = text.decode("utf-8", "replace")
    found = _ENHANCED.match(words)
    enhanced = found[1] if found is not None else f"{str(code)[0]}.0.0"
    if enhanced[0] != str(code)[0]:
        enhanced = f"{str(code)[0]}.0.0"
    cleaned = "\n".join(_ENHANCED.sub("", line, count=1) for line in words.splitlines())
    return Status(code, enhanced, cleaned[:500])


def _xtext(text: str) -> str:
    return "".join(chr(o) if 33 <= o <= 126 and o not in b"+=" else f"+{o:02X}" for o in text.encode())
