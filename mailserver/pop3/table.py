"""Every command: how its argument is read, what it does, in which state, and what CAPA says of it.

The table is the state machine (RFC 1939 section 3: AUTHORIZATION, TRANSACTION; UPDATE is what QUIT does).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailserver.pop3 import commands, login, parse

if TYPE_CHECKING:
    from mailserver.pop3.session import Session


class State(enum.Enum):
    """Where a session is."""

    AUTHORIZATION = enum.auto()
    TRANSACTION = enum.auto()


class Trait(enum.Flag):
    """What the session must know of a command beside its state."""

    NONE = 0
    LONG = enum.auto()  # its line may be longer than RFC 2449 section 4 allows: it carries a SASL response


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A row. ``capability`` gives the CAPA line, "" when it is not available on this connection."""

    parse: Callable[[bytes], Any]
    run: Callable[[Session, Any], None]
    states: frozenset[State]
    traits: Trait = Trait.NONE
    capability: Callable[[Session], str] | None = None


AUTHORIZATION = frozenset({State.AUTHORIZATION})
TRANSACTION = frozenset({State.TRANSACTION})
BOTH = AUTHORIZATION | TRANSACTION


def _always(line: str) -> Callable[[Session], str]:
    return lambda session: line


TABLE: Mapping[str, CommandSpec] = {
    # RFC 1939 section 5
    "STAT": CommandSpec(parse.nothing, commands.stat, TRANSACTION),
    "LIST": CommandSpec(parse.maybe_number, commands.listing, TRANSACTION),
    "RETR": CommandSpec(parse.number, commands.retrieve, TRANSACTION),
    "DELE": CommandSpec(parse.number, commands.delete, TRANSACTION),
    "NOOP": CommandSpec(parse.nothing, commands.noop, TRANSACTION),
    "RSET": CommandSpec(parse.nothing, commands.reset, TRANSACTION),
    "QUIT": CommandSpec(parse.nothing, commands.leave, BOTH),
    # RFC 1939 section 7; in CAPA: RFC 2449 section 6
    "TOP": CommandSpec(parse.top, commands.top, TRANSACTION, capability=_always("TOP")),
    "UIDL": CommandSpec(parse.maybe_number, commands.uidl, TRANSACTION, capability=_always("UIDL")),
    "USER": CommandSpec(parse.user, login.user, AUTHORIZATION, capability=login.user_capability),
    "PASS": CommandSpec(parse.password, login.password, AUTHORIZATION),
    "APOP": CommandSpec(parse.apop, login.apop, AUTHORIZATION),
    # RFC 2449 section 5
    "CAPA": CommandSpec(parse.nothing, commands.capabilities, BOTH),
    # RFC 2595 section 4
    "STLS": CommandSpec(parse.nothing, login.start_tls, AUTHORIZATION, capability=login.tls_capability),
    # RFC 5034 section 4
    "AUTH": CommandSpec(parse.auth, login.authenticate, AUTHORIZATION, Trait.LONG, login.sasl_capability),
    # RFC 6856
    "UTF8": CommandSpec(parse.nothing, commands.utf8, AUTHORIZATION, capability=_always("UTF8 USER")),
    "LANG": CommandSpec(parse.language, commands.language, BOTH, capability=_always("LANG")),
}

# What is announced and is no command: RFC 2449 section 6, RFC 3206 section 4
PROPERTIES = ("RESP-CODES", "AUTH-RESP-CODE", "PIPELINING")


# RFC 2449 section 5: "Capabilities available in the AUTHORIZATION state MUST be announced in both states."
def announced(session: Session) -> list[str]:
    """Return the lines of CAPA: those of the table, then those that are no command."""
    lines = [spec.capability(session) for spec in TABLE.values() if spec.capability is not None]
    options = session.context.options
    lines += PROPERTIES
    lines.append(f"EXPIRE {options.expire_days or 'NEVER'}")
    if options.login_delay:
        lines.append(f"LOGIN-DELAY {options.login_delay}")
    return [line for line in [*lines, f"IMPLEMENTATION {session.implementation}"] if line]
