"""Addresses of From:, To: and the like, as an ENVELOPE shows them.

RFC 5322 section 3.4 with the obsolete forms of section 4.4. Nothing is refused: what is missing or broken is named in
the result, so that a client shows something and a reader of it sees that it was broken.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mailserver.mail.scanner import ATEXT, BROKEN, END, MORE, Scanner

MISSING_MAILBOX = b"MISSING_MAILBOX"
MISSING_DOMAIN = b"MISSING_DOMAIN"
SYNTAX_ERROR = b"SYNTAX_ERROR"
INVALID_ROUTE = b"INVALID_ROUTE"


class Address(NamedTuple):
    """RFC 9051 section 7.5.2: one address, or the begin of a group (a mailbox only) or its end (nothing at all)."""

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


GROUP_END = Address(None, None, None, None)

# What nearly every address looks like, read in one step; everything else goes the long way.
_COMMON = re.compile(
    rb'(?:(?:"([^"\\\r\n\0]++)"|([%(a)s]++(?: [%(a)s]++)*+))? *<([%(a)s.]++)@([%(a)s]++(?:\.[%(a)s]++)*+)>'
    rb"|([%(a)s.]++)@([%(a)s]++(?:\.[%(a)s]++)*+))(?:,[ \t\r\n]*+(?=[^(\s])|\Z)" % {b"a": ATEXT}
)


def parse(value: bytes) -> list[Address]:
    """Return the addresses of a field's value, groups marked as ENVELOPE marks them. Never raises."""
    found: list[Address] = []
    _Parser(value, found).address_list()
    return found


class _Parser(Scanner):
    __slots__ = ("found", "host", "mailbox", "name", "route", "words")

    def __init__(self, data: bytes, found: list[Address]) -> None:
        super().__init__(data)
        self.found = found
        self.words: list[bytes] = []  # of the local part read last
        self._clear()

    def _clear(self) -> None:
        self.name: bytes | None = None
        self.route: bytes | None = None
        self.mailbox: bytes | None = None
        self.host: bytes | None = None

    def address_list(self) -> None:
        """RFC 5322 section 4.4: ``obs-addr-list``."""
        if self.skip_space() != MORE:
            return
        while True:
            while common := _COMMON.match(self.data, self.position):
                quoted, words, mailbox, host, bare, bare_host = common.groups()
                self.found.append(Address(quoted or words, None, mailbox or bare, host or bare_host))
                self.position = common.end()
            if not self.peek() and self.found and not self.data.endswith(b","):
                return
            if self._address() == END or self.peek() != b",":
                return
            self.position += 1
            result = self.skip_space()
            if result == BROKEN:
                self._finish()
            if result != MORE:
                return

    def _address(self) -> int:
        """``address = mailbox / group``."""
        start = self.position
        result = self._group()
        if result == BROKEN:
            self.position = start
            result = self._mailbox()
        return result

    def _display_name(self) -> tuple[int, bytes]:
        words: list[bytes] = []
        result = self.phrase(words)
        return result, b"".join(words)

    def _group(self) -> int:
        """``group = display-name ":" [group-list] ";" [CFWS]``; BROKEN only when it is no group at all."""
        result, name = self._display_name()
        if result != MORE or self.peek() != b":":
            return BROKEN
        self.position += 1
        self.found.append(Address(None, None, name, None))
        result = self.skip_space()
        if result == MORE and self.peek() != b";":
            result = self._group_list()
        if result == MORE and self.peek() == b";":
            self.position += 1
            self.skip_space()
        self.found.append(GROUP_END)
        return MORE if self.peek() else END

    def _group_list(self) -> int:
        while True:
            self._mailbox()
            if self.peek() != b",":
                return MORE if self.peek() else END
            self.position += 1
            result = self.skip_space()
            if result != MORE:
                return result

    def _mailbox(self) -> int:
        """``mailbox = name-addr / addr-spec``."""
        start = self.position
        result = self._name_addr()
        if result == BROKEN:
            self.position = start
            result = self._addr_spec()
        self._finish()
        return result

    def _finish(self) -> None:
        mailbox = MISSING_MAILBOX if self.mailbox is None else self.mailbox
        self.found.append(Address(self.name, self.route, mailbox, self.host or MISSING_DOMAIN))
        self._clear()

    def _name_addr(self) -> int:
        """``name-addr = [display-name] angle-addr``; BROKEN when no angle-addr begins."""
        result, name = self._display_name()
        if result != MORE or self.peek() != b"<":
            return BROKEN
        self.name = name or None
        if self._angle_addr() == BROKEN:
            self.host = SYNTAX_ERROR
        return MORE if self.peek() else END

    def _angle_addr(self) -> int:
        """``angle-addr = "<" [route ":"] addr-spec ">"``, ``<>`` allowed."""
        self.position += 1
        if self.skip_space() != MORE:
            return BROKEN
        if self.peek() == b"@" and self._route() != MORE:
            return BROKEN
        if self.peek() != b">":
            if self._local_part() != MORE:
                return BROKEN
            if self.peek() == b"@" and self._domain() != MORE:
                return BROKEN
        if self.peek() != b">":
            return BROKEN
        self.position += 1
        return self.skip_space()

    def _route(self) -> int:
        """RFC 5322 section 4.4: ``obs-route = obs-domain-list ":"``."""
        domains: list[bytes] = []
        result = MORE
        while self.peek() == b"@":
            domains.append(b",@" if domains else b"@")
            if self.domain(domains) != MORE:
                result = BROKEN
                break
            while self.skip_space() == MORE and self.peek() == b",":
                self.position += 1
        if result != MORE or self.peek() != b":":
            self.route = INVALID_ROUTE
            return MORE if self.peek() else BROKEN
        self.route = b"".join(domains)
        self.position += 1
        return self.skip_space()

    def _local_part(self) -> int:
        """``local-part = dot-atom / quoted-string``; dots may stand anywhere, as some providers gave out."""
        self.words = []
        if self.peek() == b'"':
            result = self.quoted_string(self.words)
        else:
            result = self._dotted()
        if result != BROKEN:
            self.mailbox = b"".join(self.words)
        return result

    def _dotted(self) -> int:
        while True:
            while self.peek() == b".":
                self.words.append(b".")
                self.position += 1
            if self.words and self.peek() in b"@":
                return MORE if self.peek() else END
            result = self.atom(self.words)
            if result != MORE or self.peek() != b".":
                return result

    def _domain(self) -> int:
        words: list[bytes] = []
        result = self.domain(words)
        if result != BROKEN:
            self.host = b"".join(words)
        return result

    def _addr_spec(self) -> int:
        """``addr-spec = local-part "@" domain``; a name may stand behind it as a comment."""
        self.comment = b""
        quoted = self.peek() == b'"'
        result = self._local_part()
        has_domain = False
        if result != END and self.peek() == b"@":
            has_domain = True
            result = self._domain()
        if self.comment:
            self.name = self.comment
        elif not has_domain:
            self._only_words(quoted)
            return BROKEN
        return result

    def _only_words(self, quoted: bool) -> None:
        # One word alone is taken for a mailbox, several are a name without an address.
        words: list[bytes] = []
        self.phrase(words)
        first = b"".join(self.words)
        following = b"".join(words)
        if following:
            self.name = first + b" " + following if self.words else following
            self.mailbox = None
        elif quoted:
            self.name, self.mailbox = self.mailbox, None
