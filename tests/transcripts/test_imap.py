"""Every transcript of IMAP, against a real server on a real socket with a real store."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from mailserver import ImapConfig, ImapServer
from mailserver.store.check import check_account
from mailserver.store.mailbox import Append
from mailserver.store.store import Store
from tests.transcripts.runner import Player, Transcript, load

FOLDER = Path(__file__).parent / "imap"
_TREE = re.compile(r"C: (CREATE|DELETE|RENAME|LIST|LSUB|SUBSCRIBE)\b")
USERS = {"alice": "secret", "username": "password", "bob": "two words"}


def message(number: int) -> bytes:
    """Message ``number`` of a transcript."""
    return (
        f"From: Sender {number} <sender{number}@example.com>\r\n"
        "To: recipient@example.com\r\n"
        f"Subject: Test Message {number}\r\n"
        f"Date: Mon, {number % 28 + 1} Jan 2024 10:00:00 +0000\r\n"
        f"Message-ID: <{number}@example.com>\r\n"
        "\r\n"
        f"Message body {number} here...\r\n"
    ).encode()


def deliver(store: Store, octets: bytes, user: str, mailbox: str = "INBOX", flags: int = 0) -> None:
    box = store.account(user).mailbox(mailbox)
    with box.receive() as incoming:
        incoming.write(octets)
        box.append([Append(incoming, flags)])


def variables(store: Store, user: str, mailbox_format: str) -> dict[str, str | Callable[[Mapping[str, str]], str]]:
    """``$leaf``: how LIST calls a mailbox without children."""

    def arrive(known: Mapping[str, str]) -> str:
        deliver(store, message(9), user)
        return "now"

    return {"deliver": arrive, "leaf": "\\NoInferiors" if mailbox_format == "mbox-fs" else "\\HasNoChildren"}


def prepare(store: Store, transcript: Transcript) -> str:
    settings = transcript.settings
    user = settings.get("user", ["alice"])[0]
    for number in range(1, int(settings.get("messages", ["0"])[0]) + 1):
        deliver(store, message(number), user)
    for name in settings.get("mailboxes", []):
        store.account(user).create(name)
    for path in settings.get("corpus", []):
        deliver(store, (Path(__file__).parent.parent / "corpus" / path).read_bytes(), user)
    for name in sorted(settings):
        if name.startswith("raw"):  # raw, or raw1, raw2 and so on
            deliver(store, " ".join(settings[name]).encode().decode("unicode_escape").encode("latin-1"), user)
    return user


def played() -> Iterator[tuple[Path, str]]:
    """Each on both formats, and on nested mboxes when it looks at the tree, unless it says ``formats``."""
    for path in sorted(FOLDER.glob("*.txt")):
        text = path.read_text()
        usual = ["maildir", "mbox", *(["mbox-fs"] if _TREE.search(text) else [])]
        for mailbox_format in load(path).settings.get("formats", usual):
            yield path, mailbox_format


@pytest.mark.parametrize(("path", "mailbox_format"), list(played()), ids=lambda value: getattr(value, "stem", value))
def test_transcript(path: Path, mailbox_format: str, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    transcript = load(path)
    tls = {"certificate": str(certificate[0]), "private_key": str(certificate[1])}
    config = ImapConfig(
        host="127.0.0.1",
        port=0,
        ssl_port=-1,
        mailbox_path=str(tmp_path / "mail"),
        mailbox_format=mailbox_format.partition("-")[0],
        mailbox_layout=mailbox_format.partition("-")[2] or "maildir++",
        users=USERS,
        max_message_size=int(transcript.settings.get("limit", ["100000"])[0]),
        **(tls if "tls" in transcript.settings else {}),
    )
    with ImapServer(config) as server:
        user = prepare(server.services.store, transcript)
        client = ssl.create_default_context(cafile=str(certificate[0]))
        known = variables(server.services.store, user, mailbox_format)
        player = Player(("127.0.0.1", server.port), protocol="imap", variables=known, tls=client)
        player.play(transcript)
    for account in filter(Path.is_dir, (tmp_path / "mail").glob("*")):
        assert check_account(str(account)) == []
