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


def test_without_a_prefix_there_are_no_access_lists(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("a:{PLAIN}x\n")
    settings = Settings(
        storage=StorageConfig(mailbox_path=str(tmp_path / "mail"), shared_prefix=""),
        auth=AuthConfig(users_file=str(tmp_path / "users")),
    )
    services = Services(settings)
    try:
        with ImapServer(ImapConfig(host="127.0.0.1", port=0, ssl_port=-1), services) as server:
            assert not {"ACL", "RIGHTS=TEXK", "LIST-MYRIGHTS"} & capabilities(server, "a")
            with imaplib.IMAP4("127.0.0.1", server.port) as client:
                client.login("a", "x")
                assert client.namespace() == ("OK", [b'(("" "/")) NIL NIL'])
                for answer in (client.setacl("INBOX", "b", "lr"), client.getacl("INBOX"), client.myrights("INBOX")):
                    assert answer[0] == "NO"
                assert client.create('"Other Users/b"')[0] == "OK"
                assert client.list('""', "INBOX RETURN (MYRIGHTS)")[0] == "OK"
                assert "MYRIGHTS" not in client.untagged_responses
    finally:
        services.authenticator.stop()
        services.close()
