"""Octets between the file and the client: ``>From `` quoting as mboxrd has it, and line ends.

In the file a line of the message that begins with ``From ``, however many ``>`` stand before it, has one ``>`` more.
A CRLF of the message is an LF in the file, unless the file has CRLF itself; a CR before a CRLF keeps them both, or it
would be taken for a part of it.
"""

from __future__ import annotations

import re

from mailserver.mail.lines import to_crlf

_TO_QUOTE = re.compile(rb"^(?=>*+From )", re.M)
_QUOTED = re.compile(rb"^>(?=>*+From )", re.M)
_CRLF = re.compile(rb"(?<!\r)\r\n")
_MAY_BECOME_FROM = re.compile(rb">*+(?:F(?:r(?:om?)?)?)?\r?\Z")
_RAW_FROM = re.compile(rb"^From ", re.M)


def quote(data: bytes) -> bytes:
    """Add one ``>`` to each line that needs it. ``data`` begins at the start of a line."""
    return _TO_QUOTE.sub(b">", data) if b"From " in data else data


def unquote(data: bytes) -> bytes:
    """Take it away again."""
    return _QUOTED.sub(b"", data) if b">From " in data else data


def quoted_lines(data: bytes) -> int:
    """How many octets ``unquote`` takes away."""
    return len(_QUOTED.findall(data)) if b">From " in data else 0


def has_raw_from(data: bytes) -> bool:
    """Whether a line begins with ``From ``: nobody quoted these octets."""
    return _RAW_FROM.search(data) is not None


def to_lf(data: bytes) -> bytes:
    """Each CRLF as LF, but for those behind another CR."""
    return _CRLF.sub(b"\n", data) if b"\r\r\n" in data else data.replace(b"\r\n", b"\n")


class _ByLines:
    """Octets that come in pieces, cut anywhere, handled so that no line start is cut from what follows it."""

    def __init__(self) -> None:
        self._held = b""
        self._inside = False  # what is held goes on with a line that was begun

    def convert(self, data: bytes) -> bytes:
        """The next piece; what may belong to a line start or line end that is not there yet waits."""
        data = self._held + data
        cut = data.rfind(b"\n") + 1
        tail = data[cut:]
        if tail and not _MAY_BECOME_FROM.match(tail):
            cut = len(data) - (2 if data.endswith(b"\r\r") else 1 if data.endswith(b"\r") else 0)
        data, self._held = data[:cut], data[cut:]
        return self._pass(data)

    def finish(self) -> bytes:
        """What waited, when nothing follows."""
        data, self._held = self._held, b""
        return self._pass(data)

    def _pass(self, data: bytes) -> bytes:
        if not data:
            return data
        inside, self._inside = self._inside, not data.endswith(b"\n")
        if not inside:
            return self._lines(data)
        first = data.find(b"\n") + 1 or len(data)
        return self._ends(data[:first]) + self._lines(data[first:])

    def _lines(self, data: bytes) -> bytes:
        raise NotImplementedError

    def _ends(self, data: bytes) -> bytes:
        raise NotImplementedError


class Quoter(_ByLines):
    """From the message to the file; ``crlf``: the file has CRLF."""

    def __init__(self, *, crlf: bool) -> None:
        super().__init__()
        self._crlf = crlf

    def _lines(self, data: bytes) -> bytes:
        return self._ends(quote(data))

    def _ends(self, data: bytes) -> bytes:
        return data if self._crlf else to_lf(data)


class Unquoter(_ByLines):
    """From the file to the client; ``verbatim``: nobody quoted these octets."""

    def __init__(self, *, verbatim: bool) -> None:
        super().__init__()
        self._verbatim = verbatim

    def _lines(self, data: bytes) -> bytes:
        return self._ends(data if self._verbatim else unquote(data))

    def _ends(self, data: bytes) -> bytes:
        return to_crlf(data)


def served(data: bytes, *, verbatim: bool) -> bytes:
    """``Unquoter`` for what is whole."""
    return to_crlf(data if verbatim else unquote(data))
