"""How a maildrop is sent: sizes, dots, last lines, together, and without holding or opening more than need be."""

from __future__ import annotations

import socket
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailserver.net.connection import Connection
from mailserver.pop3.context import Pop3Options
from tests.messages import corpus
from tests.transcripts.test_pop3 import deliver, serving
from tests.unit.pop3.test_session import connect

LOGIN = b"USER alice\r\nPASS secret\r\n"


def ask(client: socket.socket, commands: bytes) -> bytes:
    """Everything said until the server hangs up."""
    client.sendall(commands)
    return b"".join(iter(lambda: client.recv(1 << 18), b""))


def unstuffed(answer: bytes) -> bytes:
    """The octets of a multi-line answer, as RFC 1939 section 3 tells a client to read them."""
    assert answer.endswith(b"\r\n.\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in answer[:-5].split(b"\r\n"))


# Maildir alone: octets as they lie in files; of an mbox: unit/store/formats/mbox
def test_every_message_of_the_corpus(tmp_path: Path) -> None:
    """Octet for octet, with CRLF; a last CRLF that is missing is sent and does not count, as with Dovecot."""
    odd = [
        b"a: b\r\n\r\n.",
        b"a: b\r\n\r\n..\r\n.\r\n",
        b"a: b\r\n\r\n\r\n",
        b".\r\n",
        b"a: b",
        b"a: b\n\n.x\n.",
        b"a\r\n\r\nx\r",
    ]
    messages = [*corpus(), *odd]
    with serving(tmp_path, Pop3Options()) as (server, store):
        folder = Path(store.account("alice").inbox.files.path) / "cur"
        for number, octets in enumerate(messages):
            (folder / f"15{number:08d}.x:2,").write_bytes(octets)
        with connect(server) as client:
            client.settimeout(60)
            many = b"".join(b"RETR %d\r\nNOOP\r\n" % n for n in range(1, len(messages) + 1))
            said = ask(client, LOGIN + b"LIST\r\n" + many + b"QUIT\r\n")
    _, _, rest = said.partition(b" octets)\r\n")
    listing, _, rest = rest.partition(b"\r\n.\r\n")
    sizes = [int(line.split()[1]) for line in listing.split(b"\r\n")]
    for octets, size in zip(messages, sizes, strict=True):
        expected = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        assert size == len(expected)
        assert rest.startswith(b"+OK %d octets\r\n" % size)
        answer, _, rest = rest.partition(b"\r\n")[2].partition(b"\r\n.\r\n+OK\r\n")
        # an empty message is answered by the final dot alone
        assert unstuffed(b"\r\n" + answer + b"\r\n.\r\n")[2:] == expected.removesuffix(b"\r\n")
    assert rest.startswith(b"+OK POP3 server signing off")


@pytest.mark.parametrize("command", [b"RETR 1", b"TOP 1 1000000"])
def test_a_message_of_50_mb_is_not_held_in_memory(tmp_path: Path, command: bytes, mailbox_format: str) -> None:
    size = 50_000_000
    line = b"." + b"x" * 997 + b"\r\n"
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, store):
        inbox = store.account("alice").inbox
        path, start = Path(inbox.files.path), b"From a@b Mon Jan  1 00:00:00 2024\n"
        if mailbox_format == "maildir":
            path, start = path / "cur" / f"1500000000.x,S={size},W={size}:2,", b""
        head = b"Subject: big\r\n\r\n"
        with path.open("wb") as file:
            file.write(start + head + line * ((size - len(head)) // 1000))
            file.write(b"y" * (len(start) + size - file.tell() - 2) + b"\r\n" + b"\n" * bool(start))
        with connect(server) as client:
            client.settimeout(60)
            tracemalloc.start()
            try:
                client.sendall(LOGIN + command + b"\r\nQUIT\r\n")
                got, last = 0, b""
                while data := client.recv(65536):
                    got += len(data)
                    last = (last + data)[-80:]
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert got > size + size // 1000
    assert last.endswith(b"\r\n.\r\n+OK POP3 server signing off (0 messages deleted)\r\n")
    assert peak < (3 if mailbox_format == "maildir" else 4) << 20


@pytest.mark.parametrize(
    ("lines", "body"), [(0, b""), (1, b".one\r\n"), (2, b".one\r\n\r\n"), (99, b".one\r\n\r\nthree")]
)
def test_top_counts_lines_of_the_body(tmp_path: Path, lines: int, body: bytes, mailbox_format: str) -> None:
    head = b"A: b\r\nC: d\r\n e\r\n\r\n"
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, store):
        deliver(store, head + b".one\r\n\r\nthree")
        with connect(server) as client:
            said = ask(client, LOGIN + b"TOP 1 %d\r\nQUIT\r\n" % lines)
    answer = said.partition(b"+OK Top of message follows\r\n")[2].partition(b"+OK POP3")[0]
    assert unstuffed(answer) + b"\r\n" == head + body.removesuffix(b"\r\n") + (b"\r\n" if body else b"")


_opened: list[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str):
        _opened.append(arguments[0])


sys.addaudithook(_note)  # cannot be removed, hence the switch


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Every path that this process opens, whichever way."""
    global _opened
    _opened = found = []
    try:
        yield found
    finally:
        _opened = None


# Maildir alone: sizes in file names; of an mbox: unit/store/test_mbox.py
def test_ten_thousand_messages_are_listed_without_opening_one(tmp_path: Path) -> None:
    count = 10_000
    with serving(tmp_path, Pop3Options()) as (server, store):
        folder = Path(store.account("alice").inbox.files.path) / "cur"
        for number in range(count):
            (folder / f"15{number:08d}.x,S=6,W=8:2,").write_bytes(b"a: b\n\n")
        with opened_files() as opened, connect(server) as client:
            client.settimeout(60)
            said = ask(client, LOGIN + b"STAT\r\nLIST\r\nUIDL\r\nLIST 10000\r\nUIDL 10000\r\nQUIT\r\n")
    assert b"\r\n+OK 10000 80000\r\n" in said
    assert said.count(b" 8\r\n") == count + 1
    assert said.count(b"\r\n") == 2 * count + 10
    assert any("dovecot-uidlist" in path for path in opened)
    assert not [path for path in opened if "/cur/" in path or "/new/" in path]


def test_answers_to_commands_that_came_together_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailbox_format: str
) -> None:
    sends: list[int] = []
    send_many = Connection.send_many

    def counted(self: Connection, parts: list[bytes]) -> None:
        sends.append(len(parts))
        send_many(self, parts)

    monkeypatch.setattr(Connection, "send_many", counted)
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, store):
        for _ in range(20):
            deliver(store, b"a: b\r\n\r\nc\r\n")
        with connect(server) as client:
            client.sendall(LOGIN)
            assert client.recv(1000).count(b"+OK") == 2
            del sends[:]
            said = ask(
                client, b"STAT\r\nUIDL\r\n" + b"".join(b"RETR %d\r\n" % n for n in range(1, 21)) + b"XX\r\nQUIT\r\n"
            )
        assert said.count(b"+OK") == 23
        assert sends == [24]
        with connect(server) as client:  # half a command does not keep the answers back
            client.sendall(b"CAPA\r\nCA")
            said = b""
            while not said.endswith(b"\r\n.\r\n"):
                said += client.recv(1000)
            assert ask(client, b"PA\r\nQUIT\r\n").count(b"+OK") == 2


def test_a_surrogate_has_the_size_that_was_listed(tmp_path: Path, mailbox_format: str) -> None:
    """RFC 6856 section 2.1, for every message of the corpus with a UTF-8 header, and those without."""
    messages = [octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for octets in corpus()]
    messages = [m for m in messages if m.endswith(b"\r\n") and len(m) < 50_000]
    with serving(tmp_path, Pop3Options(utf8_headers="surrogate"), format=mailbox_format) as (server, store):
        for octets in messages:
            deliver(store, octets)
        with connect(server) as client:
            many = b"".join(b"LIST %d\r\nRETR %d\r\nNOOP\r\n" % (n, n) for n in range(1, len(messages) + 1))
            said = ask(client, LOGIN + many + b"QUIT\r\n")
    rest = said.partition(b"ready\r\n")[2]
    grown = 0
    for number, octets in enumerate(messages, 1):
        size = int(rest.partition(b"\r\n")[0].split()[2])
        assert rest.startswith(b"+OK %d %d\r\n+OK %d octets\r\n" % (number, size, size))
        answer, _, rest = rest.partition(b" octets\r\n")[2].partition(b"\r\n.\r\n+OK\r\n")
        sent = unstuffed(b"\r\n" + answer + b"\r\n.\r\n")[2:] + b"\r\n"
        assert len(sent) == size
        grown += size != len(octets)
        assert (sent == octets) is (size == len(octets))
    assert grown
