"""GETQUOTA, GETQUOTAROOT, SETQUOTA."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import MAX_NUMBER64, astring, atom, end, mailbox, number, parenthesized, space


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA."""

    root: bytes


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT."""

    name: bytes


@dataclass(frozen=True, slots=True)
class SetQuota:
    """SETQUOTA; names of resources in capitals."""

    root: bytes
    limits: tuple[tuple[str, int], ...]


# RFC 9208 section 7: getquota = "GETQUOTA" SP quota-root-name ; quota-root-name = astring
def getquota(c: Cursor) -> GetQuota:
    """Read GETQUOTA."""
    space(c)
    root = astring(c, "a quota root")
    end(c)
    return GetQuota(root)


# RFC 9208 section 7: getquotaroot = "GETQUOTAROOT" SP mailbox
def getquotaroot(c: Cursor) -> GetQuotaRoot:
    """Read GETQUOTAROOT."""
    space(c)
    name = mailbox(c)
    end(c)
    return GetQuotaRoot(name)


# RFC 9208 section 7
# setquota      = "SETQUOTA" SP quota-root-name SP setquota-list
# setquota-list = "(" [setquota-resource *(SP setquota-resource)] ")"
def setquota(c: Cursor) -> SetQuota:
    """Read SETQUOTA."""
    space(c)
    root = astring(c, "a quota root")
    space(c)
    limits = parenthesized(c, _limit, "limits", empty=True)
    end(c)
    return SetQuota(root, tuple(limits))


# RFC 9208 section 7: setquota-resource = resource-name SP resource-limit
def _limit(c: Cursor) -> tuple[str, int]:
    name = atom(c, "the name of a resource").decode("ascii").upper()
    space(c)
    return name, number(c, "a limit", MAX_NUMBER64)
