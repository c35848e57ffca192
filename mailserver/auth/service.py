"""The authenticator: a name and a password in, an identity out. Knows users, passwords and throttling, no protocol.

An unknown user and a wrong password get the same answer after the same work: an unknown user's password is hashed
against a field of the kind most users have. Hashing happens outside every lock, by a few threads at a time: Argon2
takes memory.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

from mailserver.auth import passwords
from mailserver.auth.names import BadName, NameRules
from mailserver.auth.saslprep import spellings
from mailserver.auth.secret import Secret
from mailserver.auth.throttle import Throttle
from mailserver.auth.users import UserRecord, UserSource, UsersUnavailable
from mailserver.ops import log as logging
from mailserver.ops import metrics

QUEUE_SECONDS = 20.0  # a login waits so long for its turn to hash, then it is told to come again
CACHED = 4096  # right passwords remembered (as keyed digests), so that a client's further connections do not hash again
CACHED_SECONDS = 300.0


class AuthFailed(Exception):
    """No such user, or the wrong password: which of them is not said."""

    def __init__(self, text: str = "Authentication failed.") -> None:
        super().__init__(text)


class AuthUnavailable(Exception):
    """Nobody can be authenticated now; it is worth trying again later."""

    def __init__(self, text: str = "Temporary authentication failure.") -> None:
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a login comes from."""

    protocol: str
    address: str
    connection_id: str = ""
    tls: bool = False
    loopback: bool = False

    @property
    def id(self) -> str:
        """The connection's id, as a log line wants it."""
        return self.connection_id

    @property
    def peer(self) -> tuple[str, int]:
        """The address, as a log line wants it."""
        return (self.address, 0)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who logged in, by the canonical name."""

    user: str


@dataclass(frozen=True, slots=True)
class AuthRules:
    """What the settings say about logging in."""

    names: NameRules = field(default_factory=NameRules)
    allow_cleartext: bool = False
    allow_weak_schemes: bool = False
    delay_failures: bool = True


class _Remembered:
    """Right passwords of the last minutes, as digests under a key that only this process knows."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def digest(self, stored: str, password: bytes) -> bytes:
        text = stored.encode("utf-8", "surrogateescape") + b"\0" + password
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    def holds(self, digest: bytes) -> bool:
        return self._until.get(digest, 0.0) > time.monotonic()

    def add(self, digest: bytes) -> None:
        with self._lock:
            self._until[digest] = time.monotonic() + CACHED_SECONDS
            self._until.move_to_end(digest)
            if len(self._until) > CACHED:
                self._until.popitem(last=False)


