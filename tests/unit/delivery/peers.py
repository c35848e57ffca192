"""Peers on loopback: a DNS server with records of our making, and a mail server that says what the test wants."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.resolver
import dns.rrset

from mailserver.delivery.dns import resolver

Records = Mapping[tuple[str, str], list[str]]


class DnsServer:
    """``records``: (name, type) -> values; a name without any is NXDOMAIN, the value "SERVFAIL" is that."""

    def __init__(self, records: Records, *, validated: bool = False) -> None:
        self._records = records
        self._validated = validated  # it says that DNSSEC vouches for its answers
        self.asked: list[str] = []
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def place(self) -> str:
        """As `ServerConfig.nameservers` wants it."""
        return f"127.0.0.1:{self._sock.getsockname()[1]}"

    def resolver(self) -> dns.resolver.Resolver:
        return resolver([self.place])

    def _run(self) -> None:
        while True:
            octets, address = self._sock.recvfrom(4096)
            if not octets:
                return
            self._sock.sendto(self._answer(octets), address)

    def _answer(self, octets: bytes) -> bytes:
        query = dns.message.from_wire(octets)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        question = query.question[0]
        name = question.name.to_text().rstrip(".").lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}")
        if self._validated:
            answer.flags |= dns.flags.AD
        owner = question.name
        for _ in range(5):
            alias = self._records.get((name, "CNAME"))
            if alias is None or kind == "CNAME":
                break
            answer.answer.append(dns.rrset.from_text(owner, 60, "IN", "CNAME", *alias))
            owner = dns.name.from_text(alias[0])
            name = alias[0].rstrip(".").lower()
        values = self._records.get((name, kind), [])
        if values == ["SERVFAIL"]:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif values:
            answer.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, *values))
        elif not any(known == name for known, _ in self._records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._sock.getsockname())
        self._thread.join()
        self._sock.close()


@dataclass
class Got:
    """One message the sink was given."""

    mail: str
    rcpts: list[str]
    octets: bytes
    tls: bool
    user: str
    confirmed: bool = False  # the client went on behind the reply


@dataclass
class Script:
    """What the sink says. ``replies`` by the beginning of the command's line; the first that fits."""

    keywords: list[str] = field(default_factory=lambda: ["PIPELINING", "8BITMIME", "SIZE 1000000"])
    replies: dict[str, str] = field(default_factory=dict)
    greeting: str = "220 sink ESMTP"
    end: str = "250 2.0.0 taken"
    tls: ssl.SSLContext | None = None
    secure_keywords: list[str] = field(default_factory=list)  # in place of ``keywords`` once TLS is active
    hook: Callable[[str], None] = lambda line: None
    random: Callable[[], str] | None = None  # in place of ``end``

    def ends(self) -> str:
        """What is said to a message."""
        return self.end if self.random is None else self.random()


