"""neomutt over POP3: a mailbox of its own kind, and fetching with and without leaving mail on the server."""

from __future__ import annotations

import contextlib
import mailbox
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailserver.app import App
from tests.interop.screen import Terminal
from tests.interop.serving import PASSWORD, serve
from tests.interop.wire import Wire

_CONFIG = """
set pop_host=pop://user1@127.0.0.1:{port}/ pop_pass={password} ssl_starttls=no ssl_force_tls=no delete=yes mark_old=no
set sort=mailbox-order wait_key=no pop_checkinterval=1 timeout=1 mbox_type=mbox confirmappend=no sleep_time=0
set folder={home} spoolfile={home}/box record="" pop_delete={delete} pop_last={last} header_cache={home}/cache/
set message_cachedir={home}/bodies
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with serve(tmp_path / "mail") as app:
        with Wire(app.ports["imap"], "user1", PASSWORD) as wire:
            for number in range(5):
                wire.append("INBOX", f"From: a@b\r\nSubject: letter {number}\r\n\r\n.text {number}\r\n".encode())
        yield app


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    for name in ("cache", "bodies"):
        (path / name).mkdir()
    (path / "box").touch()
    return path


def opened(app: App, home: Path, *arguments: str, delete: str = "no", last: str = "no") -> Terminal:
    text = _CONFIG.format(port=app.ports["pop3"], password=PASSWORD, home=home, delete=delete, last=last)
    (home / "rc").write_text(text)
    return Terminal(home, "neomutt", "-n", "-F", f"{home}/rc", *arguments)


def uids(app: App, wanted: Callable[[list[int]], bool]) -> list[int]:
    """Of INBOX, when they are as wanted or time is up."""
    deadline = time.monotonic() + 15
    with Wire(app.ports["imap"], "user1", PASSWORD) as wire:
        wire("SELECT INBOX")
        while True:
            found = wire.numbers("UID SEARCH ALL") or []
            if wanted(found) or time.monotonic() > deadline:
                return found
            time.sleep(0.05)
            wire("NOOP")


def test_a_mailbox_over_pop3(app: App, home: Path) -> None:
    with opened(app, home, "-f", f"pop://user1@127.0.0.1:{app.ports['pop3']}/") as terminal:
        terminal.wait_for("letter 0", "letter 4")
        terminal.type("2", "Enter", "Enter")
        terminal.wait_for(".text 1")
        terminal.type("q")
        terminal.wait_for("letter 0", "letter 4")
        terminal.type("3", "Enter", "d", "$")
        assert uids(app, lambda found: len(found) == 4) == [1, 2, 4, 5]
        with Wire(app.ports["imap"], "user1", PASSWORD) as wire:
            wire.append("INBOX", b"From: a@b\r\nSubject: another\r\n\r\nx\r\n")
        terminal.wait_for("letter 0", "another")
        terminal.type("x")
    assert len(list((home / "bodies").rglob("*"))) > 1


def test_fetching(app: App, home: Path) -> None:
    with opened(app, home, last="yes") as terminal:
        terminal.type("G")
        terminal.wait_for("letter 0", "letter 4")
    assert uids(app, lambda found: len(found) == 5) == [1, 2, 3, 4, 5]
    (home / "box").write_bytes(b"")
    with opened(app, home, delete="yes") as terminal:
        terminal.type("G")
        terminal.wait_for("letter 0", "letter 4")
        assert uids(app, lambda found: not found) == []
    with contextlib.closing(mailbox.mbox(home / "box")) as box:
        fetched = [message.get_payload().strip() for message in box]
    assert fetched == [f".text {number}" for number in range(5)]
