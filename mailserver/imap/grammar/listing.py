"""LIST with all its options, and LSUB."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.mailbox import status_items
from mailserver.imap.grammar.syntax import end, list_mailbox, mailbox, more, parenthesized, space, word

SELECTION_OPTIONS = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
RETURN_OPTIONS = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "STATUS", "MYRIGHTS"})


@dataclass(frozen=True, slots=True)
class List:
    """LIST. ``extended`` when anything was used that RFC 3501 does not have; options in capitals."""

    reference: bytes
    patterns: tuple[bytes, ...]
    extended: bool = False
    select: frozenset[str] = frozenset()
    returns: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()  # the items of RETURN (STATUS (...))


@dataclass(frozen=True, slots=True)
class Lsub:
    """LSUB."""

    reference: bytes
    pattern: bytes


# RFC 9051 section 9: list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
def listing(c: Cursor) -> List:
    """Read LIST."""
    space(c)
    extended = c.at(b"(")
    select: frozenset[str] = frozenset()
    if extended:
        select = _selection(c)
        space(c)
    reference = mailbox(c, "a reference name")
    space(c)
    # RFC 5258 section 6: patterns = "(" list-mailbox *(SP list-mailbox) ")"
    if c.at(b"("):
        extended = True
        patterns = tuple(parenthesized(c, list_mailbox, "patterns"))
    else:
        patterns = (list_mailbox(c),)
    if not more(c):
        return List(reference, patterns, extended, select)
    space(c)
    returns, items = _returns(c)
    end(c)
    return List(reference, patterns, True, select, returns, items)


# RFC 9051 section 9: lsub = "LSUB" SP mailbox SP list-mailbox  (RFC 3501 section 9)
def lsub(c: Cursor) -> Lsub:
    """Read LSUB."""
    space(c)
    reference = mailbox(c, "a reference name")
    space(c)
    pattern = list_mailbox(c)
    end(c)
    return Lsub(reference, pattern)


# RFC 9051 section 9: list-select-opts
# "If a list-select-mod-opt appears, then a list-select-base-opt must also appear."
def _selection(c: Cursor) -> frozenset[str]:
    start = c.pos
    options = frozenset(parenthesized(c, _selection_option, "selection options", empty=True))
    if "RECURSIVEMATCH" in options and "SUBSCRIBED" not in options:
        c.pos = start
        c.expected("SUBSCRIBED together with RECURSIVEMATCH")
    return options


def _selection_option(c: Cursor) -> str:
    start = c.pos
    option = word(c, "a selection option")
    if option not in SELECTION_OPTIONS:
        c.pos = start
        c.expected("a selection option that this server knows")
    return option


# RFC 9051 section 9: list-return-opts = "RETURN" SP "(" [list-return-opt *(SP list-return-opt)] ")"
def _returns(c: Cursor) -> tuple[frozenset[str], tuple[str, ...]]:
    start = c.pos
    if word(c, "RETURN") != "RETURN":
        c.pos = start
        c.expected("RETURN")
    space(c)
    options = parenthesized(c, _return_option, "return options", empty=True)
    items = next((items for name, items in options if name == "STATUS"), ())
    return frozenset(name for name, _ in options), items


# RFC 9051 section 9: return-option = "SUBSCRIBED" / "CHILDREN" / status-option / option-extension
# RFC 5819 section 4: status-option = "STATUS" SP "(" status-att *(SP status-att) ")"
def _return_option(c: Cursor) -> tuple[str, tuple[str, ...]]:
    start = c.pos
    option = word(c, "a return option")
    if option not in RETURN_OPTIONS:
        c.pos = start
        c.expected("a return option that this server knows")
    if option != "STATUS":
        return option, ()
    space(c)
    return option, status_items(c)
