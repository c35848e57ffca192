"""One SMTP, submission or LMTP session: read a line, look it up in the table, run it, answer in one place.

Replies are gathered while the client has more commands in the pipe (RFC 2920 section 3.2) and sent in one piece.
"""

from __future__ import annotations

import contextlib
import time

from mailserver.auth import sasl
from mailserver.auth.service import Origin
from mailserver.delivery.target import Refused, Status
from mailserver.net.connection import Connection, ConnectionLost, LineTooLong, ShuttingDown, TimedOut
from mailserver.ops import log as logging
from mailserver.ops import metrics
from mailserver.smtp import grammar, replies
from mailserver.smtp.commands.auth import MAX_RESPONSE
from mailserver.smtp.context import SmtpContext
from mailserver.smtp.errors import BadCommand, is_bad, status_for
from mailserver.smtp.table import CommandSpec, Trait, table_of
from mailserver.smtp.transaction import Transaction

# RFC 5321 section 4.5.3.1.4: 512 octets, and each extension adds to MAIL and RCPT (RFC 3461 section 4.5: 600 more).
# Nobody is helped by refusing between these and what fits in memory easily.
MAX_LINE = 2048
_MAX_OUT = 16384  # octets of replies gathered before they are sent in any case
_NOT_MAIL = {"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS"}  # a browser that was sent here speaks HTTP


