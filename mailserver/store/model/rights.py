"""Access rights to mailboxes: letters, whom an entry is about, what a list of entries grants. RFC 4314.

A list is combined as Dovecot combines it. Identifiers have ranks: anyone, authenticated, groups, the owner, users,
group-overrides. The highest rank that speaks of a user says what the user has, several entries of that rank together;
negative entries likewise, and what they say is taken away at the end. Between groups and owner stands, unwritten, that
the owner has every right and none is taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from mailserver.store.model.flags import Flag

Rights = frozenset[str]

# RFC 4314 section 2.1
LETTERS = "lrswipkxtea"
ALL: Rights = frozenset(LETTERS)
NONE: Rights = frozenset()
# RFC 4314 section 2.1.1: "create" is the union of k and x, "delete" that of e and t
VIRTUAL = {"c": frozenset("kx"), "d": frozenset("et")}
# RFC 4314 section 4: MYRIGHTS needs any of these
KNOWING: Rights = frozenset("lrikxa")
# RFC 4314 section 5.2: with none of these the mailbox is read-only
WRITING: Rights = frozenset("ieswt")


class UnknownRight(ValueError):
    """A letter that is no right; the letter is its only argument."""


def parse(text: str) -> Rights:
    """Rights from letters; virtual ones mean their members. `UnknownRight`."""
    found: set[str] = set()
    for letter in text:
        if letter in VIRTUAL:
            found |= VIRTUAL[letter]
        elif letter in ALL:
            found.add(letter)
        else:
            raise UnknownRight(letter)
    return frozenset(found)


def letters(rights: Rights) -> str:
    """In the order of RFC 4314 section 2.1."""
    return "".join(letter for letter in LETTERS if letter in rights)


# RFC 4314 section 2.1.1: "When any of the ... member rights is set ..., the server MUST also include" the virtual one
def told(rights: Rights) -> str:
    """As MYRIGHTS and ACL say them: with the virtual ones."""
    return letters(rights) + "".join(letter for letter, members in VIRTUAL.items() if rights & members)


# RFC 4314 section 3.1: "+" adds, "-" removes, without either the rights replace
def modified(current: Rights, change: str) -> Rights:
    """The rights after SETACL with ``change``. `UnknownRight`."""
    if change[:1] == "+":
        return current | parse(change[1:])
    if change[:1] == "-":
        return current - parse(change[1:])
    return parse(change)


class Rank(IntEnum):
    """Who is meant, lowest first: a higher rank overrides."""

    ANYONE = 0
    AUTHENTICATED = 1
    GROUP = 2
    OWNER = 3
    USER = 4
    GROUP_OVERRIDE = 5


@dataclass(frozen=True, slots=True)
class Who:
    """A user who wants something."""

    user: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Identifier:
    """Whom an entry is about; ``name`` is that of a user or a group, else empty."""

    rank: Rank
    name: str = ""
    negative: bool = False

    def means(self, who: Who, owner: str) -> bool:
        """Whether it speaks of ``who`` at a mailbox of ``owner``."""
        if self.rank is Rank.USER:
            return self.name == who.user
        if self.rank is Rank.OWNER:
            return who.user == owner
        if self.rank in (Rank.GROUP, Rank.GROUP_OVERRIDE):
            return self.name in who.groups
        return True

    def means_owner(self, owner: str) -> bool:
        """Whether it speaks of the owner, by name or as such."""
        return self.rank is Rank.OWNER or (self.rank is Rank.USER and self.name == owner)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a list. ``named``: rights that have a name and no letter, of which nothing is known here."""

    identifier: Identifier
    rights: Rights
    named: tuple[str, ...] = ()


def granted(entries: Iterable[Entry], who: Who, owner: str) -> Rights:
    """What ``who`` may do to a mailbox of ``owner`` with this list."""
    given: dict[tuple[Rank, bool], Rights] = {}
    for entry in entries:
        identifier = entry.identifier
        if identifier.means(who, owner):
            key = identifier.rank, identifier.negative
            given[key] = given.get(key, NONE) | entry.rights
    has, lacks = NONE, NONE
    for rank in Rank:
        if rank is Rank.OWNER and who.user == owner:
            has, lacks = ALL, NONE
        has = given.get((rank, False), has)
        lacks = given.get((rank, True), lacks)
    return has - lacks


def may_limit_owner(identifiers: Iterable[Identifier], owner: str) -> bool:
    """Whether the owner may have less than everything by a list of these identifiers."""
    return any(i.means_owner(owner) or i.rank is Rank.GROUP_OVERRIDE for i in identifiers)


def speaks_of_owner(entries: Sequence[Entry], owner: str) -> bool:
    """Whether it is written what the owner has; else it is everything."""
    return any(not e.identifier.negative and e.identifier.means_owner(owner) for e in entries)


@dataclass(frozen=True, slots=True)
class Settable:
    """The flags that somebody may change: bits, and whether keywords too."""

    flags: int
    keywords: bool

    def __bool__(self) -> bool:
        return bool(self.flags or self.keywords)


_OTHER_FLAGS = int(Flag.ANSWERED | Flag.FLAGGED | Flag.DRAFT)
EVERYTHING = Settable(_OTHER_FLAGS | int(Flag.SEEN | Flag.DELETED), True)


# RFC 4314 section 4: "t" for \Deleted, "s" for \Seen, "w" for all other message flags
def settable(rights: Rights) -> Settable:
    """What these rights let one change."""
    flags = int(Flag.SEEN) if "s" in rights else 0
    flags |= int(Flag.DELETED) if "t" in rights else 0
    flags |= _OTHER_FLAGS if "w" in rights else 0
    found = Settable(flags, "w" in rights)
    return EVERYTHING if found == EVERYTHING else found