class Sink(socketserver.ThreadingTCPServer):
    """A mail server that keeps what it gets in ``got``, and every line said to it in ``lines``."""

    allow_reuse_address = True
    daemon_threads = False
    block_on_close = True

    def __init__(self, script: Script | None = None, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((address, port), _Handler)
        self.script = script or Script()
        self.got: list[Got] = []
        self.lines: list[str] = []
        self.connections = 0
        self.open: set[socket.socket] = set()
        self.arrived = threading.Condition()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def wait(self, count: int, seconds: float = 15.0) -> list[Got]:
        """Wait until so many messages came."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.got) >= count, seconds), self.lines
        return self.got

    def wait_line(self, text: str, count: int = 1, seconds: float = 15.0) -> None:
        with self.arrived:
            said = lambda: sum(text in line for line in self.lines) >= count  # noqa: E731 - asked again and again
            assert self.arrived.wait_for(said, seconds), self.lines

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        with self.arrived:
            for sock in self.open:  # who keeps a connection for later would keep this server waiting
                with contextlib.suppress(OSError):  # it has just gone, or TLS has taken its descriptor
                    sock.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(socketserver.BaseRequestHandler):
    server: Sink

    def handle(self) -> None:
        self.request.settimeout(20)
        self._sock: Any = self.request
        self._file = self._sock.makefile("rb")
        self._tls = False
        self._user = ""
        self._mail = ""
        self._last: Got | None = None
        self._rcpts: list[str] = []
        with self.server.arrived:
            self.server.connections += 1
            self.server.open.add(self.request)
        try:
            self._talk()
        except (OSError, ssl.SSLError):
            pass
        finally:
            with self.server.arrived:
                self.server.open -= {self.request, self._sock}
            self._file.close()
            self._sock.close()

    def _say(self, text: str) -> None:
        self._sock.sendall(text.encode() + b"\r\n")

    def _talk(self) -> None:
        script = self.server.script
        self._say(script.greeting)
        while line := self._file.readline().decode().rstrip("\r\n"):
            with self.server.arrived:
                self.server.lines.append(line)
                if self._last is not None:
                    self._last.confirmed = True
                self.server.arrived.notify_all()
            script.hook(line)
            reply = next((said for start, said in script.replies.items() if line.upper().startswith(start.upper())), "")
            verb = line.split()[0].upper()
            if verb == "QUIT":
                self._say("221 bye")
                return
            if reply == "hang up":
                return
            if reply:
                self._say(reply)
                if reply.startswith("421"):
                    return
            elif self._run(verb, line):
                return

    def _run(self, verb: str, line: str) -> bool:
        """Answer a command; True when the connection ends."""
        script = self.server.script
        if verb == "EHLO":
            words = list(script.secure_keywords if self._tls and script.secure_keywords else script.keywords)
            words += ["STARTTLS"] if script.tls is not None and not self._tls else []
            self._say("\r\n".join([f"250{'-' if words else ' '}sink", *(f"250-{word}" for word in words[:-1])]))
            if words:
                self._say(f"250 {words[-1]}")
        elif verb == "STARTTLS":
            self._start_tls()
        elif verb == "AUTH":
            self._user = line
            self._say("235 2.7.0 in")
        elif verb == "MAIL":
            self._mail, self._rcpts = line, []
            self._say("250 2.1.0 fine")
        elif verb == "RCPT":
            self._rcpts += [line] if self._mail else []
            self._say("250 2.1.5 fine" if self._mail else "503 5.5.1 MAIL first")
        elif verb in ("DATA", "BDAT"):
            return self._message(line)
        else:
            self._mail, self._rcpts = "", []
            self._say("250 2.0.0 fine")
        return False

    def _message(self, line: str) -> bool:
        octets = self._chunk(int(line.split()[1])) if line.upper().startswith("BDAT") else b""
        if not self._rcpts:
            self._say("503 5.5.1 RCPT first")
            return False
        if not line.upper().startswith("BDAT"):
            octets = self._data()
        end = self.server.script.ends()
        if end.startswith("2"):
            with self.server.arrived:
                self._last = Got(self._mail, self._rcpts, octets, self._tls, self._user)
                self.server.got.append(self._last)
                self.server.arrived.notify_all()
        self._mail, self._rcpts = "", []
        if end == "2 lost":  # the message is kept, and nobody hears of it
            return True
        self._say(end)
        return False

    def _chunk(self, size: int) -> bytes:
        octets = bytes(self._file.read(size))
        if len(octets) < size:
            raise OSError("the end did not come")
        return octets

    def _data(self) -> bytes:
        self._say("354 go")
        octets = bytearray()
        while (line := self._file.readline()) != b".\r\n":
            if not line:
                raise OSError("the end did not come")
            octets += line[1:] if line.startswith(b".") else line
        return bytes(octets)

    def _start_tls(self) -> None:
        assert self.server.script.tls is not None
        self._say("220 go")
        self._sock = self.server.script.tls.wrap_socket(self._sock, server_side=True)
        with self.server.arrived:
            self.server.open.add(self._sock)
        self._file = self._sock.makefile("rb")
        self._tls = True
