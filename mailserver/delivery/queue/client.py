"""The client's side of one SMTP connection: commands out, replies in, with deadlines and bounds. Decides nothing.

RFC 5321 section 4.5.3.2 has the times. A server that drips octets is as slow as one that is silent: each reply has one
deadline, however it comes.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time
from dataclasses import dataclass

from mailserver.delivery.target import Status

_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?\Z", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|\Z)")
_MAX_REPLY = 65536  # octets of one reply, all lines together
_CHUNK = 1 << 17


class Broken(Exception):
    """The connection is of no use any more: ended, timed out, or what came is no SMTP."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said."""

    code: int
    lines: list[str]

    @property
    def status(self) -> Status:
        """The reply as a status; the enhanced code is read off or made up."""
        found = _ENHANCED.match(self.lines[0])
        enhanced = found[1] if found is not None and found[1][0] == str(self.code)[0] else f"{str(self.code)[0]}.0.0"
        text = "\n".join(_ENHANCED.sub("", line, count=1) for line in self.lines)
        return Status(self.code, enhanced, text[:500])


class Client:
    """One connection. ``host`` is the name that TLS looks for. ``features``: what EHLO announced, names in capitals."""

    def __init__(self, host: str, sock: socket.socket, seconds: float) -> None:
        self.host = host
        self.seconds = seconds  # for a reply, for a block of data
        self.features: dict[str, str] = {}
        self.extended = False
        self.tls = False
        self.verified = False  # the certificate is the host's
        self._sock = sock
        self._data = b""

    # -- octets

    def send(self, octets: bytes) -> None:
        """Send all of it. Raises `Broken`."""
        try:
            self._sock.settimeout(self.seconds)
            self._sock.sendall(octets)
        except OSError as error:
            raise Broken(str(error) or type(error).__name__) from error

    def send_file(self, path: str) -> None:
        """Send the octets of a file as they are. Raises `Broken`; `OSError` when the file cannot be opened."""
        with open(path, "rb") as file:
            while piece := file.read(_CHUNK):
                self.send(piece)

    def reply(self, seconds: float = 0.0) -> Reply:
        """Return the next reply; it has ``seconds``. Raises `Broken`."""
        deadline = time.monotonic() + (seconds or self.seconds)
        lines: list[str] = []
        size = 0
        while True:
            line = self._line(deadline)
            size += len(line)
            found = _LINE.match(line)
            if found is None or size > _MAX_REPLY:
                raise Broken(f"this is no SMTP: {line[:60]!r}")
            lines.append((found[3] or b"").decode("utf-8", "replace"))
            if found[2] != b"-":
                return Reply(int(found[1]), lines)

    def _line(self, deadline: float) -> bytes:
        while (end := self._data.find(b"\n")) < 0:
            if len(self._data) > _MAX_REPLY:
                raise Broken("endless line")
            left = deadline - time.monotonic()
            if left <= 0:
                raise Broken("timed out")
            try:
                self._sock.settimeout(left)
                octets = self._sock.recv(65536)
            except OSError as error:
                raise Broken(str(error) or type(error).__name__) from error
            if not octets:
                raise Broken("the server hung up")
            self._data += octets
        line, self._data = self._data[:end], self._data[end + 1 :]
        return line.removesuffix(b"\r")

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    # -- commands

    def say(self, line: str, seconds: float = 0.0) -> Reply:
        """Send a command and return the reply. Raises `Broken`."""
        self.send(line.encode() + b"\r\n")
        return self.reply(seconds)

    def hello(self, name: str) -> Reply:
        """EHLO, or HELO where that is not known; note what is announced."""
        self.features = {}
        reply = self.say(f"EHLO {name}")
        self.extended = reply.code == 250
        if reply.code >= 500:
            return self.say(f"HELO {name}")
        if self.extended:
            for line in reply.lines[1:]:
                word, _, rest = line.strip().partition(" ")
                self.features[word.upper()] = rest.strip()
        return reply

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the handshake. What came in clear before it is not obeyed (RFC 3207 section 6). Raises `Broken`."""
        if self._data:
            raise Broken("octets in clear behind STARTTLS")
        self._sock.settimeout(self.seconds)
        try:
            self._sock = context.wrap_socket(self._sock, server_hostname=self.host)
        except (OSError, ValueError) as error:
            raise Broken(f"TLS: {getattr(error, 'verify_message', '') or error}") from error
        self.tls = True
        self.verified = context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname

    # RFC 4616 section 2: PLAIN; LOGIN for servers that have nothing better
    def log_in(self, user: str, password: bytes) -> Reply:
        """Log in by what the server offers."""
        offered = self.features.get("AUTH", "").upper().split()
        if "PLAIN" in offered or "LOGIN" not in offered:
            return self.say("AUTH PLAIN " + _base64(b"\0" + user.encode() + b"\0" + password))
        reply = self.say("AUTH LOGIN")
        for answer in (user.encode(), password):
            if reply.code != 334:
                break
            reply = self.say(_base64(answer))
        return reply

    def quit(self) -> None:
        """Say goodbye; the answer is waited for, shortly."""
        self.seconds = min(self.seconds, 5.0)
        self.say("QUIT")


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
