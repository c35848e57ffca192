"""One client's protocol state: reads commands, dispatches them by the table, answers.

The only writer of tagged lines. A command's function returns a `Completion` or raises; what was raised becomes NO or
BAD in `mailserver.imap.errors`. Output is gathered and sent when the client has nothing more to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import normalize

from mailserver.auth.service import Identity
from mailserver.config.schema import ImapConfig
from mailserver.imap import capabilities, errors, places
from mailserver.imap.appending import Appending
from mailserver.imap.errors import Goodbye, Invalid, Refused
from mailserver.imap.framer import Command, Framer, FramerLimits, LiteralAnnounced, Rejected, tag_of
from mailserver.imap.grammar import syntax
from mailserver.imap.grammar.cursor import BadCharset, BadSyntax, Cursor
from mailserver.imap.news import tell
from mailserver.imap.responses import status
from mailserver.imap.responses.status import Completion
from mailserver.imap.state import State, Trait
from mailserver.imap.table import TABLE, CommandSpec
from mailserver.imap.understood import Understood, recall, remember
from mailserver.imap.view import View
from mailserver.mail import mutf7
from mailserver.net.connection import Connection, ConnectionLost, ShuttingDown, TimedOut
from mailserver.ops import log as logging
from mailserver.ops import metrics
from mailserver.services import Services
from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError
from mailserver.store.model.rights import Who

_log = logging.get("imap")
_FLUSH = 1 << 18  # octets of output gathered before they are sent
_BAD_AFTER_LOGIN = 200  # commands in a row that made no sense; before login the settings have fewer
_LITERAL_BEFORE_LOGIN = 4096  # RFC 7888 section 5 takes the same bound for LITERAL-


class Session:
    """``run`` speaks IMAP on the connection until one side ends it."""

    def __init__(self, conn: Connection, services: Services, config: ImapConfig) -> None:
        self.conn = conn
        self.services = services
        self.config = config
        self.state = State.NOT_AUTHENTICATED
        self.identity: Identity | None = None
        self.account: Account | None = None
        self.who = Who("")
        self.shared_prefix = services.settings.storage.shared_prefix
        self.view: View | None = None
        self.enabled: set[str] = set()
        self.disabled: frozenset[str] = frozenset()  # capabilities switched off for this account
        self.appending: Appending | None = None
        self.tag = b"*"
        self.tls = services.tls if config.enable_ssl else None
        limits = services.settings.limits
        self._limits = FramerLimits(
            line=limits.max_line, literals=limits.max_literals, command=limits.max_command, literal=limits.max_command
        )
        self._framer = Framer(self._limits)
        self._bad_before_login = limits.max_bad_commands
        self._out: list[bytes] = []
        self._size = 0
        self._bad = 0

    # -- output

    def write(self, data: bytes) -> None:
        """Gather output; sends when it is much."""
        self._out.append(data)
        self._size += len(data)
        if self._size >= _FLUSH:
            self.flush()

    def write_many(self, parts: Sequence[bytes]) -> None:
        """Gather several pieces of output."""
        self._out.extend(parts)
        self._size += sum(map(len, parts))
        if self._size >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered."""
        if self._out:
            out, self._out, self._size = self._out, [], 0
            if len(out) == 1:
                self.conn.send(out[0])
            else:
                self.conn.send(b"".join(out))

    # -- the loop

    def run(self) -> None:
        """Greet, then obey until the end. ConnectionLost escapes."""
        self.conn.timeout = self.config.connection_timeout_seconds
        greeting = f"{self.services.settings.hostname} IMAP4rev1 ready"
        self.write(status.untagged_ok(b"CAPABILITY " + capabilities.line(self), greeting))
        try:
            while self.state is not State.LOGOUT:
                self._step()
            self.flush()
        except Goodbye as bye:
            self._farewell(bye.text, bye.code)
        except TimedOut:
            # RFC 9051 section 5.4: autologout timer
            self._farewell("Autologout: idle for too long")
        except ShuttingDown:
            self._farewell("The server is shutting down")
        finally:
            self.close()

    def _farewell(self, text: str, code: bytes = b"") -> None:
        self.write(status.line(b"*", b"BYE", text, code))
        try:
            self.flush()
        except (ConnectionLost, TimedOut):
            pass  # the client is gone: nobody misses the goodbye

    def close(self) -> None:
        """Let go of everything that is not the connection; called once more does nothing."""
        self.unselect()
        self.drop_append()
        if self.identity is not None:
            _log.info("logout", self.conn, user=self.identity.user, received=self.conn.received, sent=self.conn.sent)
            self.identity = None

    def _step(self) -> None:
        try:
            event = self._framer.next()
        except StoreError as error:  # the store refused the octets of a literal; the framer skips the rest
            self._end(self.tag, errors.completion(error) or Completion(b"NO", "Failed"))
            self.drop_append()
            return
        if event is None:
            self.flush()
            if self._framer.behind_literal:  # imaplib sends the line end by itself, and it waits for that
                self.conn.acknowledge()
            self._framer.feed(self.conn.receive())
        elif isinstance(event, Command):
            self._obey(event)
        elif isinstance(event, LiteralAnnounced):
            self._literal(event)
        else:
            self._rejected(event)

    def _rejected(self, event: Rejected) -> None:
        self.drop_append()
        tag = event.tag.encode() if event.tag else b"*"
        self._end(tag, Completion(b"BAD", event.text))
        if event.fatal:
            raise Goodbye(event.text)

    # -- commands

    def _obey(self, command: Command) -> None:
        tag, name = tag_of(command.line), "?"
        self.tag = tag.encode() if tag else b"*"
        self.told_expunged = self.names_numbers = False
        try:
            understood = recall(command, tag)
            if understood is None:
                cursor = Cursor.of(command)
                name = syntax.head(cursor).name
                spec = self._spec(name)
                understood = Understood(name, spec, spec.parse(cursor))
                remember(command, tag, understood)
            else:
                name, spec = understood.name, self._allowed(understood.spec, understood.name)
            if self.view is not None and self.view.outdated():
                self._renew_rights(self.view, spec)
            completion = spec.run(self, understood.args)
            self._bad = 0
            if completion is None:  # it was said already: STARTTLS
                return
            self._sync(spec)
        except (ConnectionLost, TimedOut, Goodbye):
            raise
        except Exception as error:
            completion = self._failed(error, name)
            if completion.status != b"BAD":
                self._sync(TABLE.get(name))
        finally:
            self.drop_append()
        metrics.COMMANDS.inc(protocol="imap", command=name if name in TABLE else "?", result=completion.status.decode())
        self._end(self.tag, self._with_modseq(completion))

    def _spec(self, name: str) -> CommandSpec:
        spec = TABLE.get(name)
        if spec is None:
            raise Invalid(f"Unknown command {name[:40]}")
        return self._allowed(spec, name)

    def _allowed(self, spec: CommandSpec, name: str) -> CommandSpec:
        if self.state not in spec.states:
            raise Invalid(f"{name} is not allowed {_where(self.state)}")
        return spec

    def _renew_rights(self, view: View, spec: CommandSpec) -> None:
        if not places.renew(self, view) and self.state not in spec.states:
            raise Refused("You may not read the mailbox any more", b"NOPERM")

    def _failed(self, error: Exception, name: str) -> Completion:
        completion = errors.completion(error)
        if isinstance(error, BadCharset) and error.save and self.view is not None:
            self.view.saved = []  # RFC 5182 section 2.1: after NO the variable is empty
        if completion is None:
            identity = _log.exception("fault", self.conn, command=name)
            metrics.FAULTS.inc(protocol="imap")
            # RFC 5530 section 3: SERVERBUG
            return Completion(b"NO", f"Internal error {identity}, try again later", b"SERVERBUG")
        if completion.status == b"BAD":
            self._bad += 1
            limit = self._bad_before_login if self.state is State.NOT_AUTHENTICATED else _BAD_AFTER_LOGIN
            if self._bad >= limit:
                self._end(self.tag, completion)
                raise Goodbye("Too many bad commands")
        return completion

    def _end(self, tag: bytes, completion: Completion) -> None:
        self.write(status.line(tag, completion.status, completion.text, completion.code))

    def _sync(self, spec: CommandSpec | None) -> None:
        """Tell the client what happened to its mailbox. RFC 9051 section 5.2."""
        if self.view is None or spec is None or Trait.NO_SYNC in spec.traits:
            return
        try:
            expunge = Trait.USES_SEQ not in spec.traits and not self.names_numbers
            tell(self, self.view.mailbox.snapshot(), expunge=expunge)
        except StoreError as error:
            self.lost_mailbox(error)

    # RFC 7162 section 3.2.7: HIGHESTMODSEQ after messages were expunged. RFC 7162 section 6: while VANISHED is held
    # back, the client must not take a higher MODSEQ that it was told for the state it is in: it is told the lower one
    def _with_modseq(self, completion: Completion) -> Completion:
        view = self.view
        if view is None or "QRESYNC" not in self.enabled or not (view.ghosts or self.told_expunged):
            return completion
        code = b"HIGHESTMODSEQ %d" % view.told
        if completion.status == b"OK" and not completion.code:
            return Completion(completion.status, completion.text, code)
        self.write(status.untagged_ok(code, "Told so far"))
        return completion

    # -- literals

    def _literal(self, event: LiteralAnnounced) -> None:
        """Decide about a literal before it is sent: state, mailbox, size. RFC 9051 section 4.3, RFC 7888 section 4."""
        tag = tag_of(event.line)
        self.tag = tag.encode() if tag else b"*"
        try:
            cursor = Cursor(event.line, event.literals)
            spec = self._spec(syntax.head(cursor).name)
            if Trait.LITERAL_TO_STORE in spec.traits and spec.head is not None:
                self._to_store(spec, cursor, event)
            else:
                self._to_memory(event)
        except (BadSyntax, Invalid, Refused, StoreError) as error:
            self._framer.refuse()
            self.drop_append()
            self._end(self.tag, self._failed(error, "literal"))
            return
        if event.synchronizing:
            self.write(status.go_ahead())

    def _to_memory(self, event: LiteralAnnounced) -> None:
        small = self.state is not State.NOT_AUTHENTICATED or event.size <= _LITERAL_BEFORE_LOGIN
        if not (small and event.fits_memory):
            raise Refused("The literal is too large", b"TOOBIG")
        self._framer.accept_memory()

    def _to_store(self, spec: CommandSpec, cursor: Cursor, event: LiteralAnnounced) -> None:
        assert spec.head is not None
        head = spec.head(cursor)
        if head.name is None:
            self._to_memory(event)
            return
        if self.appending is None:
            self.appending = Appending(self, head.name)
        self._framer.accept_sink(self.appending.begin(event.size, binary=event.binary))

    def drop_append(self) -> None:
        """Forget messages that were received and not appended."""
        if self.appending is not None:
            self.appending.discard()
            self.appending = None

    # -- for the commands

    def read_line(self) -> bytes:
        """The next line, in the middle of a command: AUTHENTICATE. Without its end; Invalid when too long."""
        while True:
            line = self._framer.next_line()
            if isinstance(line, Rejected):
                raise Invalid(line.text)
            if line is not None:
                return line
            self.flush()
            self._framer.feed(self.conn.receive())

    def next_line(self) -> bytes | None:
        """The next line if it is there already."""
        line = self._framer.next_line()
        if isinstance(line, Rejected):
            raise Invalid(line.text)
        return line

    def feed(self) -> None:
        """Receive once."""
        self._framer.feed(self.conn.receive())

    def start_tls(self) -> None:
        """Take up TLS; octets that came in clear behind STARTTLS end the connection (RFC 9051 section 11.1)."""
        assert self.tls is not None
        self.flush()
        self.conn.push_back(self._framer.take_rest())
        self.conn.start_tls(self.tls.context)
        self._framer = Framer(self._limits)

    def start_compression(self) -> None:
        """Compress from here on; what came behind the command is compressed already (RFC 4978 section 3)."""
        self.flush()
        self.conn.push_back(self._framer.take_rest())
        self.conn.start_compression()

    def logged_in(self, identity: Identity) -> None:
        """Enter the authenticated state; StoreError when the account cannot be opened."""
        self.account = self.services.store.account(identity.user)
        self.identity = identity
        self.state = State.AUTHENTICATED
        # a client that cannot live with a capability: "imap_disabled_capabilities=QRESYNC,CONDSTORE" in the users file
        record = self.services.users.lookup(identity.user)
        extra = record.extra if record is not None else {}
        self.disabled = frozenset(extra.get("imap_disabled_capabilities", "").upper().split(",")) - {""}
        groups = extra.get("userdb_acl_groups") or extra.get("acl_groups", "")  # as Dovecot calls them
        self.who = Who(identity.user, frozenset(groups.split(",")) - {""})
        self.conn.mark_authenticated()
        self.conn.timeout = self.config.idle_timeout_seconds

    def select(self, view: View) -> None:
        """Enter the selected state."""
        self.view = view
        self.state = State.SELECTED

    def unselect(self) -> None:
        """Leave the selected state."""
        self.view = None
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED

    def lost_mailbox(self, error: StoreError) -> None:
        """The selected mailbox could not be looked at: it is gone, or, if that may pass, its news come later."""
        _log.warning("mailbox-lost", self.conn, cause=error.text)
        if error.kind is not Kind.NOT_FOUND:
            return
        self.unselect()
        # RFC 9051 section 7.1: CLOSED
        self.write(status.untagged_ok(b"CLOSED", "The selected mailbox is gone: " + error.text))

    def selected(self) -> View:
        """The view; only in the selected state."""
        assert self.view is not None
        return self.view

    def user_account(self) -> Account:
        """The account; only when logged in."""
        assert self.account is not None
        return self.account

    # RFC 7162 section 3.1: "A first CONDSTORE enabling command executed in the session with a mailbox selected MUST
    # cause the server to return HIGHESTMODSEQ"
    def enable_condstore(self) -> None:
        """From now on the client is told MODSEQs."""
        if "CONDSTORE" not in self.enabled:
            self.enabled.add("CONDSTORE")
            if self.view is not None:
                self.write(status.untagged_ok(b"HIGHESTMODSEQ %d" % self.view.told, "Highest"))

    # -- names of mailboxes

    @property
    def utf8(self) -> bool:
        """Whether names are in UTF-8 (RFC 6855 section 3, RFC 9051 section 5.1)."""
        return bool(self.enabled & {"UTF8=ACCEPT", "IMAP4REV2"})

    def decode_name(self, name: bytes) -> str:
        """A mailbox name as the client sent it; UTF-8 where UTF8=ACCEPT or IMAP4rev2 was enabled, else modified UTF-7.

        RFC 6855 section 3, RFC 9051 section 5.1. Refused when it is not valid; Invalid when its UTF-8 is broken.
        """
        try:
            if self.utf8 or not name.isascii():
                return name.decode("utf-8")
            return mutf7.decode(name)
        except UnicodeDecodeError:
            # RFC 6855 section 3: "MUST reject, with a "BAD" response"
            raise Invalid("The name of the mailbox is not UTF-8") from None
        except ValueError:
            raise Refused("The name of the mailbox is not valid", b"CANNOT") from None

    # RFC 9051 section 5.1: a name that is not normalized means the normalized one, in every command that names a
    # mailbox; but what other programs made is found under the name that LIST told
    def named(self, name: bytes) -> str:
        """The name of the mailbox that the client means, in Normalization Form C if there is none spelled as sent."""
        sent = self.decode_name(name)
        normal = sent if sent.isascii() else normalize("NFC", sent)
        return sent if normal == sent or self.user_account().exists(sent) else normal

    def encode_name(self, name: str) -> bytes:
        """A mailbox name as this client reads it, with quotes where it needs them."""
        return capabilities.mailbox_name(name, utf8=self.utf8)


def _where(state: State) -> str:
    if state is State.NOT_AUTHENTICATED:
        return "before login"
    return "without a selected mailbox" if state is State.AUTHENTICATED else "now"
