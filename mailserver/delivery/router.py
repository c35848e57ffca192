"""The router: from the address of a recipient to the places where its mail goes, here or elsewhere.

Only the last domain of an address decides. ``user%elsewhere@here``, ``elsewhere!user@here`` and
``"user@elsewhere"@here`` are names of users here, and there are none such; source routes were taken off by the grammar.
So nothing written in a local part makes this server send mail elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mailserver.auth.service import Authenticator, AuthUnavailable
from mailserver.auth.users import UsersUnavailable
from mailserver.delivery.aliases import Aliases
from mailserver.delivery.local import LocalDelivery
from mailserver.delivery.target import Delivery, DeliveryTarget, Envelope, Recipient, Refused, Status, new_id
from mailserver.mail.addrspec import Address, BadAddress, normal_domain, parse

# RFC 5321 section 4.5.1: postmaster must be supported; RFC 2142 section 4: abuse
ALWAYS_HERE = ("postmaster", "abuse")
MAX_DEPTH = 10  # aliases of aliases

UNKNOWN_USER = Status(550, "5.1.1", "No such user here")
RELAY_DENIED = Status(550, "5.7.1", "Relaying denied")
LOOKUP_FAILED = Status(451, "4.3.0", "The recipient cannot be looked up now")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about addresses. ``domains`` empty: ``hostname`` and localhost."""

    hostname: str = "localhost"
    domains: tuple[str, ...] = ()
    delimiter: str = "+"
    postmaster: str = ""  # user or address; "": the first user


