"""A plugin for pytest: the fixture ``mail_server``. Installed with the package; nothing else is loaded until then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mailserver.testing.server import MailServer


@pytest.fixture
def mail_users() -> dict[str, str]:
    """Names and passwords of ``mail_server``; override it for others."""
    return {"alice": "secret", "bob": "secret"}


@pytest.fixture
def mail_server(tmp_path: Path, mail_users: dict[str, str]) -> Iterator[MailServer]:
    """A mail server of this test's own: SMTP, submission, IMAP and POP3 on free ports."""
    from mailserver.testing.server import MailServer  # takes a moment, and most tests do not ask for it

    with MailServer(tmp_path / "mail_server", mail_users) as server:
        yield server
