"""Rights that come and go while others are at work, and messages that go between accounts both ways."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.store.check import check_account
from tests.interop.wire import Wire, fetched
from tests.program import Program

_ROUNDS = 25


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    with Program(tmp_path, workers=int(request.param)) as running:
        yield running


def connect(program: Program, user: str) -> Wire:
    return Wire(program.ports["imap"], user, "secret")


def test_a_right_is_taken_away_from_who_waits(program: Program) -> None:
    with connect(program, "alice") as alice, connect(program, "bob") as bob:
        alice("SETACL INBOX bob lrs")
        bob('SELECT "Other Users/alice"')
        bob._socket.sendall(b"i IDLE\r\n")
        assert bob.line().startswith(b"+ ")
        alice.append("INBOX", b"Subject: x\r\n\r\nx\r\n")
        assert bob.line() == b"* 1 EXISTS\r\n"
        alice("SETACL INBOX bob lr")
        seen = [bob.line()]
        while b"PERMANENTFLAGS" not in seen[-1]:
            seen.append(bob.line())
        assert b"[PERMANENTFLAGS ()]" in seen[-1]
        alice("DELETEACL INBOX bob")
        while not seen[-1].startswith(b"* OK [CLOSED]"):
            seen.append(bob.line())
        alice.append("INBOX", b"Subject: y\r\n\r\ny\r\n")
        bob._socket.sendall(b"DONE\r\n")
        assert bob.line().startswith(b"i OK")
        assert bob("NOOP") == []


def test_nothing_is_allowed_after_the_answer(program: Program) -> None:
    """Once SETACL is answered, no command that begins afterwards does what it forbids, in any process."""
    with connect(program, "alice") as alice, connect(program, "bob") as bob, connect(program, "bob") as other:
        alice("SETACL INBOX bob lrswite")
        alice.append("INBOX", b"Subject: x\r\n\r\nx\r\n")
        other('SELECT "Other Users/alice"')
        stored = 1
        for _ in range(_ROUNDS):
            for change, allowed in (("-iw", False), ("+iw", True)):
                alice(f"SETACL INBOX bob {change}")
                bob(b'APPEND "Other Users/alice" {4+}\r\na: b', fails=True)
                assert bob.completion.startswith(b"OK" if allowed else b"NO [NOPERM]")
                stored += allowed
                other(f"STORE 1 {'+' if allowed else '-'}FLAGS (\\Flagged)", fails=True)
                assert other.completion.startswith(b"OK" if allowed else b"NO [NOPERM]")
        alice("SELECT INBOX")
        assert len(fetched(alice("FETCH 1:* FLAGS"))) == stored
        assert b"\\Flagged" in fetched(alice("FETCH 1 FLAGS"))[1]
        for change in ("-r", "+r"):
            alice(f"SETACL INBOX bob {change}")
            other('EXAMINE "Other Users/alice"', fails=True)
            assert other.completion.startswith(b"OK" if change == "+r" else b"NO")


def test_messages_go_both_ways(program: Program, tmp_path: Path) -> None:
    """Two users move and copy between their mailboxes at once: no message is lost, none is there twice."""
    users = ("alice", "bob")
    for user, other in (users, users[::-1]):
        with connect(program, user) as wire:
            wire(f"SETACL INBOX {other} lrswipkxtea")
            for number in range(_ROUNDS):
                wire.append("INBOX", f"Subject: {user}-{number}\r\n\r\nx\r\n".encode())
    errors: list[str] = []

    def move(user: str, other: str) -> None:
        try:
            with connect(program, user) as wire:
                for round_ in range(_ROUNDS):
                    here, there = ("INBOX", f'"Other Users/{other}"')[:: 1 if round_ % 2 else -1]
                    wire(f"SELECT {here}")
                    wire(f"MOVE 1:3 {there}", fails=True)
                    # others move the same ones: those are gone, and nothing else is an answer
                    assert wire.completion.startswith((b"OK", b"BAD There is no message", b"NO [EXPUNGEISSUED]"))
        except Exception as error:
            errors.append(f"{user}: {error!r}")

    threads = [threading.Thread(target=move, args=pair) for pair in (users, users[::-1], users, users[::-1])]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not errors
    assert time.monotonic() - began < 100
    subjects = []
    for user in users:
        with connect(program, user) as wire:
            wire("SELECT INBOX")
            for data in fetched(wire("FETCH 1:* BODY.PEEK[HEADER]", fails=True)).values():
                found = re.search(rb"Subject: (\S+)", data)
                assert found is not None
                subjects.append(found[1].decode())
        assert check_account(str(tmp_path / "mail" / user)) == []
    assert sorted(subjects) == sorted(f"{user}-{number}" for user in users for number in range(_ROUNDS))
