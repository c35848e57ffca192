"""THE table: what each command is called, how it is read, what it does, when it is allowed, and what EHLO says of it.

The order of commands is RFC 5321 section 4.1.4; "anything the loop asks of a command is a column".
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailserver.delivery.target import Status
from mailserver.smtp import grammar
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
    """A row. ``run`` returns the reply, or None when it has answered itself; ``keyword`` gives the EHLO line or ""."""

    parse: Callable[[bytes], Any]
    run: Callable[[Session, Any], Status | None]
    traits: Trait = Trait.NONE
    keyword: Callable[[Session], str] | None = None


def _always(line: str) -> Callable[[Session], str]:
    return lambda session: line


def _size(session: Session) -> str:
    return f"SIZE {session.context.options.max_message_size}"


def _limits(session: Session) -> str:
    return f"LIMITS RCPTMAX={session.context.options.max_recipients}"


def _dsn(session: Session) -> str:
    return "DSN" if session.context.router.relays else ""  # RFC 3461: reports must have a way to their readers


_IN_MAIL = Trait.HELLO | Trait.LOGIN | Trait.MAIL
_COMMON: Mapping[str, CommandSpec] = {
    # RFC 5321 section 4.1.1
    "MAIL": CommandSpec(grammar.mail, transaction.mail, Trait.HELLO | Trait.LOGIN, _size),
    "RCPT": CommandSpec(grammar.rcpt, transaction.rcpt, _IN_MAIL, _limits),  # RFC 9422
    "DATA": CommandSpec(grammar.nothing, data.data, _IN_MAIL, _dsn),
    "RSET": CommandSpec(grammar.nothing, transaction.reset),
    "NOOP": CommandSpec(grammar.anything, other.noop),
    "HELP": CommandSpec(grammar.anything, other.assist, keyword=_always("HELP")),
    "VRFY": CommandSpec(grammar.something, other.verify),
    "EXPN": CommandSpec(grammar.something, other.verify),
    "QUIT": CommandSpec(grammar.nothing, other.leave),
    # RFC 3030 section 2; asks for its transaction itself: the chunk must be read in any case
    "BDAT": CommandSpec(grammar.chunk, data.bdat, keyword=_always("CHUNKING")),
    # RFC 3207, RFC 4954
    "STARTTLS": CommandSpec(grammar.nothing, starttls.start_tls, Trait.HELLO, starttls.keyword),
    "AUTH": CommandSpec(grammar.auth, auth.authenticate, Trait.HELLO | Trait.LONG, auth.keyword),
}
_SMTP: Mapping[str, CommandSpec] = {
    "EHLO": CommandSpec(grammar.hello, hello.extended),
    "HELO": CommandSpec(grammar.hello, hello.plain),
    **_COMMON,
}
_LMTP: Mapping[str, CommandSpec] = {"LHLO": CommandSpec(grammar.hello, hello.extended), **_COMMON}

# What is announced and is no command: RFC 2920, 2034, 6152, 6531
PROPERTIES = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8")


def table_of(flavour: Flavour) -> Mapping[str, CommandSpec]:
    """Return the commands of SMTP or of LMTP (RFC 2033 section 4.1: LHLO in place of EHLO and HELO)."""
    return _LMTP if flavour.lmtp else _SMTP


def keywords(session: Session) -> list[str]:
    """Return the lines of EHLO: those of the table that are true now, then those that are no command."""
    lines = [spec.keyword(session) for spec in table_of(session.context.flavour).values() if spec.keyword is not None]
    return [line for line in [*PROPERTIES, *lines] if line]
