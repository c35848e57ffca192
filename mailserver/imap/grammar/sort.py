"""SORT and THREAD, and their UID forms."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.search import Criteria, Returns, criteria, return_options
from mailserver.imap.grammar.syntax import astring, atom, parenthesized, space, word

SORT_KEYS = frozenset({"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"})


@dataclass(frozen=True, slots=True)
class SortKey:
    """What is compared, in capitals."""

    name: str
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT; ``returns`` as in SEARCH (RFC 5267 section 3: ESORT)."""

    keys: tuple[SortKey, ...]
    criteria: Criteria
    uid: bool
    returns: Returns | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD; the algorithm in capitals, not necessarily one that is known."""

    algorithm: str
    criteria: Criteria
    uid: bool


# RFC 5256 section 5: sort = ["UID" SP] "SORT" SP sort-criteria SP search-criteria
def sort(c: Cursor, uid: bool = False) -> Sort:
    """Read SORT."""
    returns = return_options(c)
    space(c)
    keys = parenthesized(c, _sort_key, "sort keys")
    return Sort(tuple(keys), _charset_and_criteria(c, returns), uid, returns)


def uid_sort(c: Cursor) -> Sort:
    """Read UID SORT."""
    return sort(c, uid=True)


# RFC 5256 section 5: thread = ["UID" SP] "THREAD" SP thread-alg SP search-criteria
def thread(c: Cursor, uid: bool = False) -> Thread:
    """Read THREAD."""
    space(c)
    algorithm = atom(c, "a threading algorithm").decode("ascii").upper()
    return Thread(algorithm, _charset_and_criteria(c), uid)


def uid_thread(c: Cursor) -> Thread:
    """Read UID THREAD."""
    return thread(c, uid=True)


# RFC 5256 section 5: search-criteria = charset 1*(SP search-key)
def _charset_and_criteria(c: Cursor, returns: Returns | None = None) -> Criteria:
    space(c)
    charset = astring(c, "a charset")
    space(c)
    return criteria(c, charset, returns)


# RFC 5256 section 5: sort-criterion = ["REVERSE" SP] sort-key
def _sort_key(c: Cursor) -> SortKey:
    start = c.pos
    name = word(c, "a sort key")
    reverse = name == "REVERSE"
    if reverse:
        space(c)
        start = c.pos
        name = word(c, "a sort key")
    if name not in SORT_KEYS:
        c.pos = start
        c.expected("a sort key that this server knows")
    return SortKey(name, reverse)
