"""Where a domain's mail goes. RFC 5321 section 5: MX, else the domain's own addresses; RFC 7505: null MX."""

from __future__ import annotations

import ipaddress
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailserver.delivery import dns as dns_room
from mailserver.delivery.target import Refused, Status
from mailserver.mail.addrspec import normal_domain

if TYPE_CHECKING:
    import dns.resolver

MAX_HOSTS = 10  # of a domain: somebody with more of them tries our patience

NO_DOMAIN = Status(550, "5.1.2", "The domain does not exist")
NO_SERVER = Status(550, "5.4.4", "The domain has no mail server")
NULL_MX = Status(556, "5.1.10", "The domain takes no mail")  # RFC 7505 section 4.2
DNS_FAILED = Status(451, "4.4.3", "The domain cannot be looked up now")
TO_ITSELF = Status(554, "5.4.6", "The domain's mail server is this one, which does not know the domain")


@dataclass(frozen=True, slots=True)
class Route:
    """Hosts in the order in which to try them. ``secure``: their names are not from the net, or DNSSEC vouches."""

    hosts: list[str]
    secure: bool


class Resolver:
    """``ourselves``: names and addresses of this server. ``resolver``: dnspython's, None for the system's."""

    def __init__(self, ourselves: Sequence[str] = (), resolver: dns.resolver.Resolver | None = None) -> None:
        self._ourselves = {name.lower().rstrip(".") for name in ourselves}
        self._resolver = resolver
        self._lock = threading.Lock()

    def route(self, domain: str) -> Route:
        """Return where a domain's mail goes. Raises `Refused`."""
        if domain.startswith("["):
            return Route([domain[1:-1].lower().removeprefix("ipv6:")], True)
        domain = normal_domain(domain)
        found, secure = self._ask(domain, "MX")
        if not found:
            # RFC 5321 section 5.1: "as if it was associated with an implicit MX RR"
            return Route([domain], True)
        preferences = [(int(record.preference), str(record.exchange).rstrip(".").lower()) for record in found]
        if preferences == [(0, "")]:
            raise Refused(NULL_MX)
        return Route(self._ordered([(number, name) for number, name in preferences if name]), secure)

    # RFC 5321 section 5.1: lowest preference first, equals "MUST randomize them"; when this server is among them, it
    # and those that are no better are left out
    def _ordered(self, preferences: list[tuple[int, str]]) -> list[str]:
        ours = [number for number, name in preferences if name in self._ourselves]
        if ours:
            preferences = [(number, name) for number, name in preferences if number < min(ours)]
            if not preferences:
                raise Refused(TO_ITSELF)
        chosen = sorted(preferences, key=lambda pair: (pair[0], random.random()))  # noqa: S311 - only spreads the load
        return [name for _, name in chosen][:MAX_HOSTS]

    def addresses(self, host: str) -> list[str]:
        """Return the addresses of a host, IPv6 and IPv4, [] when it has none. Raises `Refused` (temporary)."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        if host == "localhost":
            return ["127.0.0.1", "::1"]
        failed: Refused | None = None
        found: list[str] = []
        for kind in ("AAAA", "A"):
            try:
                found += [str(record.address) for record in self._ask(host, kind)[0]]
            except Refused as error:
                failed = error
        if not found and failed is not None:
            raise failed
        return [address for address in found if address not in self._ourselves]

    def _asked(self) -> dns.resolver.Resolver:
        with self._lock:
            if self._resolver is None:
                self._resolver = dns_room.resolver()
            return self._resolver

    def _ask(self, name: str, kind: str) -> tuple[list[Any], bool]:
        """Return the records, and whether DNSSEC vouches for them. A CNAME on the way is followed."""
        import dns.exception
        import dns.flags
        import dns.resolver

        try:
            asked = self._asked()
            answer = asked.resolve(name + ".", kind, lifetime=20.0)
        except dns.resolver.NXDOMAIN as error:
            raise Refused(NO_DOMAIN) from error
        except dns.resolver.NoAnswer:
            return [], False
        except (dns.exception.DNSException, ValueError, OSError) as error:
            raise Refused(DNS_FAILED) from error
        validated = bool(answer.response.flags & dns.flags.AD)
        return list(answer), validated and dns_room.trusts_validation(asked)
