"""Where a domain's mail goes. RFC 5321 section 5: MX, else the domain's own addresses; RFC 7505: null MX."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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


class Resolver:
    """``ourselves``: names and addresses of this server. ``resolver``: dnspython's, None for the system's."""

    def __init__(self, ourselves: Sequence[str] = (), resolver: dns.resolver.Resolver | None = None) -> None:
        self._ourselves = {name.lower().rstrip(".") for name in ourselves}
        self._resolver = resolver

    def hosts(self, domain: str) -> list[str]:
        """Return names of hosts, or addresses, in the order in which to try them. Raises `Refused`."""
        if domain.startswith("["):
            return [domain[1:-1].lower().removeprefix("ipv6:")]
        domain = normal_domain(domain)
        found = self._ask(domain, "MX")
        if not found:
            return [domain]  # RFC 5321 section 5.1: "as if it was associated with an implicit MX RR"
        preferences = [(int(record.preference), str(record.exchange).rstrip(".").lower()) for record in found]
        if preferences == [(0, "")]:
            raise Refused(NULL_MX)
        return self._ordered([(number, name) for number, name in preferences if name])

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
                found += [str(record.address) for record in self._ask(host, kind)]
            except Refused as error:
                failed = error
        if not found and failed is not None:
            raise failed
        return [address for address in found if address not in self._ourselves]

    def _ask(self, name: str, kind: str) -> list[Any]:
        import dns.exception
        import dns.resolver  # 40 ms to import, and only who sends mail elsewhere needs it

        resolver = self._resolver or dns.resolver.get_default_resolver()
        try:
            answer = resolver.resolve(name + ".", kind, lifetime=20.0)
        except dns.resolver.NXDOMAIN as error:
            raise Refused(NO_DOMAIN) from error
        except dns.resolver.NoAnswer:
            return []
        except (dns.exception.DNSException, ValueError, OSError) as error:
            raise Refused(DNS_FAILED) from error
        return list(answer)
