"""Other programs write into the Maildir, or take our index away, while clients are connected."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailserver.app import App
from tests.interop.mbsync import Mbsync
from tests.interop.serving import PASSWORD, run, serve
from tests.interop.terminal import at_once, in_tmux
from tests.interop.wire import Wire, fetched


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with serve(tmp_path / "mail") as running:
        yield running


def _maildir(app: App) -> Path:
    return Path(app.settings.storage.mailbox_path) / "user1"


def _wire(app: App) -> Wire:
    wire = Wire(app.ports["imap"], "user1", PASSWORD)
    wire("SELECT INBOX")
    return wire


def _octets(name: str) -> bytes:
    return f"Subject: {name}\nMessage-ID: <{name}@example.com>\n\ntext of {name}\n".encode()


def _subjects(wire: Wire) -> Counter[str]:
    answers = fetched(wire("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
    found = [re.search(rb"Subject: (\S+)", answer) for answer in answers.values()]
    return Counter(match[1].decode() for match in found if match)


def _by_mv(maildir: Path, count: int) -> None:
    for number in range(count):
        path = maildir / "tmp" / f"{number}"
        path.write_bytes(_octets(f"mv{number}"))
        run(["mv", path, maildir / "new" / f"1600000000.{number}.mv"], maildir.parent)


def _by_lda(maildir: Path, count: int) -> None:
    """As dovecot-lda does: written and synced in tmp, hard link or rename into new with S= and W= in the name."""
    for number in range(count):
        octets = _octets(f"lda{number}").replace(b"\n", b"\r\n")
        path = maildir / "tmp" / f"1600000001.M{number}P1.lda"
        path.write_bytes(octets)
        path.rename(maildir / "new" / f"{path.name},S={len(octets)},W={len(octets)}")


def _by_procmail(maildir: Path, count: int) -> None:
    recipe = maildir.parent / "procmailrc"
    recipe.write_text(f"MAILDIR={maildir.parent}\nDEFAULT={maildir}/\nORGMAIL={maildir}/\nLOGFILE={os.devnull}\n")
    for number in range(count):
        run(["procmail", recipe], maildir.parent, _octets(f"procmail{number}"))


def _by_mutt(maildir: Path, count: int) -> None:
    """mutt copies message after message into our folder."""
    source = maildir.parent / "source"
    source.write_bytes(b"".join(b"From a@b Mon Jan  1 00:00:00 2024\n%b\n" % _octets(f"mutt{n}") for n in range(count)))
    (maildir.parent / "muttrc").write_text(
        f"set folder={maildir.parent} confirmappend=no confirmcreate=no copy=no wait_key=no mark_old=no\n"
        "macro index Z '<copy-message>=user1<enter><next-entry>'\n"
    )
    push = "push " + "Z" * count + "<exit>"
    in_tmux(maildir.parent, ["mutt", "-F", str(maildir.parent / "muttrc"), "-f", str(source), "-e", push])


def _idle_until(app: App, count: int) -> None:
    """IDLE until so many messages have been told of."""
    with socket.create_connection(("127.0.0.1", app.ports["imap"]), timeout=60) as connection:
        file = connection.makefile("rwb", buffering=0)
        file.write(f"a LOGIN user1 {PASSWORD}\r\nb SELECT INBOX\r\nc IDLE\r\n".encode())
        told = 0
        while told < count:
            line = file.readline()
            assert line, "the server hung up"
            if match := re.match(rb"\* (\d+) EXISTS", line):
                assert int(match[1]) >= told
                told = int(match[1])
        assert told == count
        file.write(b"DONE\r\nd LOGOUT\r\n")
        file.close()


def test_other_programs_deliver(app: App) -> None:
    maildir = _maildir(app)
    _wire(app).__exit__(None, None, None)  # makes the account
    each = {_by_mv: 100, _by_lda: 200, _by_procmail: 60, _by_mutt: 60}
    total = sum(each.values())
    works: list[Callable[[], None]] = [lambda b=by, c=count: b(maildir, c) for by, count in each.items()]  # type: ignore[misc]
    at_once([*works, *[lambda: _idle_until(app, total)] * 3])
    with _wire(app) as wire:
        found = _subjects(wire)
        expected = Counter(f"{by.__name__[4:]}{n}" for by, count in each.items() for n in range(count))
        assert found == expected
        assert len(wire.numbers("UID SEARCH ALL") or []) == total


def test_index_removed_under_load(app: App, tmp_path: Path) -> None:
    """UIDs and flags live in the Maildir; clients notice nothing when the index goes."""
    maildir = _maildir(app)
    client = Mbsync(tmp_path / "home")
    with _wire(app) as wire:
        for number in range(60):
            wire.append("INBOX", _octets(f"old{number}"), "(\\Seen work)" if number % 2 else "(\\Flagged)")
    assert client.sync(app.ports["imap"])
    stop = threading.Event()
    at_once(
        [
            lambda: _remove_index(maildir, stop),
            lambda: _then(stop, [lambda n=n: _change(app, n) for n in range(3)]),  # type: ignore[misc]
        ]
    )
    with _wire(app) as wire:
        assert _subjects(wire) == Counter(
            [f"old{n}" for n in range(60)] + [f"new{k}-{n}" for k in range(3) for n in range(15)]
        )
        for answer in fetched(wire("UID FETCH 1:60 (UID FLAGS)")).values():
            match = re.search(rb"UID (\d+) FLAGS \(([^)]*)\)", answer)
            assert match is not None
            flags = set(match[2].split()) - {b"\\Recent"}
            assert flags >= ({b"\\Seen", b"work"} if int(match[1]) % 2 == 0 else {b"\\Flagged"})
        assert set(wire.numbers("UID SEARCH UID 1:60 ANSWERED") or []) == set(range(1, 46))
    client.sync(app.ports["imap"])
    assert len(client.messages()) == 105
    _remove(maildir)
    assert not client.sync(app.ports["imap"])


def _then(stop: threading.Event, works: list[Callable[[], None]]) -> None:
    try:
        at_once(works)
    finally:
        stop.set()


def _remove_index(maildir: Path, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        _remove(maildir)


def _remove(maildir: Path) -> None:
    for path in maildir.glob("mailserver.sqlite*"):
        path.unlink(missing_ok=True)


def _change(app: App, who: int) -> None:
    with _wire(app) as wire:
        for number in range(15):
            wire.append("INBOX", _octets(f"new{who}-{number}"))
            wire(f"UID STORE {who * 15 + number + 1} +FLAGS (\\Answered)")
            uids = wire.numbers("UID SEARCH UID 1:60")
            assert uids == list(range(1, 61))
            wire("NOOP")


def test_copied_maildir_without_index(app: App, tmp_path: Path) -> None:
    """A Maildir that was copied without its index is the same to a client."""
    client = Mbsync(tmp_path / "home")
    with _wire(app) as wire:
        for number in range(10):
            wire.append("INBOX", _octets(f"m{number}"), "(\\Seen own)")
        wire('CREATE "Entw&APw-rfe"')
    client.sync(app.ports["imap"])
    shutil.copytree(_maildir(app), tmp_path / "copy" / "user1", ignore=shutil.ignore_patterns("mailserver*"))
    with serve(tmp_path / "copy") as copy:
        assert not client.sync(copy.ports["imap"])
