"""The libraries of Python programs: imaplib, IMAPClient with its own live tests, imap-tools, aioimaplib."""

from __future__ import annotations

import asyncio
import imaplib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import aioimaplib
import imap_tools
import pytest
from imapclient import IMAPClient

from mailserver import ImapConfig, ImapServer

MESSAGE = (
    b"From: Anna <anna@example.com>\r\nTo: bob@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Mon, 1 Jan 2024 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nHello Bob\r\n"
)
# The suite's own defects, which fail with Dovecot as well: imaplib has no move(), an Envelope has no length, settings
# are no dictionary, and loopback is not so slow that a millisecond or ten microseconds time out for certain.
DEFECTS = {"test_move", "test_fetch", "test_getacl", "test_small_read_timeout_fail"}
DEFECTS |= {"test_small_connection_timeout_fail"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImapServer]:
    config = ImapConfig(
        host="127.0.0.1", port=0, ssl_port=-1, mailbox_path=str(tmp_path / "mail"), users={"user": "pass"}
    )
    with ImapServer(config) as server:
        yield server


def test_imapclient_live_suite(server: ImapServer, tmp_path: Path) -> None:
    settings = tmp_path / "live.cfg"
    settings.write_text(
        f"[DEFAULT]\nhost = 127.0.0.1\nport = {server.port}\nusername = user\npassword = pass\nssl = false\n"
    )
    command = [sys.executable, "-m", "imapclient.livetest", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert re.search(r"Ran (\d+) tests", done.stderr), done.stderr
    failed = set(re.findall(r"^(?:FAIL|ERROR): (\w+)", done.stderr, re.M))
    assert failed <= DEFECTS, done.stderr
    assert "Items in the first set but not the second" not in done.stderr


def test_access_lists(server: ImapServer) -> None:
    with imaplib.IMAP4("127.0.0.1", server.port) as client:
        client.login("user", "pass")
        client.create("Work")
        assert client.setacl("Work", "fred", "lrs")[0] == "OK"
        assert client.getacl("Work") == ("OK", [b'"Work" fred lrs user lrswipkxteacd'])
        assert client.myrights("Work") == ("OK", [b'"Work" lrswipkxteacd'])
        assert client.deleteacl("Work", "fred")[0] == "OK"
        assert client.getacl("Work") == ("OK", [b'"Work" user lrswipkxteacd'])
        with pytest.raises(imaplib.IMAP4.error):
            client.setacl("Work", "fred", "lrQ")
    with IMAPClient("127.0.0.1", server.port, ssl=False) as client:
        client.login("user", "pass")
        client.setacl("Work", "fred", "lr")
        assert client.getacl("Work") == [(b"fred", b"lr"), (b"user", b"lrswipkxteacd")]
        assert client.namespace().other == (("Other Users/", "/"),)


def test_imapclient_idle(server: ImapServer) -> None:
    with IMAPClient("127.0.0.1", server.port, ssl=False) as client:
        client.login("user", "pass")
        client.select_folder("INBOX")
        client.idle()
        with imaplib.IMAP4("127.0.0.1", server.port) as other:
            other.login("user", "pass")
            other.append("INBOX", None, None, MESSAGE)  # type: ignore[arg-type]  # None is what the library takes
        assert (1, b"EXISTS") in client.idle_check(timeout=10)
        client.idle_done()
        fetched = client.fetch([1], ["ENVELOPE", "FLAGS", "BODYSTRUCTURE"])[1]
        assert fetched[b"ENVELOPE"].subject == b"=?utf-8?q?Gr=C3=BC=C3=9Fe?="


def test_imap_tools(server: ImapServer) -> None:
    box = imap_tools.MailBoxUnencrypted("127.0.0.1", server.port).login("user", "pass")
    with box:
        box.append(MESSAGE, "INBOX", flag_set=[imap_tools.MailMessageFlags.FLAGGED])
        (message,) = box.fetch(imap_tools.AND(subject="Grüße"), charset="utf-8", mark_seen=False)
        assert (message.subject, message.from_) == ("Grüße", "anna@example.com")
        assert [m.uid for m in box.fetch(imap_tools.AND(flagged=True, seen=False))] == ["1"]
        box.folder.create("Ordner für Bob")
        box.move(["1"], "Ordner für Bob")
        box.folder.set("Ordner für Bob")
        assert len(list(box.fetch())) == 1
        names = {folder.name for folder in box.folder.list()}
        assert {"INBOX", "Ordner für Bob"} <= names
        box.idle.start()
        threading.Thread(target=_append, args=(server.port, '"Ordner f&APw-r Bob"')).start()
        assert box.idle.poll(timeout=10)
        box.idle.stop()
        box.delete(["1"])


def _append(port: int, mailbox: str) -> None:
    with imaplib.IMAP4("127.0.0.1", port) as other:
        other.login("user", "pass")
        other.append(mailbox, None, None, MESSAGE)  # type: ignore[arg-type]  # None is what the library takes


def test_aioimaplib(server: ImapServer) -> None:
    async def talk() -> None:
        client = aioimaplib.IMAP4(host="127.0.0.1", port=server.port, timeout=10)
        await client.wait_hello_from_server()
        assert (await client.login("user", "pass")).result == "OK"
        assert (await client.append(MESSAGE, mailbox="INBOX")).result == "OK"
        assert (await client.select("INBOX")).result == "OK"
        await client.idle_start(timeout=10)
        await asyncio.to_thread(_append, server.port, "INBOX")
        pushed = await client.wait_server_push()
        assert any(b"EXISTS" in line for line in pushed)
        client.idle_done()
        fetched = await client.uid("fetch", "1", "(BODY.PEEK[])")
        assert MESSAGE in fetched.lines
        assert (await client.uid_search("ALL")).result == "OK"
        await client.logout()

    asyncio.run(talk())


def test_imaplib_with_a_name_of_two_words(server: ImapServer) -> None:
    """imaplib before mid-2026 does not quote: two atoms arrive where one name is meant, and the answer must be BAD."""
    with imaplib.IMAP4("127.0.0.1", server.port) as client:
        client.login("user", "pass")
        with pytest.raises(imaplib.IMAP4.error):
            client._simple_command("CREATE", "two words extra", "x")
        assert client.create('"two words"')[0] == "OK"
        assert client.select('"two words"')[0] == "OK"
        assert client.noop()[0] == "OK"
