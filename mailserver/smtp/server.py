"""The SMTP, submission and LMTP servers: join the connection and the session."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import os
import sqlite3
from typing import ClassVar

from mailserver.config.schema import LmtpConfig, SmtpConfig, SubmissionConfig
from mailserver.delivery.target import Status
from mailserver.net.connection import Connection
from mailserver.services import C, ProtocolServer
from mailserver.services import Services as Services
from mailserver.smtp import replies
from mailserver.smtp.context import LMTP, SMTP, SUBMISSION, Flavour, SmtpContext, SmtpOptions
from mailserver.smtp.defence.dnsbl import Blocklists
from mailserver.smtp.defence.greylist import Greylist
from mailserver.smtp.defence.policy import Defence
from mailserver.smtp.session import Session


class _Server(ProtocolServer[C]):
    """What the three share."""

    flavour: ClassVar[Flavour]

    @functools.cached_property
    def context(self) -> SmtpContext:
        """What the sessions share; made at the first connection, for the store is opened after the fork."""
        services = self.services
        tls = services.tls if self.config.enable_ssl else None
        return SmtpContext(
            self.flavour,
            services.settings.hostname,
            services.authenticator,
            services.router,
            tls,
            self.smtp_options(),
            services.webhook,
        )

    def smtp_options(self) -> SmtpOptions:
        """Return what the settings say."""
        config, limits = self.config, self.services.settings.limits
        return SmtpOptions(
            timeout=config.connection_timeout_seconds,
            max_message_size=getattr(config, "max_message_size"),  # noqa: B009 - all three have it, their base has not
            max_recipients=limits.max_recipients,
            max_hops=limits.max_hops,
            max_bad_commands=limits.max_bad_commands,
            max_junk=limits.max_junk_commands,
            max_transfer=limits.max_transfer_seconds,
            defence=self._defence(),
            refuse_bare_newline=getattr(config, "bare_newline", "accept") == "refuse",
            check_sender=self._for_users.check_sender,
            check_from=self._for_users.check_from,
            disabled=frozenset(getattr(config, "disabled_extensions")),  # noqa: B009 - as above
            max_hold=getattr(config, "max_hold_seconds", 0),
            trusted=[ipaddress.ip_network(n, strict=False) for n in getattr(config, "trusted_networks", ())],
        )

    @property
    def _for_users(self) -> SubmissionConfig:
        """What holds for who has logged in, on whatever port."""
        return self.config if isinstance(self.config, SubmissionConfig) else self.services.settings.submission

    def _defence(self) -> Defence:
        """Return what the settings say: submission knows users, SMTP strangers, LMTP a mail server beside us."""
        services, own, users = self.services, self.services.settings.defence, self._for_users
        counts = Defence(
            per_minute=services.per_minute.allow,
            per_hour=services.per_hour.allow,
            user_messages=users.messages_per_hour,
            user_recipients=users.recipients_per_hour,
            tarpit=own.tarpit_seconds,
        )
        if self.flavour is LMTP:
            return Defence()
        if self.flavour is SUBMISSION:
            return dataclasses.replace(counts, connections=own.connections_per_minute)
        return dataclasses.replace(
            counts,
            connections=own.connections_per_minute,
            messages=own.messages_per_minute,
            greeting_delay=own.greeting_delay_seconds,
            hello=own.helo,
            blocklists=Blocklists(own.dnsbl, services.resolver) if own.dnsbl else None,
            greylist=self._greylist(own.greylist_seconds),
        )

    def _greylist(self, seconds: int) -> Greylist | None:
        if not seconds:
            return None
        folder = self.services.settings.queue.path
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            return Greylist(f"{folder}/greylist.sqlite", seconds)
        except (OSError, sqlite3.Error) as error:
            self.log.error("greylist-failed", reason=str(error))
            return None

    def stop(self, grace: float = 5.0) -> None:
        """Stop as `ProtocolServer.stop`."""
        super().stop(grace)
        context = self.__dict__.pop("context", None)
        if context is not None and context.options.defence.greylist is not None:
            context.options.defence.greylist.close()

    def handle_connection(self, conn: Connection) -> None:
        """Run a session."""
        Session(conn, self.context).run()

    def refuse(self, reason: str) -> bytes:
        """Return the greeting of a server that has no room."""
        return replies.encode(Status(421, "4.3.2", f"Not now: {reason}"))


class SmtpServer(_Server[SmtpConfig]):
    """``SmtpServer(SmtpConfig(port=0, ...))``: `start`, `stop`, or a context manager."""

    protocol = "smtp"
    section = "smtp"
    must_log_in = False
    flavour = SMTP

    def __init__(self, config: SmtpConfig | None = None, services: Services | None = None) -> None:
        super().__init__(config or SmtpConfig(), services)


class SubmissionServer(_Server[SubmissionConfig]):
    """Mail from users, after login. RFC 6409, RFC 8314."""

    protocol = "submission"
    section = "submission"
    flavour = SUBMISSION

    def __init__(self, config: SubmissionConfig | None = None, services: Services | None = None) -> None:
        super().__init__(config or SubmissionConfig(), services)


class LmtpServer(_Server[LmtpConfig]):
    """Mail from a mail server beside this one. RFC 2033."""

    protocol = "lmtp"
    section = "lmtp"
    must_log_in = False
    flavour = LMTP

    def __init__(self, config: LmtpConfig | None = None, services: Services | None = None) -> None:
        super().__init__(config or LmtpConfig(), services)
