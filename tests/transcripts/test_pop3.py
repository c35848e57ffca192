"""Every transcript of POP3, against a real server on a real socket with a real store, of either format."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailserver.auth.service import Authenticator, AuthRules
from mailserver.auth.users import StaticUsers
from mailserver.net.listen import Endpoint
from mailserver.net.server import ServerOptions, StreamServer
from mailserver.net.tls import TlsKeeper
from mailserver.pop3.context import Pop3Context, Pop3Options
from mailserver.pop3.server import Pop3Server
from mailserver.store.mailbox import Append
from mailserver.store.store import Store
from tests.transcripts.runner import Player, Transcript, load

FOLDER = Path(__file__).parent / "pop3"
USERS = {"alice": "secret", "bob": "two  words ", "jörg": "pässwörd"}


def message(number: int, size: int) -> bytes:
    """A message of exactly so many octets, as the guide shows it."""
    head = f"From: sender@example.com\r\nTo: recipient@example.com\r\nSubject: Test Message {number}\r\n\r\n".encode()
    head = head if len(head) + 2 <= size else b"Subject: %d\r\n\r\n" % number
    lines = b"Message body here...\r\n" * (size // 22 + 1)
    return (head + lines)[: size - 2] + b"\r\n"


def deliver(store: Store, octets: bytes, user: str = "alice") -> None:
    box = store.account(user).mailbox("INBOX")
    with box.receive() as incoming:
        incoming.write(octets)
        box.append([Append(incoming)])


@contextmanager
def serving(
    tmp_path: Path, options: Pop3Options, tls: TlsKeeper | None = None, format: str = "maildir"
) -> Iterator[tuple[Pop3Server, Store]]:
    auth = Authenticator(StaticUsers(USERS), AuthRules(delay_failures=False))
    with Store(str(tmp_path / "mail"), durability="relaxed", format=format) as store:
        context = Pop3Context("localhost", store, auth, tls, options)
        with _Server(ServerOptions("pop3", [Endpoint("pop3", "127.0.0.1", 0)]), context) as server:
            yield server, store


class _Server(Pop3Server):
    """A server with a context of our making."""

    def __init__(self, options: ServerOptions, context: Pop3Context) -> None:
        StreamServer.__init__(self, options)
        self.__dict__["context"] = context
        self._embedded = False

    start = StreamServer.start
    stop = StreamServer.stop


def variables(store: Store) -> dict[str, str | Callable[[Mapping[str, str]], str]]:
    def digest(known: Mapping[str, str]) -> str:
        return hashlib.md5(known["timestamp"].encode() + b"secret").hexdigest()

    def arrive(known: Mapping[str, str]) -> str:
        deliver(store, message(9, 200))
        return "now"

    return {"digest": digest, "deliver": arrive}


def fill(store: Store, transcript: Transcript) -> None:
    for number, size in enumerate(transcript.settings.get("sizes", []), 1):
        deliver(store, message(number, int(size)))
    for name in sorted(transcript.settings):
        if name.startswith("raw"):  # raw, or raw2 and so on
            words = transcript.settings[name]
            deliver(store, " ".join(words).encode().decode("unicode_escape").encode("latin-1"))


@pytest.mark.parametrize("format", ["maildir", "mbox"])
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path, format: str, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    transcript = load(path)
    tls = TlsKeeper(*certificate) if "tls" in transcript.settings else None
    client = ssl.create_default_context(cafile=str(certificate[0]))
    options = Pop3Options(max_bad_commands=int(transcript.settings.get("bad", ["10"])[0]), **_options(transcript))
    with serving(tmp_path, options, tls, format) as (server, store):
        fill(store, transcript)
        address = ("127.0.0.1", server.addresses["pop3"])
        Player(address, variables=variables(store), tls=client).play(transcript)
        if "left" in transcript.settings:
            server.stop()
            left = store.account("alice").mailbox("INBOX").rescan().messages
            assert len(left) == int(transcript.settings["left"][0])


def _options(transcript: Transcript) -> dict[str, Any]:
    """``options name=value ...``: fields of Pop3Options."""
    found: dict[str, Any] = {}
    for word in transcript.settings.get("options", []):
        name, _, value = word.partition("=")
        found[name] = {"yes": True, "no": False}.get(value, int(value) if value.isdigit() else value)
    return found
