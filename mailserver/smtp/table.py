"""THE table: what each command is called, how it is read, what it does, and when it is allowed.

What EHLO says is `mailserver.smtp.extensions`. The order of commands is RFC 5321 section 4.1.4; "anything the loop asks
of a command is a column".
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailserver.delivery.target import Status
from mailserver.smtp import extensions, grammar
from mailserver.smtp.commands import auth, data, hello, other, starttls, transaction
from mailserver.smtp.context import Flavour

if TYPE_CHECKING:
    from mailserver.smtp.session import Session


class Trait(enum.Flag):
    """What the session must know of a command."""

    NONE = 0
    LONG = enum.auto()  # its line carries a SASL response: RFC 4954 section 4
    HELLO = enum.auto()  # only behind EHLO, HELO or LHLO
    MAIL = enum.auto()  # only within a transaction
    LOGIN = enum.auto()  # at submission only after login: RFC 6409 section 4.3


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A row. ``run`` returns the reply, or None when it has answered itself."""

    parse: Callable[[bytes], Any]
    run: Callable[[Session, Any], Status | None]
    traits: Trait = Trait.NONE


_IN_MAIL = Trait.HELLO | Trait.LOGIN | Trait.MAIL
_COMMON: Mapping[str, CommandSpec] = {
    # RFC 5321 section 4.1.1
    "MAIL": CommandSpec(grammar.mail, transaction.mail, Trait.HELLO | Trait.LOGIN),
    "RCPT": CommandSpec(grammar.rcpt, transaction.rcpt, _IN_MAIL),
    "DATA": CommandSpec(grammar.nothing, data.data, _IN_MAIL),
    "RSET": CommandSpec(grammar.nothing, transaction.reset),
    "NOOP": CommandSpec(grammar.anything, other.noop),
    "HELP": CommandSpec(grammar.anything, other.assist),
    "VRFY": CommandSpec(grammar.something, other.verify),
    "EXPN": CommandSpec(grammar.something, other.verify),
    "QUIT": CommandSpec(grammar.nothing, other.leave),
    # RFC 3030 section 2; asks for its transaction itself: the chunk must be read in any case
    "BDAT": CommandSpec(grammar.chunk, data.bdat),
    # RFC 3207, RFC 4954
    "STARTTLS": CommandSpec(grammar.nothing, starttls.start_tls, Trait.HELLO),
    "AUTH": CommandSpec(grammar.auth, auth.authenticate, Trait.HELLO | Trait.LONG),
}
_SMTP: Mapping[str, CommandSpec] = {
    "EHLO": CommandSpec(grammar.hello, hello.extended),
    "HELO": CommandSpec(grammar.hello, hello.plain),
    **_COMMON,
}
_LMTP: Mapping[str, CommandSpec] = {"LHLO": CommandSpec(grammar.hello, hello.extended), **_COMMON}


def table_of(flavour: Flavour, disabled: frozenset[str] = frozenset()) -> Mapping[str, CommandSpec]:
    """Return the commands of SMTP or of LMTP (RFC 2033 section 4.1: LHLO in place of EHLO and HELO).

    Those of extensions that are ``disabled`` answer that they are not implemented.
    """
    table = _LMTP if flavour.lmtp else _SMTP
    if not disabled:
        return table
    gone = CommandSpec(bytes, other.not_implemented)
    return {verb: gone if extensions.switched_off(verb, disabled) else spec for verb, spec in table.items()}
