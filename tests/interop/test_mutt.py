"""mutt in a terminal: it shows the mailbox, sets flags, deletes, and what it did is on the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.screen import Terminal
from tests.interop.serving import PASSWORD, serve
from tests.interop.wire import Wire

_CONFIG = """
set confirmappend=no imap_pass={password} ssl_starttls=no ssl_force_tls=no delete=yes mark_old=no sort=mailbox-order
set folder=imap://user1@127.0.0.1:{port}/ spoolfile=+INBOX header_cache="" mail_check=1 timeout=1 copy=no wait_key=no
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with serve(tmp_path / "mail") as app:
        with Wire(app.ports["imap"], "user1", PASSWORD) as wire:
            for number in range(5):
                wire.append("INBOX", f"From: a@b\r\nSubject: letter {number}\r\n\r\ntext {number}\r\n".encode())
        yield app.ports["imap"]


@pytest.fixture
def terminal(tmp_path: Path, port: int) -> Iterator[Terminal]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "muttrc").write_text(_CONFIG.format(password=PASSWORD, port=port))
    with Terminal(home, "mutt", "-F", f"{home}/muttrc") as opened:
        yield opened


def test_reads_flags_deletes(terminal: Terminal, port: int) -> None:
    terminal.wait_for("letter 0", "letter 4", "Msgs:5")
    terminal.type("1", "Enter", "Enter")
    terminal.wait_for("text 0")
    terminal.type("q")
    terminal.type("2", "Enter", "F", "3", "Enter", "d", "$")
    terminal.wait_for("Msgs:4")
    with Wire(port, "user1", PASSWORD) as wire:
        wire("SELECT INBOX")
        assert wire.numbers("UID SEARCH ALL") == [1, 2, 4, 5]
        assert wire.numbers("UID SEARCH FLAGGED") == [2]
        assert wire.numbers("UID SEARCH SEEN") == [1]
        wire.append("INBOX", b"From: a@b\r\nSubject: another\r\n\r\nx\r\n")
        terminal.wait_for("another")
        terminal.type("s", "C-u", "=Trash", "Enter")
        terminal.wait_for("Del:1")
        terminal.type("$")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and len(wire.numbers("UID SEARCH ALL") or []) == 5:
            time.sleep(0.05)
            wire("NOOP")
        assert len(wire.numbers("UID SEARCH ALL") or []) == 4
        wire("SELECT Trash")
        assert len(wire.numbers("UID SEARCH ALL") or []) == 1