class Router:
    """See the module. ``queue`` takes mail for other servers; without one there is none.

    ``first_user`` names the user who gets postmaster's mail when nobody else is named.
    """

    def __init__(
        self,
        rules: Rules,
        authenticator: Authenticator,
        local: DeliveryTarget,
        *,
        queue: DeliveryTarget | None = None,
        aliases: Aliases | None = None,
        first_user: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.rules = rules
        self._auth = authenticator
        self._local = local
        self.queue = queue
        self._aliases = aliases or Aliases()
        self._first_user = first_user
        # called with those who have a message in the mailbox and its header, when a report of that was asked for
        self.on_delivered: Callable[[Envelope, Sequence[Recipient], bytes], None] = lambda *_: None
        always = {"localhost", normal_domain(rules.hostname)}
        self._domains = frozenset(map(normal_domain, rules.domains)) or always
        self._neutral = always - {normal_domain(domain) for domain in rules.domains}

    @property
    def relays(self) -> bool:
        """Whether mail for other servers can be taken at all."""
        return self.queue is not None

    # -- where to

    def route(
        self, address: Address, *, may_relay: bool = False, here: str = "", notify: str = "", orcpt: str = ""
    ) -> list[Recipient]:
        """Return the places for ``address``. Raises `Refused`: unknown here, or elsewhere and not allowed.

        ``here``: our own address literal, on the connection the client uses.
        """
        try:
            return [
                Recipient(found.address, found.user, str(address), notify, orcpt)
                for found in self._resolve(address, may_relay, here)
            ]
        except (AuthUnavailable, UsersUnavailable, OSError) as error:
            raise Refused(LOOKUP_FAILED) from error

    def owns(self, user: str, address: Address) -> bool:
        """Say whether ``user`` may send as ``address``: mail for it reaches the user."""
        try:
            return any(recipient.user == user for recipient in self.route(address))
        except Refused:
            return False

    def _resolve(self, address: Address, may_relay: bool, here: str) -> list[Recipient]:
        if not self._is_here(address, here):
            if not may_relay or self.queue is None:
                raise Refused(RELAY_DENIED)
            return [Recipient(str(address))]
        if address.domain.startswith("["):  # our own address: as if no domain had been said
            address = address.with_domain("")
        found: dict[tuple[str, str], Recipient] = {}
        self._expand(address, found, frozenset(), 0)
        if not found:
            raise Refused(UNKNOWN_USER)
        return list(found.values())

    def _is_here(self, address: Address, here: str) -> bool:
        domain = normal_domain(address.domain)
        if not domain or domain in self._domains or domain == normal_domain(here):
            return True
        if domain in self._neutral:  # postmaster@ the host itself, beside the domains
            return True
        # nobody said which domains are ours: those in which users have their names
        return not self.rules.domains and "@" not in address.local and self._exists(f"{address.local}@{domain}")

    def _exists(self, name: str) -> bool:
        return self._auth.exists(name)

    def _expand(
        self, address: Address, found: dict[tuple[str, str], Recipient], above: frozenset[str], depth: int
    ) -> None:
        for local in self._spellings(address.local):
            full = f"{local}@{normal_domain(address.domain)}".lower()
            targets = () if full in above else self._aliased(full, local)
            user = "" if targets else self._user(local, address.domain)
            if targets or user:
                self._collect(targets, user, address, found, above | {full}, depth)
                return
        targets = self._fallback(address)
        if targets:
            self._collect(targets, "", address, found, above | {str(address).lower()}, depth)

    def _aliased(self, full: str, local: str) -> tuple[str, ...]:
        return self._aliases.lookup(full) or self._aliases.lookup(local)

    def _fallback(self, address: Address) -> tuple[str, ...]:
        """Whom mail for a name that is nobody's goes to."""
        if address.local.lower() in ALWAYS_HERE:
            name = self.rules.postmaster or self._first_user()
            return (name,) if name else ()
        return self._aliases.lookup(f"@{normal_domain(address.domain)}")

    def _collect(
        self,
        targets: Iterable[str],
        user: str,
        address: Address,
        found: dict[tuple[str, str], Recipient],
        above: frozenset[str],
        depth: int,
    ) -> None:
        if user:
            recipient = Recipient(str(address), user)
            found.setdefault(recipient.key, recipient)
        if depth >= MAX_DEPTH:
            return
        for target in targets:
            try:
                place = parse(target)
                # a name without domain is in the domain that it is written for
                place = place if place.domain else place.with_domain(address.domain)
                self._follow(place, found, above, depth)
            except BadAddress:
                continue  # what is written in the file is no address: the others still get the mail

    def _follow(
        self, target: Address, found: dict[tuple[str, str], Recipient], above: frozenset[str], depth: int
    ) -> None:
        if self._is_here(target, ""):
            known = f"{target.local}@{normal_domain(target.domain)}".lower() in above
            user = self._user(target.local, target.domain) if known else ""
            if user:
                recipient = Recipient(str(target), user)
                found.setdefault(recipient.key, recipient)
            elif not known:
                self._expand(target, found, above, depth + 1)
        elif self.queue is not None:
            recipient = Recipient(str(target))
            found.setdefault(recipient.key, recipient)

    # RFC 5233: user+detail is user's
    def _spellings(self, local: str) -> list[str]:
        delimiter = self.rules.delimiter
        base = local.partition(delimiter)[0] if delimiter else local
        return [local] if base == local or not base else [local, base]

    def _user(self, local: str, domain: str) -> str:
        """Return the user's canonical name, "" for nobody: ``local@domain``, or ``local`` if users have no domain."""
        if "@" in local:
            return ""
        domain = normal_domain(domain)
        if domain and self._exists(f"{local}@{domain}"):
            return self._auth.canonical(f"{local}@{domain}")
        if not self._exists(local):
            return ""
        name = self._auth.canonical(local)  # may have been given a default domain, which must then be the address's
        theirs = name.partition("@")[2]
        return name if not theirs or not domain or domain == theirs or domain in self._neutral else ""

    # -- delivering

    def start(self, envelope: Envelope) -> RoutedDelivery:
        """Begin a message for recipients of all kinds."""
        return RoutedDelivery(self, envelope)

    def target(self, recipient: Recipient, envelope: Envelope) -> DeliveryTarget:
        """Return who delivers to ``recipient``: the queue also for users here when the message is held (RFC 4865)."""
        if recipient.user and (not envelope.release or self.queue is None):
            return self._local
        if self.queue is None:
            raise Refused(RELAY_DENIED)
        return self.queue


class RoutedDelivery:
    """One message for several targets; see `mailserver.delivery.target.Delivery`."""

    def __init__(self, router: Router, envelope: Envelope) -> None:
        self._router = router
        self._envelope = envelope
        self._parts: dict[DeliveryTarget, Delivery] = {}
        self._seen: set[tuple[str, str]] = set()

    def recipient(self, recipient: Recipient) -> None:
        """Add a recipient; one place gets one copy."""
        if recipient.key in self._seen:
            return
        target = self._router.target(recipient, self._envelope)
        part = self._parts.get(target)
        if part is None:
            part = self._parts[target] = target.start(self._envelope)
        part.recipient(recipient)
        self._seen.add(recipient.key)

    def write(self, data: bytes) -> None:
        """Take octets; the first call has the whole header."""
        for part in self._parts.values():
            part.write(data)

    def commit(self) -> dict[Recipient, Status]:
        """Deliver to all targets; return what went wrong.

        The queue comes first: when it cannot take the message, nobody has a copy yet. When some mailboxes cannot, the
        queue takes their copies, so that the client need not send to the others again.
        """
        failed: dict[Recipient, Status] = {}
        for part in sorted(self._parts.values(), key=lambda part: isinstance(part, LocalDelivery)):
            if isinstance(part, LocalDelivery):
                part.keep = len(self._parts) > 1
            failed |= part.commit()
            if isinstance(part, LocalDelivery):
                delivered = [recipient for recipient in part.recipients if recipient not in failed]
                if failed and (delivered or len(self._parts) > 1) and not self._envelope.per_recipient:
                    failed = self._requeue(part, failed)
                if any("SUCCESS" in recipient.notify for recipient in delivered):
                    self._router.on_delivered(self._envelope, delivered, part.header)
        return failed

    def _requeue(self, part: LocalDelivery, failed: dict[Recipient, Status]) -> dict[Recipient, Status]:
        queue = self._router.queue
        if queue is None:
            return failed
        # a name of its own: under the envelope's the copies for other servers may lie there already
        again = queue.start(replace(self._envelope, id=new_id()))
        try:
            for recipient in failed:
                again.recipient(recipient)
            for data in part.octets():
                again.write(data)
            return again.commit()
        finally:
            again.abort()

    def abort(self) -> None:
        """Forget everything."""
        for part in self._parts.values():
            part.abort()
