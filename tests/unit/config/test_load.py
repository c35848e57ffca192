"""Settings: defaults of the guide, errors that all come at once, a file that is generated."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from mailserver.config.load import ConfigError, find, load, parse
from mailserver.config.schema import ImapConfig, Pop3Config, Settings
from scripts import make_conf


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "m.toml")
    return caught.value.errors


def test_defaults_of_the_guide() -> None:
    imap, pop3 = ImapConfig(), Pop3Config()
    assert (imap.port, imap.ssl_port, imap.enable_ssl, imap.max_connections) == (143, 993, True, 100)
    assert (imap.connection_timeout_seconds, imap.idle_timeout_seconds, imap.max_message_size) == (300, 1800, 52428800)
    assert (pop3.port, pop3.ssl_port, pop3.enable_ssl, pop3.max_connections) == (110, 995, True, 50)
    assert (pop3.connection_timeout_seconds, pop3.max_message_size, pop3.delete_on_quit) == (600, 52428800, True)
    assert Settings().storage.mailbox_path == "/var/spool/mail"
    assert parse(b"") == Settings()


def test_the_shipped_file_is_generated_and_says_the_defaults() -> None:
    text = make_conf.text()
    assert make_conf.TARGET.read_text() == text, "run `make conf`"
    assert parse(text.encode()) == Settings()
    effective = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert parse(effective.encode()) == Settings()


def test_values() -> None:
    settings = parse(
        b'hostname = "mail.example.com"\ndomains = ["example.com"]\n[imap]\nport = 0\nssl_port = -1\n'
        b'[server]\nworkers = "auto"\n[storage]\ndurability = "relaxed"\n'
    )
    assert settings.hostname == "mail.example.com"
    assert settings.domains == ("example.com",)
    assert settings.imap == ImapConfig(port=0, ssl_port=-1)
    assert settings.server.workers == "auto"


def test_all_errors_at_once_with_their_lines() -> None:
    found = errors(
        "hostnam = 'x'\n"
        "[imap]\n"
        "prot = 143  # a slip\n"
        "ssl_port = 70000\n"
        "max_connections = 0\n"
        'host = 5\nenable_ssl = "yes"\n'
        "mailbox_path = '/x'\n"
        "[storage]\n"
        "format = 'mdbox'\n"
        "users_file = 'x'\n"
        "[server]\nworkers = 'many'\n"
        "[nosuch]\nx = 1\n"
        "[pop3]\ndisabled_capabilities = 1\n"
    )
    assert found == [
        "m.toml:1: hostnam: unknown name; did you mean hostname?",
        "m.toml:3: imap.prot: unknown name; did you mean port?",
        "m.toml:4: imap.ssl_port: must be at most 65535",
        "m.toml:5: imap.max_connections: must be at least 1",
        'm.toml:6: imap.host: must be a text in quotes, as "..."',
        "m.toml:7: imap.enable_ssl: must be true or false",
        "m.toml:8: imap.mailbox_path: stands once, in [storage]",
        'm.toml:10: storage.format: must be "maildir" or "mbox"',
        "m.toml:11: storage.users_file: unknown name; it belongs into [auth]",
        'm.toml:13: server.workers: must be "auto"',
        found[10],
        "m.toml:17: pop3.disabled_capabilities: unknown name; it belongs into [imap]",
    ]
    assert found[10].startswith("m.toml:14: nosuch: unknown name; sections are [storage], [auth]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("imap = 5", "m.toml:1: imap: is a section: write [imap]"),
        ("domains = 'x'", 'm.toml:1: domains: must be a list of texts, as ["a", "b"]'),
        ("domains = [1]", 'm.toml:1: domains: must be a list of texts, as ["a", "b"]'),
        ("imap.port = true", "m.toml:1: imap.port: must be a whole number"),
        ("imap.port = 1.5", "m.toml:1: imap.port: must be a whole number"),
        ("[server]\nworkers = 1.5", 'm.toml:2: server.workers: must be a whole number or "auto"'),
        ("[tls]\ncertificate = 'x'", "m.toml:1: tls.private_key: certificate and private_key are needed together"),
        ('hostname = "a\\u0000b"', "m.toml:1: hostname: holds a NUL"),
        ("[queue]\nretry_first_seconds = 80000", "m.toml:2: queue.retry_first_seconds: is more than"),
        ("[imap]\nzzzzzz = 1", "m.toml:2: imap.zzzzzz: unknown name in [imap]"),
        ("[imap\n", "m.toml: Expected ']'"),
        ("a = 1\na = 2", "m.toml: Cannot overwrite a value"),
        ("a = " + "[" * 100_000, "m.toml: "),
    ],
)
def test_each_error(text: str, expected: str) -> None:
    (found,) = errors(text)
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[smtp]\ndisabled_extensions = ['BDAT']\n", 'BDAT: must be "8BITMIME" or "AUTH"'),
        ("[server]\nnameservers = ['ns.example']\n", "ns.example: is no address"),
        ("[delivery]\nspam_header = 'X-Spam'\n", "must be a field and its value"),
        ("[webhook]\nurl = 'ftp://x'\n", 'must begin with "http://" or "https://"'),
        ("[storage]\nshared_prefix = 'shared'\n", 'each with "/" behind it'),
        ("[storage]\nshared_prefix = '/'\n", 'each with "/" behind it'),
        ("[storage]\nshared_prefix = 'a//'\n", 'each with "/" behind it'),
        ("[storage]\nshared_prefix = '../'\n", 'each with "/" behind it'),
        ("[storage]\nshared_prefix = 'inbox/x/'\n", "may not begin with INBOX"),
        ("[storage]\nshared_prefix = 'a*/'\n", "no wildcards"),
    ],
)
def test_errors_of_delivery(text: str, expected: str) -> None:
    (found,) = errors(text)
    assert expected in found
    assert ":2: " in found


def test_prefix_of_shared_mailboxes() -> None:
    assert parse(b"").storage.shared_prefix == "Other Users/"
    for prefix in ("", "shared/", "Gemeinsame Ordner/Büro/"):
        assert parse(f"[storage]\nshared_prefix = '{prefix}'\n".encode()).storage.shared_prefix == prefix


def test_lists_of_delivery() -> None:
    found = parse(b"[smtp]\ndisabled_extensions = ['DSN']\n[server]\nnameservers = ['127.0.0.1', '[::1]:53', '::1']\n")
    assert found.smtp.disabled_extensions == ("DSN",)
    assert found.server.nameservers == ("127.0.0.1", "[::1]:53", "::1")


def test_not_utf8() -> None:
    with pytest.raises(ConfigError, match="utf-8"):
        parse(b"\xff")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("[auth]\nusers_file = 'users'\n[storage]\nmailbox_path = '/abs'\n")
    settings = load(path)
    assert settings.auth.users_file == str(tmp_path / "users")
    assert settings.storage.mailbox_path == "/abs"
    assert settings.storage.index_path == ""


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mailserver.config.load.PLACES", ("./mailserver.toml",))
    assert find("x.toml", {"MAILSERVER_CONFIG": "y"}) == Path("x.toml")
    assert find(None, {"MAILSERVER_CONFIG": "y"}) == Path("y")
    assert find(None, {}) is None
    (tmp_path / "mailserver.toml").touch()
    assert find(None, {}) == Path("mailserver.toml")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ImapConfig().port = 1  # type: ignore[misc]  # that is the test
