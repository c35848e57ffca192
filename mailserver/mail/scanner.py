"""The words of structured header fields: atoms, quoted strings, comments, domains.

RFC 5322 section 3.2. It is lenient where mail is known to be broken, and goes through a value once: whoever tries a
second reading of the same octets sets ``position`` back.
"""

from __future__ import annotations

import re

MORE = 1  # something follows
END = 0  # the value ended behind what was read
BROKEN = -1

# RFC 5322 section 3.2.3, atext; with the 8-bit octets of RFC 6532 section 3.2.
ATEXT = rb"!#-'*+\-/0-9=?A-Z^_`a-z{|}~\x80-\xff"
# RFC 2045 section 5.1, token.
_TOKEN = rb"!#-'*+\-.0-9A-Z^_`a-z{|}~\x80-\xff"

_SPACE = re.compile(rb"[ \t\r\n]*")
_ATOM = re.compile(rb"[" + ATEXT + rb"]+")
_ATOM_OR_DOT = re.compile(rb"[." + ATEXT + rb"]*")
_MIME_TOKEN = re.compile(rb"[" + _TOKEN + rb"]*")
_QUOTED = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_COMMENT_MARK = re.compile(rb"\\[^\r\n\0]|[()\n\0]")
_QUOTED_MARK = re.compile(rb"\\[^\r\n\0]|[\n\0]")
_LITERAL = re.compile(rb"\[[^\[\]\\]*+(?:\\.[^\[\]\\]*+)*+\]", re.DOTALL)
# A quoted-pair stands for its second octet; a folded line is one line; NUL cannot be shown to anybody.
_TO_CLEAN = re.compile(rb"\\([^\r\n\0])|\r?\n|\0")
_REPLACEMENT = "\ufffd".encode()


def without_nul(value: bytes) -> bytes:
    """Return ``value`` with each NUL replaced by U+FFFD in UTF-8: no IMAP string can hold NUL."""
    return value.replace(b"\0", _REPLACEMENT) if b"\0" in value else value


def _clean_match(match: re.Match[bytes]) -> bytes:
    return match[1] or (_REPLACEMENT if match[0] == b"\0" else b"")


def _clean(text: bytes) -> bytes:
    return _TO_CLEAN.sub(_clean_match, text)


class Scanner:
    """Reads words from ``data`` at ``position``.

    Each method appends to the list it is given, skips space and comments behind the word, and returns MORE, END or
    BROKEN.
    """

    __slots__ = ("comment", "data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.comment = b""  # text of the comment skipped last

    def peek(self) -> bytes:
        """Return the next octet, empty at the end."""
        return self.data[self.position : self.position + 1]

    def skip_space(self) -> int:
        """Skip CFWS (RFC 5322 section 3.2.2); BROKEN when a comment does not end."""
        data = self.data
        position = _SPACE.match(data, self.position).end()  # type: ignore[union-attr]  # matches the empty string too
        while data.startswith(b"(", position):
            position = self._skip_comment(position)
            if position < 0:
                self.position = len(data)
                return BROKEN
            position = _SPACE.match(data, position).end()  # type: ignore[union-attr]  # likewise
        self.position = position
        return MORE if position < len(data) else END

    def _skip_comment(self, start: int) -> int:
        depth = 0
        shown = start + 1  # of a comment that does not end, what stands before its last mark is kept
        for mark in _COMMENT_MARK.finditer(self.data, start):
            if mark[0] == b"(":
                depth += 1
            elif mark[0] == b")":
                depth -= 1
                if depth == 0:
                    self.comment = _clean(self.data[start + 1 : mark.start()])
                    return mark.end()
            else:
                shown = mark.start() + (mark[0] == b"\0")
        self.comment = _clean(self.data[start + 1 : shown])
        return -1

    def atom(self, into: list[bytes]) -> int:
        """RFC 5322 section 3.2.3: ``atom = [CFWS] 1*atext [CFWS]``, no CFWS before."""
        found = _ATOM.match(self.data, self.position)
        if found is None:
            return BROKEN
        into.append(found[0])
        self.position = found.end()
        return self.skip_space()

    def atom_or_dot(self, into: list[bytes]) -> int:
        """RFC 5322 section 4.1: a word of ``obs-phrase``, in which dots may stand; it may be empty."""
        found = _ATOM_OR_DOT.match(self.data, self.position)
        into.append(found[0])  # type: ignore[index]  # matches the empty string too
        self.position = found.end()  # type: ignore[union-attr]  # likewise
        return self.skip_space()

    def dot_atom(self, into: list[bytes]) -> int:
        """RFC 5322 section 3.2.3, ``dot-atom``; section 4.4 lets space stand around the dots."""
        while True:
            result = self.atom(into)
            if result != MORE or self.peek() != b".":
                return result
            into.append(b".")
            self.position += 1
            if self.skip_space() != MORE:
                return BROKEN

    def quoted_string(self, into: list[bytes]) -> int:
        """RFC 5322 section 3.2.4, ``quoted-string``."""
        found = _QUOTED.match(self.data, self.position)
        if found is None:
            into.append(_clean(self._before_last_mark(self.position + 1)))
            self.position = len(self.data)
            return BROKEN
        into.append(_clean(found[1]))
        self.position = found.end()
        return self.skip_space()

    def _before_last_mark(self, start: int) -> bytes:
        # Of a string that does not end, what stands before its last mark is kept: it is what can be trusted least.
        marks = [mark.start() + (mark[0] == b"\0") for mark in _QUOTED_MARK.finditer(self.data, start)]
        return self.data[start : marks[-1]] if marks else b""

    def phrase(self, into: list[bytes]) -> int:
        """RFC 5322 section 3.2.5, ``phrase``; one space between its words."""
        following = self.peek()
        if not following:
            return END
        if following == b".":
            return BROKEN
        while True:
            result = self.quoted_string(into) if self.peek() == b'"' else self.atom_or_dot(into)
            if result != MORE:
                return result
            if self.peek() not in b'".' and _ATOM.match(self.data, self.position) is None:
                return MORE
            into.append(b" ")

    def domain(self, into: list[bytes]) -> int:
        """RFC 5322 section 3.4.1: ``"@" domain``, at the ``@``."""
        self.position += 1
        if self.skip_space() != MORE:
            return BROKEN
        if self.peek() != b"[":
            return self.dot_atom(into)
        found = _LITERAL.match(self.data, self.position)
        if found is None:
            self.position = len(self.data)
            return BROKEN
        into.append(without_nul(found[0].replace(b"\n", b"")))
        self.position = found.end()
        return self.skip_space()

    def mime_token(self, into: list[bytes]) -> int:
        """RFC 2045 section 5.1, ``token``; it may be empty."""
        found = _MIME_TOKEN.match(self.data, self.position)
        into.append(found[0])  # type: ignore[index]
        self.position = found.end()  # type: ignore[union-attr]
        return self.skip_space() if self.position < len(self.data) else END
