"""One POP3 session: read a line, look it up in the table, run it, answer what went wrong in one place."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

from mailserver import __version__
from mailserver.auth import sasl
from mailserver.auth.sasl import SaslSyntax
from mailserver.auth.service import AuthFailed, Origin
from mailserver.net.connection import Connection, ConnectionLost, LineTooLong, ShuttingDown, TimedOut
from mailserver.ops import log as logging
from mailserver.ops import metrics
from mailserver.pop3.context import Pop3Context
from mailserver.pop3.errors import BadCommand, error_line, line_for
from mailserver.pop3.login import MAX_RESPONSE
from mailserver.pop3.maildrop import Maildrop
from mailserver.pop3.table import TABLE, CommandSpec, State, Trait

_TOGETHER = 1 << 18  # octets of answers that are kept for one send
MAX_LINE = 255  # RFC 2449 section 4: octets of a command, the terminating CRLF included

_log = logging.get("pop3")


class Session:
    """The state of one client's session. `run` returns when it is over; the lock is then free."""

    implementation = f"postkeep-{__version__}"

    def __init__(self, conn: Connection, context: Pop3Context) -> None:
        self.conn = conn
        self.context = context
        self.state = State.AUTHORIZATION
        self.user: str | None = None  # given by USER, awaiting PASS; then who logged in
        self.utf8 = False
        self.done = False
        self.challenge = f"<{secrets.token_hex(12)}@{context.hostname}>" if context.options.apop else None
        self._maildrop: Maildrop | None = None
        self._bad = 0
        self._failed = 0
        self._waiting: list[bytes] = []  # said, not sent yet
        self._waiting_size = 0

    # -- what commands ask

    @property
    def logged_in(self) -> bool:
        """Whether a maildrop is open."""
        return self._maildrop is not None

    @property
    def maildrop(self) -> Maildrop:
        """The open maildrop; the table sees to it that there is one."""
        assert self._maildrop is not None
        return self._maildrop

    @property
    def cleartext_allowed(self) -> bool:
        """Whether a password may be sent as it is."""
        return self.context.auth.allows_cleartext(self.conn.tls, self.conn.is_loopback)

    @property
    def mechanisms(self) -> list[str]:
        """The SASL mechanisms that may be used here."""
        return sasl.offered(self.context.auth, tls=self.conn.tls, loopback=self.conn.is_loopback)

    @property
    def origin(self) -> Origin:
        """Where the client is, for the authenticator."""
        conn = self.conn
        return Origin("pop3", conn.peer[0], conn.id, conn.tls, conn.is_loopback)

    # RFC 2449 section 6.6: the answers to commands that came together go together
    def say(self, octets: bytes) -> None:
        """Send, at the latest when the next command has not come yet."""
        self._waiting.append(octets)
        self._waiting_size += len(octets)
        if self._waiting_size > _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Send what was said."""
        if self._waiting:
            parts, self._waiting, self._waiting_size = self._waiting, [], 0
            self.conn.send_many(parts)

    def ok(self, text: str) -> None:
        """Answer +OK."""
        self.say(f"+OK {text}\r\n".encode())

    def enter(self, user: str, maildrop: Maildrop) -> None:
        """Go to the TRANSACTION state."""
        self._maildrop = maildrop
        self.user = user
        self.state = State.TRANSACTION
        self.conn.mark_authenticated()
        _log.info("opened", self.conn, user=user, messages=len(maildrop.items()))

    @contextlib.contextmanager
    def counting_failures(self) -> Iterator[None]:
        """Count logins that fail; after too many the session ends with the answer."""
        try:
            yield
        except (AuthFailed, SaslSyntax):
            self._failed += 1
            self.done = self._failed >= self.context.options.max_failed_logins
            raise

    def read_response(self, limit: int) -> bytes:
        """Read a line of a SASL exchange, without its end."""
        try:
            return self._read_line(limit).rstrip(b"\r\n")
        except LineTooLong:
            raise SaslSyntax("response too long") from None

    # -- the loop

    def run(self) -> None:
        """Speak POP3 until QUIT, or until the client is gone: then nothing is removed."""
        try:
            self.conn.timeout = self.context.options.timeout
            # RFC 1939 section 7: the timestamp in the greeting says that APOP is there
            self.ok("POP3 server ready" + (f" {self.challenge}" if self.challenge else ""))
            while not self.done:
                self._one()
            self.flush()
        except ShuttingDown:
            self._say_goodbye()
        # RFC 1939 section 3: when the timer expires, the server closes "without removing any messages or sending any
        # response to the client"
        except TimedOut:
            _log.info("timeout", self.conn)
        finally:
            if self._maildrop is not None:
                self._maildrop.close()
                _log.info("logout", self.conn, user=self.user, received=self.conn.received, sent=self.conn.sent)

    def _say_goodbye(self) -> None:
        with contextlib.suppress(ConnectionLost, TimedOut):
            self.flush()
            self.conn.send(error_line("SYS/TEMP", "The server is shutting down"))

    def _one(self) -> None:
        """Read one command and answer it."""
        name = "unknown"
        try:
            keyword, argument = self._read()
            spec = self._spec(keyword)
            name = keyword
            value = spec.parse(argument)
            spec.run(self, value)
        except (ConnectionLost, TimedOut):
            raise
        except Exception as error:
            self._answer(error, name)
        else:
            self._bad = 0
            metrics.COMMANDS.inc(protocol="pop3", command=name, result="ok")

    def _read_line(self, limit: int) -> bytes:
        if not self.conn.has_line:
            self.flush()
        return self.conn.read_line(limit)

    def _read(self) -> tuple[str, bytes]:
        try:
            line = self._read_line(MAX_RESPONSE)
        except LineTooLong:
            raise BadCommand("The line is too long") from None
        keyword, _, argument = line.rstrip(b"\r\n").partition(b" ")
        name = keyword.decode("ascii", "replace").upper()
        spec = TABLE.get(name)
        if len(line) > MAX_LINE and not (spec is not None and Trait.LONG in spec.traits):
            raise BadCommand("The line is too long")
        return name, argument

    def _spec(self, keyword: str) -> CommandSpec:
        spec = TABLE.get(keyword)
        if spec is None:
            raise BadCommand("Unknown command")
        if self.state not in spec.states:
            raise BadCommand("Log in first" if self.state is State.AUTHORIZATION else "Already logged in")
        return spec

    def _answer(self, error: Exception, name: str) -> None:
        """Say what went wrong: the only place."""
        metrics.COMMANDS.inc(protocol="pop3", command=name, result="err")
        line = line_for(error)
        if line is None:
            metrics.FAULTS.inc(protocol="pop3")
            identity = _log.exception("fault", self.conn, command=name)
            line = error_line("SYS/TEMP", f"Internal error {identity}")
        if isinstance(error, BadCommand):
            self._bad += 1
            self.done = self.done or self._bad >= self.context.options.max_bad_commands
        self.say(line)
