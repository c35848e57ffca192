"""Delivery into mailboxes of this server: one message is written once, each further user gets a hard link.

RFC 5321 section 4.4: final delivery puts Return-Path in front. Delivered-To is added for one user only: the file is
shared, and others must not read there who got a blind copy.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

from mailserver.delivery.target import Envelope, Recipient, Refused, Status
from mailserver.delivery.together import Together
from mailserver.mail.convert import Mapped, convert
from mailserver.mail.lines import to_crlf
from mailserver.ops import metrics
from mailserver.store.account import Account
from mailserver.store.errors import Kind, StoreError, os_errors
from mailserver.store.formats.maildir.incoming import Incoming
from mailserver.store.mailbox import Append, Mailbox
from mailserver.store.store import Store

INBOX = "INBOX"
_COPY = 1 << 20
_TRACE = 4096  # octets of what final delivery puts in front

_STATUSES = {
    Kind.NO_QUOTA: Status(452, "4.2.2", "Mailbox full"),  # its owner may tidy up: the sender's server tries again
    Kind.TOO_BIG: Status(552, "5.3.4", "Message too big"),
    Kind.BAD_NAME: Status(550, "5.1.1", "No such user"),
    Kind.IN_USE: Status(450, "4.2.0", "Mailbox busy"),
}


def status_of(error: StoreError) -> Status:
    """Return the reply to an error of the store: temporary unless trying again cannot help."""
    known = _STATUSES.get(error.kind)
    return known if known is not None else Status(451, "4.3.0", f"Mail storage: {error.text}")


class LocalTarget:
    """The mailboxes of this server. ``spam_to``: the folder for messages with ``spam_header``, "" for none."""

    def __init__(self, store: Callable[[], Store], *, spam_to: str = "", spam_header: str = "X-Spam-Flag: YES") -> None:
        self.store = store
        self.spam_to = spam_to
        self.together = Together()
        name, _, value = (re.escape(part.strip().encode()) for part in spam_header.partition(":"))
        pattern = rb"^%b[ \t]*:[ \t]*%b(?![^\s,;])" % (name, value)
        self.marked = re.compile(pattern, re.IGNORECASE | re.MULTILINE)

    def has(self, user: str, beginning: bytes, since: float) -> bool:
        """Say whether a user has a message with ``beginning`` in its header, come after ``since`` (seconds since 1970).

        Raises `StoreError`.
        """
        account = self.store().account(user)
        for box in [account.mailbox(info.name) for info in account.mailboxes() if info.selectable]:
            for message in box.rescan().messages:
                if message.internaldate >= int(since):
                    with box.open(message) as file:
                        if beginning in file.read_range(0, len(beginning) + _TRACE):
                            return True
        return False

    def start(self, envelope: Envelope) -> LocalDelivery:
        """Begin a message."""
        return LocalDelivery(self, envelope)


# RFC 6154 section 2: \Junk, "Messages deemed to be junk mail are held here", whatever its name is
def _junk(account: Account, name: str) -> str:
    """Return the folder for junk; made when it is missing. Where that cannot be, it is the INBOX."""
    if account.exists(name):
        return name
    special = next((box.name for box in account.mailboxes() if box.special_use == "\\Junk" and box.selectable), "")
    if special:
        return special
    try:
        account.create(name, "\\Junk")
    except StoreError as error:
        if error.kind is not Kind.EXISTS:
            return INBOX
    return name


class LocalDelivery:
    """One message on its way into mailboxes; see `mailserver.delivery.target.Delivery`."""

    def __init__(self, target: LocalTarget, envelope: Envelope) -> None:
        self._target = target
        self._envelope = envelope
        self._users: dict[str, list[Recipient]] = {}
        self._failed: dict[str, Status] = {}
        self._incoming: Incoming | None = None
        self._inbox: Mailbox | None = None
        self._folder = INBOX
        self._raw: IO[bytes] | None = None  # a binary message as it came: what it becomes is known when it is whole
        self.header = b""  # as it was given to ``write``
        self.keep = False  # the octets may be asked for though ``commit`` failed

    @property
    def recipients(self) -> list[Recipient]:
        """All that were added."""
        return [recipient for group in self._users.values() for recipient in group]

    def recipient(self, recipient: Recipient) -> None:
        """Add a recipient; several addresses of one user are one copy."""
        self._users.setdefault(recipient.user, []).append(recipient)

    def write(self, data: bytes) -> None:
        """Take octets; the first are the header. Raises `Refused`."""
        try:
            with os_errors():
                if self._incoming is None:
                    self._incoming = self._begin(data)
                    if self._envelope.binary:
                        self._raw = tempfile.TemporaryFile(dir=os.path.dirname(self._incoming.path))  # noqa: SIM115 - abort
                (self._raw or self._incoming).write(data)
        except StoreError as error:
            raise Refused(status_of(error)) from error

    def _begin(self, header: bytes) -> Incoming:
        self.header = header
        if self._target.spam_to and self._target.marked.search(header):
            self._folder = self._target.spam_to
        for user in self._users:
            try:
                self._inbox = self._mailbox(user)
                incoming = self._inbox.receive()
            except StoreError as error:
                self._failed[user] = status_of(error)
                continue
            incoming.write(self._trace())
            return incoming
        raise Refused(next(iter(self._failed.values())))

    def _trace(self) -> bytes:
        trace = f"Return-Path: <{self._envelope.sender}>\r\n"
        if len(self._users) == 1:
            given = {r.given or r.address for group in self._users.values() for r in group}
            if len(given) == 1:
                trace += f"Delivered-To: {given.pop()}\r\n"
        return trace.encode()

    def _mailbox(self, user: str) -> Mailbox:
        account = self._target.store().account(user)
        return account.mailbox(INBOX if self._folder == INBOX else _junk(account, self._folder))

    def commit(self) -> dict[Recipient, Status]:
        """Give the message its names and UIDs; durable when it returns. See `Delivery.commit`."""
        assert self._incoming is not None
        single = len(self._users) == 1
        try:
            if self._raw is not None:
                self._convert(self._raw, self._incoming)
        except StoreError as error:
            self._failed = dict.fromkeys(self._users, status_of(error))
        for user in self._users:
            if user in self._failed:
                continue
            try:
                self._place(user, self._incoming, single)
            except StoreError as error:
                self._failed[user] = status_of(error)
        if not self._failed:
            self.abort()
        metrics.DELIVERED.inc(len(self._users) - len(self._failed), result="ok")
        if self._failed:
            metrics.DELIVERED.inc(len(self._failed), result="failed")
        return {r: self._failed[user] for user, group in self._users.items() if user in self._failed for r in group}

    # RFC 3030 section 3: "preserve all bits in each octet". A mail store has lines, and IMAP no NUL
    # (RFC 9051 section 4.3.1): parts that are not lines are kept in base64, and BINARY gives them as they came.
    def _convert(self, raw: IO[bytes], incoming: Incoming) -> None:
        with os_errors():
            raw.flush()
            if os.fstat(raw.fileno()).st_size:
                with Mapped(raw.fileno(), 0, access=mmap.ACCESS_READ) as octets:
                    for piece in convert(octets, b"8bit"):  # type: ignore[arg-type]  # it can what is asked of it
                        incoming.write(piece)

    def _place(self, user: str, incoming: Incoming, single: bool) -> None:
        if single and not self.keep and self._inbox is not None:
            self._target.together.append(self._inbox, incoming)
            self._incoming = None  # it has its name: nothing is left to remove
            return
        mailbox = self._mailbox(user)
        try:
            mailbox.link(incoming)
        except StoreError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EXDEV:
                raise
            self._copy(mailbox, incoming)

    def octets(self) -> Iterator[bytes]:
        """The message as it was given to ``write``, header first, for those for whom ``commit`` failed."""
        assert self._incoming is not None
        if self._raw is not None:
            yield self.header
            at = len(self.header)
            while data := os.pread(self._raw.fileno(), _COPY, at):
                yield data
                at += len(data)
            return
        with open(self._incoming.path, "rb") as file:
            yield self.header
            file.seek(len(self._trace()) + len(to_crlf(self.header)))
            while data := file.read(_COPY):
                yield data

    def _copy(self, mailbox: Mailbox, incoming: Incoming) -> None:
        """Copy to a user whose mail lies in another file system."""
        with os_errors(), mailbox.receive() as copy:
            fd = os.open(incoming.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                while data := os.read(fd, _COPY):
                    copy.write(data)
            finally:
                os.close(fd)
            mailbox.append([Append(copy)])

    def abort(self) -> None:
        """Remove what was written and not placed."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.discard()
        if self._raw is not None:
            self._raw.close()
