"""Single capabilities can be switched off, for the server and for an account."""

from __future__ import annotations

import imaplib
from pathlib import Path

from mailserver import ImapConfig, ImapServer, Services, Settings
from mailserver.config.schema import AuthConfig, StorageConfig


def capabilities(server: ImapServer, user: str) -> set[str]:
    with imaplib.IMAP4("127.0.0.1", server.port) as client:
        before = set(client.capabilities)
        client.login(user, "x")
        words = client.capability()[1][0].decode().upper().split()
        assert client.enable("QRESYNC")[0] == "OK"
        return before | set(words)


def test_switched_off(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("a:{PLAIN}x::::::\nb:{PLAIN}x::::::imap_disabled_capabilities=qresync,MOVE\n")
    config = ImapConfig(host="127.0.0.1", port=0, ssl_port=-1, disabled_capabilities=("thread=refs",))
    settings = Settings(
        storage=StorageConfig(mailbox_path=str(tmp_path / "mail")), auth=AuthConfig(users_file=str(tmp_path / "users"))
    )
    services = Services(settings)
    try:
        with ImapServer(config, services) as server:
            a, b = capabilities(server, "a"), capabilities(server, "b")
            assert {"QRESYNC", "MOVE", "IDLE", "ENABLE", "LITERAL-", "LITERAL+", "THREAD=REFERENCES"} <= a
            assert "THREAD=REFS" not in a
            assert a - b == {"QRESYNC", "MOVE"}
    finally:
        services.authenticator.stop()
        services.close()
