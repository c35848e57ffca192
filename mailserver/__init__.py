"""A mail server: SMTP in, Maildir in the middle, IMAP and POP3 out.

The names below are the library; everything else is reached by its full path. They are imported at first use, so that
``import mailserver`` costs nothing. ::

    with ImapServer(ImapConfig(port=0, ssl_port=-1, mailbox_path=folder, users={"alice": "secret"})) as server:
        imaplib.IMAP4("127.0.0.1", server.port)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailserver.config.schema import ImapConfig, LmtpConfig, Pop3Config, Settings, SmtpConfig, SubmissionConfig
    from mailserver.imap.server import ImapServer
    from mailserver.pop3.server import Pop3Server
    from mailserver.services import Services
    from mailserver.smtp.server import LmtpServer, SmtpServer, SubmissionServer

__version__ = "0.1.0"

_HOMES = {
    "ImapConfig": "mailserver.config.schema",
    "LmtpConfig": "mailserver.config.schema",
    "Pop3Config": "mailserver.config.schema",
    "Settings": "mailserver.config.schema",
    "SmtpConfig": "mailserver.config.schema",
    "SubmissionConfig": "mailserver.config.schema",
    "Services": "mailserver.services",
    "ImapServer": "mailserver.imap.server",
    "Pop3Server": "mailserver.pop3.server",
    "SmtpServer": "mailserver.smtp.server",
    "SubmissionServer": "mailserver.smtp.server",
    "LmtpServer": "mailserver.smtp.server",
}

__all__ = [
    "ImapConfig",
    "ImapServer",
    "LmtpConfig",
    "LmtpServer",
    "Pop3Config",
    "Pop3Server",
    "Services",
    "Settings",
    "SmtpConfig",
    "SmtpServer",
    "SubmissionConfig",
    "SubmissionServer",
    "__version__",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mailserver' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
