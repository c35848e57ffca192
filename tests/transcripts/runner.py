"""Plays a transcript, which is data, against a server on a real socket. For POP3, SMTP and IMAP.

    # a comment
    sizes 120 200              settings: words before the first step; what they mean is the caller's business
    1 C: STAT                  connection 1 says this; without a number it is connection 1
    1 S: +OK 2 $octets         and must be answered this; $octets is remembered, later it must be the same
    1 S: ...                   any lines, until one matches the next S:
    1 !: *secret*              no line since the last C: of this connection may match
    1 C~: raw octets\\r\\n      sent as they are, with Python's escapes and neither tag nor line end
    1 TLS                      the client begins TLS now
    1 EOF                      the server must have hung up
    1 CLOSE                    the client hangs up

``*`` stands for anything within a line, ``$$`` for a dollar. A connection is opened when it is first named.

In IMAP each ``C:`` gets a tag. ``S: OK``, ``NO`` and ``BAD`` mean the tagged answer, and its text may go on; an ``* ``
or ``+ `` at the beginning is literal; untagged lines that no ``S:`` asks for are passed over, as imaptest does.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_STEP = re.compile(r"(?:(\d+) )?(C~?|S|!|TLS|EOF|CLOSE)(?::(?: (.*))?)?$")
_TOKEN = re.compile(r"\$\$|\$\w+|\*")
Variable = str | Callable[[Mapping[str, str]], str]


class TranscriptError(AssertionError):
    """The server did not do as written; the text shows where, and the dialogue so far."""


@dataclass(frozen=True)
class Step:
    line: int
    connection: int
    action: str
    text: str


@dataclass
class Transcript:
    path: Path
    settings: dict[str, list[str]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def load(path: Path) -> Transcript:
    """Read a transcript. Raises ValueError for a line that is none."""
    transcript = Transcript(path)
    for number, text in enumerate(path.read_text().splitlines(), 1):
        if not text.strip() or text.startswith("#"):
            continue
        match = _STEP.match(text)
        if match is not None:
            transcript.steps.append(Step(number, int(match[1] or 1), match[2], match[3] or ""))
        elif not transcript.steps:
            word, *values = text.split()
            transcript.settings[word] = values
        else:
            raise ValueError(f"{path.name}:{number}: not a step: {text}")
    return transcript


class _Client:
    """One connection: lines in and out, and what was heard since the last C:."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.sock: socket.socket = socket.create_connection((host, port), timeout=timeout)
        self._buffer = b""
        self.heard: list[str] = []
        self.tags = 0

    def line(self) -> str | None:
        """The next line; None when the server hung up."""
        while b"\n" not in self._buffer:
            try:
                data = self.sock.recv(65536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        text = line.removesuffix(b"\r").decode("utf-8", "backslashreplace")
        self.heard.append(text)
        return text


class Player:
    """Plays one transcript. ``variables`` may be text, or made of the variables known by then."""

    def __init__(
        self,
        address: tuple[str, int],
        protocol: str = "pop3",
        variables: Mapping[str, Variable] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._address = address
        self._imap = protocol == "imap"
        self._given = dict(variables or {})
        self._tls = tls
        self._timeout = timeout
        self._clients: dict[int, _Client] = {}
        self._dialogue: list[str] = []
        self._any: set[int] = set()  # connections for which "S: ..." was just said
        self.variables: dict[str, str] = {}

    def play(self, transcript: Transcript) -> dict[str, str]:
        """Play all steps; return the variables. Raises TranscriptError."""
        try:
            for step in transcript.steps:
                try:
                    self._step(step)
                except (TranscriptError, TimeoutError) as error:
                    where = f"{transcript.path.name}:{step.line}: {error or 'no answer'}"
                    raise TranscriptError("\n".join([where, *self._dialogue[-40:]])) from None
        finally:
            for client in self._clients.values():
                client.sock.close()
        return self.variables

    def _step(self, step: Step) -> None:
        client = self._clients.get(step.connection)
        if client is None:
            client = self._clients[step.connection] = _Client(*self._address, self._timeout)
        if step.action in ("C", "C~"):
            self._say(client, step)
        elif step.action == "S":
            self._expect(client, step)
        elif step.action == "!":
            self._forbid(client, step)
        elif step.action == "TLS":
            assert self._tls is not None
            client.sock = self._tls.wrap_socket(client.sock, server_hostname="localhost")
        elif step.action == "EOF":
            if (line := client.line()) is not None:
                raise TranscriptError(f"expected the end, got: {line}")
        else:
            client.sock.close()

    def _say(self, client: _Client, step: Step) -> None:
        client.heard.clear()
        text = _TOKEN.sub(lambda m: m[0] if m[0] == "*" else self._value(m[0]), step.text)
        if step.action == "C~":
            octets = text.encode().decode("unicode_escape").encode("latin-1")
        else:
            if self._imap:
                client.tags += 1
                text = f"t{client.tags} {text}"
            octets = text.encode() + b"\r\n"
        self._dialogue.append(f"{step.connection} C: {text}")
        client.sock.sendall(octets)

    def _value(self, token: str) -> str:
        if token == "$$":
            return "$"
        name = token[1:]
        if name not in self.variables:
            given = self._given.get(name)
            if given is None:
                raise TranscriptError(f"{token} is not known")
            self.variables[name] = given if isinstance(given, str) else given(self.variables)
        return self.variables[name]

    def _expect(self, client: _Client, step: Step) -> None:
        if step.text == "...":
            self._any.add(step.connection)
            return
        passing = step.connection in self._any
        self._any.discard(step.connection)
        while True:
            line = client.line()
            if line is None:
                raise TranscriptError(f"expected: {step.text}\nbut the server hung up")
            self._dialogue.append(f"{step.connection} S: {line}")
            if self._matches(client, step.text, line):
                return
            if not passing and not (self._imap and line.startswith("* ")):
                raise TranscriptError(f"expected: {step.text}\ngot: {line}")

    def _forbid(self, client: _Client, step: Step) -> None:
        for line in client.heard:
            if self._matches(client, step.text, line):
                raise TranscriptError(f"forbidden: {step.text}\ngot: {line}")

    def _matches(self, client: _Client, pattern: str, line: str) -> bool:
        names: list[str] = []
        lead = ""
        if self._imap:
            if pattern[:2] in ("* ", "+ "):
                lead, pattern = re.escape(pattern[:2]), pattern[2:]
            elif re.match(r"(OK|NO|BAD)\b", pattern):
                lead, pattern = f"t{client.tags} ", pattern + "*"

        def expression(match: re.Match[str]) -> str:
            token = match[0]
            if token == "*":
                return ".*?"
            if token == "$$" or token[1:] in self.variables or token[1:] in self._given:
                return re.escape(self._value(token))
            names.append(token[1:])
            return f"(?P<{token[1:]}>.+?)" if names.count(token[1:]) == 1 else f"(?P={token[1:]})"

        parts, end = [], 0
        for match in _TOKEN.finditer(pattern):
            parts += [re.escape(pattern[end : match.start()]), expression(match)]
            end = match.end()
        found = re.fullmatch(lead + "".join(parts) + re.escape(pattern[end:]), line)
        if found is None:
            return False
        self.variables |= found.groupdict()
        return True
