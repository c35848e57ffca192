"""Octets to whole commands: where does a command end, and what is literal?

Sans-IO. The session feeds what it received and asks for events:

    framer.feed(octets)
    while (event := framer.next()) is not None:
        ...

A command is a line, or lines with literals between them (RFC 9051 section 4.3). It is handed over as one flat byte
string in which every literal is replaced by one NUL, the only octet that a line can never hold (RFC 9051 section 9,
note 3), and the literals beside it in their order: a regular expression can run over the whole.

At an announced literal the framer stops and asks; the session looks at the command so far, at its state, the mailbox
and the quota, and answers with one of `accept_memory`, `accept_sink`, `refuse`. What is refused is never read as a
command: a synchronizing literal is not sent by the client after a refusal, and a non-synchronizing one is skipped with
the rest of its command.

The events do not depend on how the octets were split, and no input makes the framer keep more than its limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

MARK = b"\0"  # stands for a literal in `Command.line`

_HUGE = 2**63  # RFC 9051 section 9: number64 is an unsigned 63-bit integer
_TAIL = 64  # octets kept of the end of a line that is too long: enough for any announcement that means something
_HEAD = 256  # octets looked at for the tag of a line that is too long

# RFC 7888 section 8, RFC 4466 section 6:
# literal  = "{" number ["+"] "}" CRLF *CHAR8
# literal8 = "~{" number ["+"] "}" CRLF *OCTET
_ANNOUNCEMENT = re.compile(rb"\{([0-9]+)(\+?)\}\Z")
_CUT_ANNOUNCEMENT = re.compile(rb"\A[0-9]+\+\}\Z")

# RFC 9051 section 9: tag = 1*<any ASTRING-CHAR except "+">
_TAG = re.compile(rb'([^\x00-\x20\x7f-\xff(){%*"\\+]{1,128})(?: |\Z)')


@dataclass(frozen=True, slots=True)
class FramerLimits:
    """Bounds in octets (or in numbers of literals) of what one command may make the server keep."""

    line: int = 65536  # RFC 2683 section 3.2.1.5 asks servers for 8,000; long UID sets of webmails need more
    literal: int = 1 << 20  # one literal that is kept in memory
    literals: int = 1000  # announced in one command
    command: int = 4 << 20  # lines and literals in memory of one command
    skip: int = 64 << 20  # non-synchronizing literals of one refused command that are read away; beyond: the end


@dataclass(frozen=True, slots=True)
class Literal:
    """A literal of a finished command. ``data`` is None when its octets went to a sink."""

    size: int
    binary: bool  # literal8: may hold NUL
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Command:
    """A whole command without its line end; each `MARK` in ``line`` stands for the next of ``literals``."""

    line: bytes
    literals: tuple[Literal, ...] = ()


@dataclass(frozen=True, slots=True)
class LiteralAnnounced:
    """The client wants to send ``size`` octets; the framer waits for an answer.

    ``line`` and ``literals`` are the command so far, without the announcement. ``fits_memory`` says whether
    `Framer.accept_memory` may be answered.
    """

    size: int
    synchronizing: bool  # the client waits for "+" before it sends
    binary: bool
    line: bytes
    literals: tuple[Literal, ...]
    fits_memory: bool


@dataclass(frozen=True, slots=True)
class Rejected:
    """The framer refused a command by itself; it is over. ``fatal``: nothing behind it can be understood any more."""

    tag: str | None  # best effort; None: answer untagged
    text: str
    fatal: bool = False


Event = Command | LiteralAnnounced | Rejected


def tag_of(line: bytes) -> str | None:
    """Return the tag at the start of ``line``, if there is one."""
    match = _TAG.match(line)
    return match.group(1).decode("ascii") if match else None


class Framer:
    """Finds commands in a stream of octets. Not thread-safe: one per connection."""

    def __init__(self, limits: FramerLimits | None = None) -> None:
        self._limits = limits or FramerLimits()
        self._buffer = b""
        self._pos = 0  # octets of the buffer that are taken
        self._scanned = 0  # octets of the buffer known to hold no LF
        self._overlong: bytes | None = None  # the end of a line that is being skipped because it is too long
        self._beginning = b""  # and its first octets
        self._asked: LiteralAnnounced | None = None
        self._reading = False  # a literal is being read
        self._left = 0  # octets of it still to come
        self._memory: bytearray | None = None
        self._size_asked = 0
        self._binary = False
        self._sink: Callable[[bytes], object] | None = None
        self._dead: Rejected | None = None
        self._begin()

    def _begin(self) -> None:
        """Forget the command that just ended."""
        self._lines: list[bytes] = []
        self._literals: list[Literal] = []
        self._size = 0
        self._announced = 0
        self._skipping = False
        self._skipped = 0
        self._verdict: Rejected | None = None  # what is said when the refused command has ended

    # -- octets in -----------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Add octets that were received. Ask `next` until it gives None before feeding more."""
        if self._dead is not None:
            return
        if self._pos >= len(self._buffer):
            self._buffer = data
            self._scanned = 0
        else:
            self._buffer = self._buffer[self._pos :] + data
            self._scanned = max(0, self._scanned - self._pos)
        self._pos = 0

    def take_rest(self) -> bytes:
        """Take the octets behind the last finished command out of the framer (STARTTLS, COMPRESS)."""
        rest = self._buffer[self._pos :]
        self._buffer, self._pos, self._scanned = b"", 0, 0
        return rest

    @property
    def behind_literal(self) -> bool:
        """Whether a literal is complete and the rest of its command is still to come."""
        return bool(self._lines) and not self._reading

    # -- events out ----------------------------------------------------------------------------------------------

    def next(self) -> Event | None:
        """Return the next event, or None: more octets are needed.

        Raises RuntimeError when a literal waits for its answer, and whatever the sink raised; in that case the rest
        of the literal and of its command are skipped, without a further event.
        """
        while True:
            if self._dead is not None:
                return self._dead
            if self._asked is not None:
                raise RuntimeError("the announced literal has not been answered")
            if self._reading and not self._read_literal():
                return None
            line = self._take_line(self._limits.line)
            if line is None:
                return None
            if not (self._lines or self._skipping or self._overlong is not None) and line[-1:] != b"}":
                if line and MARK not in line:
                    return Command(line)
                if not line:
                    continue  # Leniency.EMPTY_LINE
            event = self._continue(line)
            if event is not None:
                return event

    def next_line(self, limit: int | None = None) -> bytes | Rejected | None:
        """Return the next line as it is, without its end: for AUTHENTICATE and IDLE, where no command is expected.

        None: more octets are needed. A line over ``limit`` is skipped to its end and is a `Rejected` without a tag.
        """
        if self._dead is not None:
            return self._dead
        line = self._take_line(limit or self._limits.line)
        if self._overlong is not None and line is not None:
            self._overlong = None
            return Rejected(None, "The line is too long")
        return line

    # -- answers to LiteralAnnounced -----------------------------------------------------------------------------

    def accept_memory(self) -> None:
        """The literal is wanted, in memory. ValueError when it does not fit."""
        asked = self._answered()
        if not asked.fits_memory:
            self._asked = asked
            raise ValueError(f"a literal of {asked.size} octets does not go to memory")
        self._size += asked.size
        self._memory, self._sink = bytearray(), None
        self._start(asked.size)

    def accept_sink(self, sink: Callable[[bytes], object]) -> None:
        """The literal is wanted: its octets go to ``sink`` as they arrive."""
        asked = self._answered()
        self._memory, self._sink = None, sink
        self._start(asked.size)

    def refuse(self) -> None:
        """The literal is not wanted; the session answers the command, the framer sees that none of it is obeyed.

        When a non-synchronizing literal is bigger than the framer will skip, the next event is fatal.
        """
        asked = self._answered()
        if asked.synchronizing:
            self._begin()
        else:
            self._give_up(b"")
            self._skip(asked.size)

    def _answered(self) -> LiteralAnnounced:
        asked, self._asked = self._asked, None
        if asked is None:
            raise RuntimeError("no literal was announced")
        self._size_asked, self._binary = asked.size, asked.binary
        return asked

    # -- lines ---------------------------------------------------------------------------------------------------

    def _take_line(self, limit: int) -> bytes | None:
        """Take the next line without CRLF or LF; None: not there yet. `_overlong` is set when it was too long."""
        buffer, pos = self._buffer, self._pos
        end = buffer.find(b"\n", self._scanned if self._scanned > pos else pos)
        if end < 0:
            self._await_line(limit)
            return None
        self._pos = self._scanned = end + 1
        if self._overlong is not None:
            whole = self._overlong + buffer[pos:end]
            self._overlong = (whole[:-1] if whole[-1:] == b"\r" else whole)[-_TAIL:]
            return b""
        line = buffer[pos : end - 1] if end > pos and buffer[end - 1] == 13 else buffer[pos:end]
        if len(line) > limit:
            self._beginning, self._overlong = line[: min(limit, _HEAD)], line[-_TAIL:]
        return line

    def _await_line(self, limit: int) -> None:
        buffer, pos = self._buffer, self._pos
        if self._overlong is None:
            if len(buffer) - pos <= limit + 1:  # the last octet may be the CR
                self._scanned = len(buffer)
                return
            self._overlong, self._beginning = b"", buffer[pos : pos + min(limit, _HEAD)]
        # One octet more than is looked at: it may be the CR.
        self._overlong = (self._overlong + buffer[pos:])[-_TAIL - 1 :]
        self._buffer, self._pos, self._scanned = b"", 0, 0

    # -- commands ------------------------------------------------------------------------------------------------

    def _continue(self, line: bytes) -> Event | None:
        """Go on with a command at a line that is not simply a whole command."""
        if self._overlong is not None:
            line = self._end_overlong()
        elif MARK in line:
            self._reject("A command holds no NUL", line)
        self._size += len(line)
        if self._size > self._limits.command:
            self._reject("The command is too long", line)
        start = line.rfind(b"{") if line[-1:] == b"}" else -1
        found = _ANNOUNCEMENT.match(line, start) if start >= 0 else None
        if found is None:
            return self._finish(line)
        digits = found.group(1).lstrip(b"0") or b"0"
        size = int(digits) if len(digits) <= 19 else _HUGE
        binary = line[start - 1 : start] == b"~"
        return self._announce(line[: start - binary], size, binary, found.group(2) == b"")

    def _end_overlong(self) -> bytes:
        """Refuse the line that was too long; return so much of its end as may announce a literal."""
        tail, self._overlong = self._overlong or b"", None
        self._reject("The line is too long", self._beginning)
        if _CUT_ANNOUNCEMENT.match(tail):
            return b"{%d+}" % _HUGE
        return tail

    def _reject(self, text: str, line: bytes) -> None:
        """From here on the command is only skipped; at its end this is said."""
        if not self._skipping:
            self._verdict = Rejected(tag_of(self._lines[0] if self._lines else line), text)
            self._give_up(line)

    def _give_up(self, line: bytes) -> None:
        """Keep nothing of the command but the line with its tag."""
        self._skipping = True
        self._lines = self._lines[:1] or [line[:_HEAD]]
        self._literals = []

    def _finish(self, line: bytes) -> Event | None:
        if self._skipping:
            verdict = self._verdict
            self._begin()
            return verdict
        self._lines.append(line)
        command = Command(MARK.join(self._lines), tuple(self._literals))
        self._begin()
        return command

    def _announce(self, line: bytes, size: int, binary: bool, synchronizing: bool) -> Event | None:
        self._announced += 1
        if self._announced > self._limits.literals:
            self._reject("Too many literals in one command", line)
        if size >= _HUGE:
            self._reject("The literal is too large", line)
        if not self._skipping:
            self._lines.append(line)
            fits = size <= self._limits.literal and self._size + size <= self._limits.command
            sofar = MARK.join(self._lines)
            self._asked = LiteralAnnounced(size, synchronizing, binary, sofar, tuple(self._literals), fits)
            return self._asked
        if synchronizing:
            verdict = self._verdict
            self._begin()
            return verdict
        self._skipped += len(line)
        self._skip(size)
        return None

    # -- literals ------------------------------------------------------------------------------------------------

    def _start(self, size: int) -> None:
        self._reading, self._left = True, size

    def _skip(self, size: int) -> None:
        """Read a literal away, unless that is more than will be done for a refused command."""
        self._memory = self._sink = None
        self._skipped += size
        if self._skipped > self._limits.skip:
            tag = tag_of(self._lines[0]) if self._lines else None
            self._dead = Rejected(tag, "The refused literal is too large to be skipped", fatal=True)
            self._buffer, self._pos, self._scanned = b"", 0, 0
        else:
            self._start(size)

    def _read_literal(self) -> bool:
        """Take what there is of the literal; True when it is complete."""
        if self._left:
            chunk = self._buffer[self._pos : self._pos + self._left]
            self._pos += len(chunk)
            self._left -= len(chunk)
            if chunk:
                self._keep(chunk)
        if self._left:
            return False
        self._reading = False
        if not self._skipping:
            data = None if self._memory is None else bytes(self._memory)
            self._literals.append(Literal(self._size_asked, self._binary, data))
        self._memory = self._sink = None
        return True

    def _keep(self, chunk: bytes) -> None:
        if self._memory is not None:
            self._memory += chunk
        elif self._sink is not None:
            sink, self._sink, self._skipping = self._sink, None, True  # stays so when it raises
            sink(chunk)
            self._sink, self._skipping = sink, False
