"""Blocklists in the DNS. RFC 5782: the address backwards, in front of the list's zone; an answer in 127/8 is a yes."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailserver.ops import log as logging

if TYPE_CHECKING:
    import dns.resolver

SECONDS = 3.0  # for an answer; a list that is silent lets everybody in

_YES = ipaddress.ip_network("127.0.0.0/8")
# what lists answer to those whom they do not want to answer (a public resolver, too many questions)
_REFUSED = ipaddress.ip_network("127.255.255.0/24")
_log = logging.get("smtp")


class Blocklists:
    """``zones`` in the order in which they are asked; the first yes counts. May be used by several threads."""

    def __init__(self, zones: Sequence[str], resolver: dns.resolver.Resolver) -> None:
        self._zones = [zone.strip(".") for zone in zones]
        self._resolver = resolver

    def listed(self, address: str) -> str:
        """Return the zone that lists ``address``, "" for none."""
        name = reversed_name(address)
        return next((zone for zone in self._zones if name and self._asked(f"{name}.{zone}.", zone)), "")

    def _asked(self, name: str, zone: str) -> bool:
        import dns.exception
        import dns.resolver

        try:
            answer = self._resolver.resolve(name, "A", lifetime=SECONDS)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return False
        except (dns.exception.DNSException, OSError) as error:
            _log.warning("dnsbl-failed", zone=zone, reason=str(error)[:200])
            return False
        found = [ipaddress.ip_address(str(record.address)) for record in answer]
        if any(address in _REFUSED for address in found):
            _log.warning("dnsbl-failed", zone=zone, reason="the list does not want our questions")
            return False
        return any(address in _YES for address in found)


# RFC 5782 section 2.1, RFC 5782 section 2.4: octets, or nibbles of IPv6, backwards
def reversed_name(address: str) -> str:
    """Return the address as lists want it, "" for what is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    return found.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
