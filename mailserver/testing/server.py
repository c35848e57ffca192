"""A whole mail server in a test: users, ports, mailboxes, and what a test wants to put in or look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from mailserver.app import App
from mailserver.config.schema import (
    AuthConfig,
    HttpConfig,
    ImapConfig,
    LmtpConfig,
    Pop3Config,
    QueueConfig,
    Settings,
    SmtpConfig,
    StorageConfig,
    SubmissionConfig,
)
from mailserver.store.account import Account
from mailserver.store.mailbox import Append

_HOST = "127.0.0.1"
_NO_TLS = -1


class MailServer:
    """SMTP, submission, IMAP and POP3 on free ports of the loopback, all for the same mailboxes below ``folder``.

    Nothing leaves the machine: mail to other domains than ``domains`` is refused. Also a context manager.
    """

    host = _HOST

    def __init__(
        self, folder: str | Path, users: Mapping[str, str], *, domains: tuple[str, ...] = ("localhost", "example.com")
    ) -> None:
        """``users``: names and passwords."""
        self.users = dict(users)
        free: dict[str, Any] = {"host": _HOST, "port": 0, "ssl_port": _NO_TLS}
        settings = Settings(
            hostname="localhost",
            domains=domains,
            storage=StorageConfig(mailbox_path=f"{folder}/mail", durability="relaxed"),
            auth=AuthConfig(delay_failures=False),
            queue=QueueConfig(path=""),
            imap=ImapConfig(**free),
            pop3=Pop3Config(**free),
            smtp=SmtpConfig(**free),
            submission=SubmissionConfig(check_from=False, **free),
            lmtp=LmtpConfig(port=-1),
            http=HttpConfig(port=-1),
        )
        self._app = App(settings, users=self.users)

    def __enter__(self) -> Self:
        self._app.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._app.stop()

    @property
    def imap_port(self) -> int:
        """Where IMAP is."""
        return self._app.ports["imap"]

    @property
    def pop3_port(self) -> int:
        """Where POP3 is."""
        return self._app.ports["pop3"]

    @property
    def smtp_port(self) -> int:
        """Where mail for the users is received."""
        return self._app.ports["smtp"]

    @property
    def submission_port(self) -> int:
        """Where users who log in send."""
        return self._app.ports["submission"]

    def _account(self, user: str) -> Account:
        return self._app.services.store.account(user)

    def deliver(self, user: str, message: bytes, mailbox: str = "INBOX") -> int:
        """Put a message into a mailbox, which is made when it is missing; returns its UID."""
        account = self._account(user)
        if not account.exists(mailbox):
            account.create(mailbox)
        box = account.mailbox(mailbox)
        with box.receive() as incoming:
            incoming.write(message)
            return int(box.append([Append(incoming)])[1][0])

    def messages(self, user: str, mailbox: str = "INBOX") -> list[bytes]:
        """The octets of all messages of a mailbox, oldest first."""
        box = self._account(user).mailbox(mailbox)
        return [box.read(message) for message in box.rescan().messages]
