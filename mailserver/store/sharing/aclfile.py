"""The syntax of ``dovecot-acl``, Dovecot's list of who may do what to a mailbox. Pure: text in, text out.

A line is an identifier, a space, and letters; ``:`` begins rights that have a name and no letter. An identifier is
``anyone``, ``authenticated``, ``owner``, ``user=name``, ``group=name`` or ``group-override=name``, with ``-`` before it
when the rights are taken away; one that holds a blank stands in quotes. Empty lines and those that begin with ``#`` say
nothing. Whatever is not changed stays as it was written, down to the octet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailserver.store.model.rights import ALL, NONE, Entry, Identifier, Rank, Rights, letters

NAME = "dovecot-acl"
_PLAIN = {Rank.ANYONE: "anyone", Rank.AUTHENTICATED: "authenticated", Rank.OWNER: "owner"}
_NAMED = {Rank.USER: "user=", Rank.GROUP: "group=", Rank.GROUP_OVERRIDE: "group-override="}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(?=[ \t]|\Z)')
_WORD = re.compile(r"[^ ]+")
_ESCAPED = re.compile(r"\\(.)")
_LETTERS = re.compile(r"[ \t]*([A-Za-z0-9]*)[ \t]*(?::(.*))?\Z")
_BETWEEN = re.compile(r"[ ,\t\r]+")
# the names that Dovecot has for the letters
_RIGHT_NAMES = {
    "lookup": "l",
    "read": "r",
    "write-seen": "s",
    "write": "w",
    "insert": "i",
    "post": "p",
    "create": "k",
    "delete": "x",
    "write-deleted": "t",
    "expunge": "e",
    "admin": "a",
}


class BadLine(ValueError):
    """A line that cannot be understood."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it is written, and what it says: nothing, for comments and for what is not understood."""

    text: str
    entry: Entry | None = None
    bad: bool = False


@dataclass(frozen=True, slots=True)
class AccessList:
    """The lines of a file. Values: each change makes another one."""

    lines: tuple[Line, ...] = ()

    @property
    def entries(self) -> list[Entry]:
        """What the lines say."""
        return [line.entry for line in self.lines if line.entry is not None]

    @property
    def identifiers(self) -> list[Identifier]:
        """Of whom they speak."""
        return [entry.identifier for entry in self.entries]

    @property
    def bad(self) -> list[str]:
        """Lines that are not understood."""
        return [line.text for line in self.lines if line.bad]

    def rights_of(self, identifier: Identifier) -> Rights | None:
        """What is written for it; None: nothing is."""
        found = [entry.rights for entry in self.entries if entry.identifier == identifier]
        return frozenset().union(*found) if found else None

    def with_rights(self, identifier: Identifier, rights: Rights) -> AccessList:
        """The list that gives these rights to the identifier, be they none."""
        old = [entry for entry in self.entries if entry.identifier == identifier]
        named = tuple(dict.fromkeys(name for entry in old for name in entry.named))
        entry = Entry(identifier, rights, named)
        line = Line(_line(entry), entry)
        lines: list[Line] = []
        for known in self.lines:
            if known.entry is None or known.entry.identifier != identifier:
                lines.append(known)
            elif line not in lines:
                lines.append(line)
        return AccessList(tuple(lines if line in lines else [*lines, line]))

    def without(self, identifier: Identifier) -> AccessList:
        """The list that says nothing of the identifier."""
        return AccessList(tuple(x for x in self.lines if x.entry is None or x.entry.identifier != identifier))

    def __str__(self) -> str:
        return "".join(line.text + "\n" for line in self.lines)


def parse(text: str) -> AccessList:
    """Read a file."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return AccessList(tuple(_read(line) for line in lines))


def _read(text: str) -> Line:
    meant = text.rstrip("\r")
    if not meant or meant.startswith("#"):
        return Line(text)
    try:
        return Line(text, _entry(meant))
    except BadLine:
        return Line(text, bad=True)


def _entry(line: str) -> Entry:
    quoted = _QUOTED.match(line) if line.startswith('"') else None
    if quoted is not None:
        name, end = _ESCAPED.sub(r"\1", quoted[1]), quoted.end()
    else:
        word = _WORD.match(line)
        if word is None:
            raise BadLine(line)
        name, end = word[0], word.end()
    rest = _LETTERS.match(line, end)
    if rest is None or not ALL.issuperset(rest[1]):
        raise BadLine(line)
    words = [word for word in _BETWEEN.split(rest[2] or "") if word]
    known = frozenset(rest[1]) | {_RIGHT_NAMES[word] for word in words if word in _RIGHT_NAMES}
    return Entry(identifier(name), known, tuple(word for word in words if word not in _RIGHT_NAMES))


def identifier(text: str) -> Identifier:
    """An identifier as the file spells it. `BadLine`."""
    negative = text.startswith("-")
    word = text[1:] if negative else text
    for rank, spelling in _PLAIN.items():
        if word == spelling:
            return Identifier(rank, "", negative)
    for rank, start in _NAMED.items():
        if word.startswith(start) and len(word) > len(start):
            return Identifier(rank, word[len(start) :], negative)
    raise BadLine(text)


def spelled(identifier: Identifier) -> str:
    """The reverse."""
    word = _PLAIN.get(identifier.rank) or _NAMED[identifier.rank] + identifier.name
    return "-" + word if identifier.negative else word


def _line(entry: Entry) -> str:
    word = spelled(entry.identifier)
    if " " in word or "\t" in word or word.startswith('"'):
        word = '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    named = " :" + " ".join(entry.named) if entry.named else ""
    return f"{word} {letters(entry.rights or NONE)}{named}"
