"""A place in a whole command, and what is said when the command is wrong there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from mailserver.imap.framer import MARK, Command, Literal

_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]")


class BadSyntax(Exception):
    """The command does not follow the grammar: BAD.

    The text says what was expected and at which column; it is ASCII and safe to send. ``tag`` is known when the
    command's beginning could be read.
    """

    def __init__(self, text: str, tag: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.tag = tag


class BadCharset(Exception):
    """SEARCH, SORT or THREAD in a charset that the server does not know: NO [BADCHARSET].

    ``save``: its result was to be saved, RFC 5182.
    """

    def __init__(self, charset: str) -> None:
        super().__init__(f"Unknown charset {charset}")
        self.charset = charset
        self.save = False


class Cursor:
    """A whole command and how far it has been read.

    ``data`` holds one NUL for each literal; ``literals`` are those not yet read, in order. The grammar's functions
    match a regular expression at ``pos`` and advance it.
    """

    __slots__ = ("data", "literals", "next_literal", "pos")

    def __init__(self, data: bytes, literals: Sequence[Literal] = ()) -> None:
        if data.count(MARK) != len(literals):
            raise BadSyntax("A command holds no NUL")
        self.data = data
        self.pos = 0
        self.literals = literals
        self.next_literal = 0

    @classmethod
    def of(cls, command: Command) -> Cursor:
        """Return a cursor at the beginning of ``command``."""
        return cls(command.line, command.literals)

    def expected(self, what: str) -> NoReturn:
        """Raise BadSyntax: ``what`` should have stood here."""
        found = self.data[self.pos : self.pos + 20]
        if not found:
            seen = "the end of the command"
        elif found[:1] == MARK:
            seen = "a literal"
        else:
            seen = _UNPRINTABLE.sub(b"?", found).decode("ascii")
        raise BadSyntax(f"Expected {what} at column {self.pos + 1}, found {seen}")

    def literal(self) -> Literal:
        """Take the literal that stands here."""
        if self.data[self.pos : self.pos + 1] != MARK:
            self.expected("a literal")
        literal = self.literals[self.next_literal]
        self.next_literal += 1
        self.pos += 1
        return literal

    def at(self, octet: bytes) -> bool:
        """Say whether the next octet is this one; nothing is taken."""
        return self.data[self.pos : self.pos + 1] == octet

    def skip(self, octet: bytes) -> bool:
        """Take the next octet if it is this one."""
        if self.data[self.pos : self.pos + 1] == octet:
            self.pos += 1
            return True
        return False

    def take(self, octet: bytes, what: str) -> None:
        """Take this octet, which must stand here."""
        if self.data[self.pos : self.pos + 1] != octet:
            self.expected(what)
        self.pos += 1