class Session:
    """The state of one client's session. `run` returns when it is over."""

    def __init__(self, conn: Connection, context: SmtpContext) -> None:
        self.conn = conn
        self.context = context
        self.protocol = context.flavour.protocol
        self.log = logging.get(self.protocol)
        self.hello: str | None = None
        self.extended = False
        self.user: str | None = None
        self.transaction: Transaction | None = None
        self.done = False
        self.listed: str | None = None  # the blocklist with the client's address, "" for none; None: not asked yet
        self.errors = 0  # refusals so far
        self._table = table_of(context.flavour, context.options.disabled)
        self._enhanced = "ENHANCEDSTATUSCODES" not in context.options.disabled
        self._out = bytearray()
        self._bad = 0
        self._junk = 0
        self._failed = 0

    # -- what commands ask

    @property
    def mechanisms(self) -> list[str]:
        """The SASL mechanisms that may be used here."""
        return sasl.offered(self.context.auth, tls=self.conn.tls, loopback=self.conn.is_loopback)

    @property
    def origin(self) -> Origin:
        """Where the client is, for the authenticator."""
        conn = self.conn
        return Origin(self.protocol, conn.peer[0], conn.id, conn.tls, conn.is_loopback)

    @property
    def may_relay(self) -> bool:
        """Whether this client may send to other servers."""
        return self.user is not None or self.context.options.trusts(self.conn.peer[0])

    @property
    def needs_hello(self) -> Status | None:
        """What to answer when the client has not said who it is."""
        return replies.HELLO_FIRST if self.hello is None else None

    # -- what commands do

    def greet(self, name: str, *, extended: bool) -> None:
        """The client has said its name; RFC 5321 section 4.1.4: "as if a RSET command had been issued"."""
        self.abandon()
        self.hello = name
        self.extended = extended

    def abandon(self) -> None:
        """End the transaction, if there is one, without a message."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None and transaction.body is not None:
            transaction.body.abort()

    def forget(self) -> None:
        """Go back to the state behind the greeting: TLS has begun."""
        self.abandon()
        self.hello = self.user = None
        self.extended = False

    def useful(self) -> None:
        """A message was accepted: earlier nonsense is forgiven."""
        self._bad = self._junk = 0

    def junk(self) -> None:
        """Count what moves no mail."""
        self._junk += 1

    def login_failed(self) -> None:
        """Count a login that failed; after too many the session ends."""
        self._failed += 1

    def reply(self, status: Status) -> None:
        """Answer; sent by `flush`."""
        self._out += replies.encode(status, enhanced=self._enhanced)

    def flush(self) -> None:
        """Send what was answered."""
        if self._out:
            out, self._out = bytes(self._out), bytearray()
            self.conn.send(out)

    def describe(self, error: Exception) -> Status:
        """Return the reply to the error being handled; what nobody foresaw is logged with an id."""
        status = status_for(error)
        if status is None:
            metrics.FAULTS.inc(protocol=self.protocol)
            status = Status(451, "4.3.0", f"Internal error {self.log.exception('fault', self.conn)}")
        return status

    # -- the loop

    def run(self) -> None:
        """Speak until QUIT, or until the client is gone."""
        conn = self.conn
        try:
            conn.timeout = self.context.options.timeout
            if not self._welcome():
                return
            conn.send(f"220 {self.context.hostname} {'LMTP' if self.context.flavour.lmtp else 'ESMTP'}\r\n".encode())
            while not self.done:
                self._one()
                if not conn.buffered or len(self._out) > _MAX_OUT:
                    self.flush()
            self.flush()
        except ShuttingDown:
            self._say_goodbye(replies.SHUTTING_DOWN)
        except TimedOut:
            self.log.info("timeout", conn)
            self._say_goodbye(replies.TIMEOUT)
        finally:
            self.abandon()

    def _welcome(self) -> bool:
        """Ask the defence; turn away whom it does not want."""
        refused = self.context.options.defence.connected(self)
        if refused is not None:
            self.log.info("turned-away", self.conn, reply=refused)
            self._say_goodbye(refused)
        return refused is None

    def _say_goodbye(self, status: Status) -> None:
        """RFC 5321 section 3.8: 421 when the server must close the connection."""
        with contextlib.suppress(ConnectionLost, TimedOut):
            self.reply(status)
            self.flush()

    def _one(self) -> None:
        """Read one command and answer it."""
        name = "unknown"
        try:
            verb, argument, spec = self._read()
            name = verb
            status = self._run(spec, argument)
        except (ConnectionLost, TimedOut):
            raise
        except Exception as error:
            self._answer_error(error, name)
        else:
            if status is not None:
                self.reply(status)
            metrics.COMMANDS.inc(protocol=self.protocol, command=name, result="ok")
        self._check_patience()

    def _read(self) -> tuple[str, bytes, CommandSpec]:
        try:
            line = self.conn.read_line(MAX_RESPONSE)
        except LineTooLong:
            raise BadCommand(replies.LINE_TOO_LONG) from None
        verb, argument = grammar.command(line)
        spec = self._table.get(verb)
        if spec is None:
            if verb in _NOT_MAIL:
                self.done = True
                raise BadCommand(replies.NOT_HTTP)
            raise BadCommand(replies.UNKNOWN_COMMAND)
        if len(line) > MAX_LINE and Trait.LONG not in spec.traits:
            raise BadCommand(replies.LINE_TOO_LONG)
        return verb, argument, spec

    def _run(self, spec: CommandSpec, argument: bytes) -> Status | None:
        traits = spec.traits
        if traits:
            if Trait.HELLO in traits and self.hello is None:
                raise BadCommand(replies.HELLO_FIRST)
            if Trait.LOGIN in traits and self.context.flavour.must_log_in and self.user is None:
                raise BadCommand(replies.AUTH_REQUIRED)
            # no BadCommand: when MAIL is refused, all that was pipelined behind it comes here
            if Trait.MAIL in traits and self.transaction is None:
                raise Refused(replies.MAIL_FIRST)
        return spec.run(self, self._parsed(spec, argument))

    def _parsed(self, spec: CommandSpec, argument: bytes) -> object:
        try:
            return spec.parse(argument)
        except grammar.BadSyntax:
            if spec.parse is grammar.chunk:  # nobody knows how many octets of message follow
                self.done = True
            raise

    def _answer_error(self, error: Exception, name: str) -> None:
        """Say what went wrong: the only place."""
        metrics.COMMANDS.inc(protocol=self.protocol, command=name, result="err")
        status = self.describe(error)
        self.errors += 1
        self._pause(self.context.options.defence.slows(self))
        self.reply(status)
        if is_bad(error):
            self._bad += 1

    def _pause(self, seconds: float) -> None:
        """Let a client wait that makes many mistakes; a server that stops does not wait for that."""
        if not seconds:
            return
        self.flush()
        deadline = time.monotonic() + seconds
        while not self.conn.stopping and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _check_patience(self) -> None:
        options = self.context.options
        if not self.done and (
            self._bad >= options.max_bad_commands
            or self._junk >= options.max_junk
            or self._failed >= options.max_failed_logins
        ):
            self.log.warning("too-many-errors", self.conn, bad=self._bad, junk=self._junk, logins=self._failed)
            self.reply(replies.TOO_MANY_ERRORS)
            self.done = True
