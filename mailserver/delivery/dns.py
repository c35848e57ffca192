"""The way to name servers: the system's, or those of the settings. With it a cache of its own, bounded."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dns.resolver

_CACHED = 10_000  # answers


def resolver(nameservers: Sequence[str] = ()) -> dns.resolver.Resolver:
    """Return dnspython's resolver; it asks ``nameservers`` ("address" or "address:port"), () for the system's.

    Raises ValueError for what is no address.
    """
    import dns.flags
    import dns.resolver  # 40 ms to import, and only who asks needs it

    made = dns.resolver.Resolver(configure=not nameservers)
    if nameservers:
        places = [split(text) for text in nameservers]
        made.nameservers = [address for address, _ in places]
        made.nameserver_ports = dict(places)
    made.cache = dns.resolver.LRUCache(_CACHED)
    made.set_flags(dns.flags.RD | dns.flags.AD)  # RFC 6840 section 5.7: AD asks whether the answer was validated
    return made


def split(text: str) -> tuple[str, int]:
    """Split "address", "address:port" or "[address]:port". Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = text, "53"
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


# RFC 6840 section 5.7, RFC 4035 section 4.9.3: the AD bit is worth as much as the way it came: only from this machine
def trusts_validation(asked: dns.resolver.Resolver) -> bool:
    """Say whether the resolver's word on DNSSEC may be believed."""
    return all(isinstance(one, str) and ipaddress.ip_address(one).is_loopback for one in asked.nameservers)
