"""Addresses of the envelope: mailboxes as RFC 5321 writes them. Pure.

(What stands in header fields is `mailserver.mail.address`.)
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_LOCAL = (
    64  # RFC 5321 section 4.5.3.1.1, in octets; longer ones are in use (VERP, lists), so MAX_LENIENT is the bound
)
MAX_LENIENT = 255
MAX_DOMAIN = 255  # RFC 5321 section 4.5.3.1.2

# RFC 5321 section 4.1.2: Atom = 1*atext, Dot-string = Atom *("."  Atom); RFC 6531 section 3.3 adds UTF8-non-ascii.
# Leniency: dots may stand first, last or doubled; such addresses are in use.
_ATOMS = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.\x80-\U0010ffff]+"
# Quoted-string = DQUOTE *QcontentSMTP DQUOTE; qtextSMTP = %d32-33 / %d35-91 / %d93-126; quoted-pairSMTP = %d92 %d32-126
_QUOTED = r'"(?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*"'
# Domain = sub-domain *("." sub-domain). Leniency: "_" in a label, a dot at the end.
_LABEL = r"[A-Za-z0-9_\x80-\U0010ffff](?:[A-Za-z0-9_\-\x80-\U0010ffff]*[A-Za-z0-9_\x80-\U0010ffff])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
# address-literal = "[" ( IPv4 / "IPv6:" / General ) "]"
_LITERAL = r"\[[!-Z^-~]+\]"
_MAILBOX = re.compile(rf"(?P<local>{_ATOMS}|{_QUOTED})(?:@(?P<domain>{_DOMAIN}|{_LITERAL})\.?)?\Z")
_PLAIN = re.compile(rf"{_ATOMS}\Z")
_HOST = re.compile(rf"{_DOMAIN}\Z")


class BadAddress(ValueError):
    """This is no address."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox. ``local`` without quotes; ``domain`` as it came: a name, ``[literal]``, or "" where there was none."""

    local: str
    domain: str

    def __str__(self) -> str:
        local = self.local
        if not _PLAIN.match(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def ascii(self) -> bool:
        """Whether it can be said to a server without SMTPUTF8."""
        return self.local.isascii() and self.domain.isascii()

    def with_domain(self, domain: str) -> Address:
        """The same mailbox name elsewhere."""
        return Address(self.local, domain)


# RFC 5321 section 4.1.2: Mailbox = Local-part "@" ( Domain / address-literal )
def parse(text: str) -> Address:
    """Read a mailbox; one without domain has "" there. Raises `BadAddress`."""
    found = _MAILBOX.match(text)
    if found is None:
        raise BadAddress("not an address")
    local, domain = found["local"], found["domain"] or ""
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    if not local:
        raise BadAddress("empty local part")
    if len(local.encode()) > MAX_LENIENT or len(domain.encode()) > MAX_DOMAIN:
        raise BadAddress("address too long")
    if domain.startswith("["):
        domain = _literal(domain)
    return Address(local, domain)


# RFC 5321 section 4.1.3: IPv4-address-literal, IPv6-address-literal = "IPv6:" IPv6-addr
def _literal(text: str) -> str:
    inner = text[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError as error:
        raise BadAddress("not an address literal") from error


def literal_of(ip: str) -> str:
    """Write an IP address as a domain."""
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def is_host(text: str) -> bool:
    """Say whether ``text`` can be the name of a host or an address literal."""
    if text.startswith("["):
        try:
            _literal(text)
        except BadAddress:
            return False
        return text.endswith("]")
    return len(text) <= MAX_DOMAIN and _HOST.match(text) is not None


def normal_domain(domain: str) -> str:
    """Return the one spelling for comparing: lower case, A-labels."""
    domain = domain.lower().rstrip(".")
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode()
    except UnicodeError:
        return domain
