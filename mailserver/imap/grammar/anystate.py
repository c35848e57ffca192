"""CAPABILITY, NOOP, LOGOUT, ID, ENABLE, and every command without arguments."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import atom, end, more, nil, nstring, space, string


@dataclass(frozen=True, slots=True)
class NoArguments:
    """A command that is only its name."""


@dataclass(frozen=True, slots=True)
class Id:
    """What the client says about itself; None: ``ID NIL``. Keys in small letters."""

    parameters: tuple[tuple[bytes, bytes | None], ...] | None


@dataclass(frozen=True, slots=True)
class Enable:
    """Capabilities to be enabled, in capitals."""

    capabilities: tuple[str, ...]


_NOTHING = NoArguments()


# RFC 9051 section 9: command-any = "CAPABILITY" / "LOGOUT" / "NOOP"
def nothing(c: Cursor) -> NoArguments:
    """Read nothing: CAPABILITY, NOOP, LOGOUT, STARTTLS, NAMESPACE, CHECK, CLOSE, UNSELECT, EXPUNGE, IDLE."""
    end(c)
    return _NOTHING


# RFC 2971 section 4
# id             ::= "ID" SPACE id_params_list
# id_params_list ::= "(" #(string SPACE nstring) ")" / nil
def identify(c: Cursor) -> Id:
    """Read ID."""
    space(c)
    if nil(c):
        end(c)
        return Id(None)
    c.take(b"(", '"(" or NIL')
    parameters: list[tuple[bytes, bytes | None]] = []
    while not c.skip(b")"):
        if parameters:
            space(c)
        key = string(c, "the name of a field")
        space(c)
        parameters.append((key.lower(), nstring(c)))
    end(c)
    return Id(tuple(parameters))


# RFC 5161 section 4: enable = "ENABLE" 1*(SP capability)
def enable(c: Cursor) -> Enable:
    """Read ENABLE."""
    names: list[str] = []
    while not names or more(c):
        space(c)
        names.append(atom(c, "the name of a capability").decode("ascii").upper())
    end(c)
    return Enable(tuple(names))