class Authenticator:
    """See the module. One per program; make it before the workers are forked. May be used by all threads."""

    def __init__(self, users: UserSource, rules: AuthRules | None = None, throttle: Throttle | None = None) -> None:
        self._users = users
        self._rules = rules or AuthRules()
        self._throttle = throttle or Throttle()
        self._hashing = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))
        self._stopping = threading.Event()
        self._remembered = _Remembered()
        self._log = logging.get("auth")

    def allows_cleartext(self, tls: bool, loopback: bool) -> bool:
        """Say whether a password may be sent as it is."""
        return self._rules.allow_cleartext or tls or loopback

    def canonical(self, user: str) -> str:
        """Return the one spelling of a name; raises `mailserver.auth.names.BadName`."""
        return self._rules.names.canonical(user)

    def exists(self, user: str) -> bool:
        """Say whether mail for ``user`` (any spelling) has a home here. Raises `AuthUnavailable`."""
        try:
            return self._lookup(self.canonical(user)) is not None
        except BadName:
            return False

    def stop(self) -> None:
        """End the delays of throttled logins, so that the server can stop."""
        self._stopping.set()

    def resume(self) -> None:
        """Undo `stop`, for a server that is started again."""
        self._stopping.clear()

    def login(self, user: str, password: Secret, origin: Origin, mechanism: str = "PLAIN") -> Identity:
        """Return who ``user`` is, if ``password`` is right. Raises `AuthFailed`, `AuthUnavailable`."""
        name = self._begin(user, origin)
        record = self._lookup(name) if name else None
        begin = time.monotonic()
        right = any(self._verify(record, octets, name, origin) for octets in spellings(password.reveal()))
        metrics.AUTH_SECONDS.observe(time.monotonic() - begin)
        return self._conclude(right, record, user, password.reveal(), origin, mechanism)

    def apop(self, user: str, digest: str, challenge: str, origin: Origin) -> Identity:
        """Log in by APOP: only users whose password is stored as it is can. Raises as `login` does.

        RFC 1939 section 7: the digest is MD5 over the challenge, angle brackets included, and the password.
        """
        name = self._begin(user, origin)
        record = self._lookup(name) if name else None
        usable = record is not None and _may_come_from(record, origin.address)
        clear = passwords.cleartext_of(record.password_field) if record is not None and usable else None
        given = digest.lower().encode("utf-8", "replace")
        same = [
            hmac.compare_digest(_apop_digest(challenge, octets), given)
            # RFC 6856 section 2.2: SASLprep of a stored string; a client that knows nothing of it takes the octets
            for octets in spellings(clear or secrets.token_bytes(8), stored=True)
        ]
        right = any(same) and bool(clear)
        return self._conclude(right, record, user, digest.encode("utf-8", "replace"), origin, "APOP")

    def _begin(self, user: str, origin: Origin) -> str:
        """Wait as the throttle says; return the canonical name, or "" for what cannot be a name."""
        try:
            name = self.canonical(user)
        except BadName:
            name = ""
        if self._rules.delay_failures:
            delay = self._throttle.delay(origin.address, name, origin.loopback)
            if delay and self._stopping.wait(delay):
                raise AuthUnavailable
        return name

    def _lookup(self, name: str) -> UserRecord | None:
        try:
            return self._users.lookup(name)
        except UsersUnavailable as error:
            self._log.error("users-unavailable", reason=str(error))
            raise AuthUnavailable from error

    def _verify(self, record: UserRecord | None, password: bytes, name: str, origin: Origin) -> bool:
        usable = record is not None and bool(password) and _may_come_from(record, origin.address)
        stored = record.password_field if record is not None and usable else self._like_others
        digest = self._remembered.digest(stored, password)
        if usable and self._remembered.holds(digest):
            return True
        if not self._hashing.acquire(timeout=QUEUE_SECONDS):
            raise AuthUnavailable("Too many logins at once.")
        try:
            right = passwords.verify(stored, password, name, allow_weak=self._rules.allow_weak_schemes)
        except passwords.BadField as error:
            if not usable:
                return False
            self._log.error("password-field", origin, user=name, reason=str(error))
            raise AuthUnavailable from error
        finally:
            self._hashing.release()
        if right and usable:
            self._remembered.add(digest)
        return right and usable

    @property
    def _like_others(self) -> str:
        return self._users.sample_field() or self._dummy

    @cached_property
    def _dummy(self) -> str:
        return passwords.hash_new(secrets.token_bytes(16))

    def _conclude(
        self, right: bool, record: UserRecord | None, user: str, proof: bytes, origin: Origin, mechanism: str
    ) -> Identity:
        if right and record is not None:
            metrics.LOGINS.inc(protocol=origin.protocol, mechanism=mechanism)
            self._throttle.succeeded(origin.address, record.name)
            self._log.info("login", origin, user=record.name, method=mechanism, tls=origin.tls, service=origin.protocol)
            return Identity(record.name)
        metrics.AUTH_FAILURES.inc(protocol=origin.protocol)
        try:
            name = self.canonical(user)
        except BadName:
            name = ""
        self._throttle.failed(origin.address, name, proof, origin.loopback)
        self._log.warning("auth-failed", origin, user=user, method=mechanism, tls=origin.tls, service=origin.protocol)
        raise AuthFailed


def _apop_digest(challenge: str, password: bytes) -> bytes:
    return hashlib.md5(challenge.encode() + password, usedforsecurity=False).hexdigest().encode()


def _may_come_from(record: UserRecord, address: str) -> bool:
    """Obey ``nologin`` and ``allow_nets`` (networks separated by commas; ``local`` is a Unix socket)."""
    if "nologin" in record.extra:
        return False
    nets = record.extra.get("allow_nets", "")
    if not nets:
        return True
    if address == "unix":
        return "local" in nets.split(",")
    try:
        where = ipaddress.ip_address(address.partition("%")[0])
        return any(where in ipaddress.ip_network(net, strict=False) for net in nets.split(",") if net != "local")
    except ValueError:  # a network that is none: nobody is let in by mistake
        return False
