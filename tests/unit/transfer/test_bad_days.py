"""An import from servers that refuse, hang up, and say what nobody asked for: what can be had is had."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mailserver.__main__ import main
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store
from mailserver.transfer.sources import imap
from tests.unit.transfer.peers import Imap, Lost, Pop3


def letter(number: int, size: int = 10) -> bytes:
    return b"Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\n%s\r\n" % (number, number, b"x" * size)


class Ground:
    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._root, self._capsys = root, capsys
        (root / "m.toml").write_text(f"[storage]\nmailbox_path = '{root}/here'\ndurability = 'relaxed'\n")
        self.errors = ""

    def bring(self, *words: str, status: int = 0) -> dict[str, Any]:
        config = str(self._root / "m.toml")
        assert main(["import", "bob", "--config", config, "--json", "--jobs", "2", *words]) == status
        said = self._capsys.readouterr()
        self.errors = said.err
        assert "internal fault" not in said.err
        rows: list[dict[str, Any]] = json.loads(said.out)["folders"] if said.out else []
        return next((row for row in rows if row["name"] == "INBOX"), {})

    def rows(self) -> list[tuple[int, int, int, bytes]]:
        with Store(str(self._root / "here"), durability="relaxed") as store:
            inbox = store.account("bob").inbox
            return [(int(m.uid), int(m.flags), m.internaldate, inbox.read(m)) for m in inbox.rescan().messages]


@pytest.fixture
def ground(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ground:
    return Ground(tmp_path, capsys)


def url_of(server: Imap | Pop3, user: str = "alice:secret") -> str:
    scheme = "imap" if isinstance(server, Imap) else "pop3"
    return f"{scheme}://{user}@127.0.0.1:{server.port}"


def test_messages_that_are_refused(ground: Ground) -> None:
    messages = [letter(n) for n in range(1, 7)]
    with Imap(messages) as server:
        server.body = lambda uid, part: b"NO" if uid in (2, 5) else server.plain(uid, part)
        found = ground.bring("--from-imap", url_of(server), status=os.EX_DATAERR)
        assert (found["imported"], found["withheld"], found["missing"]) == (4, 2, 0)
        assert "INBOX: 2 messages could not be had: message 2: uid: [SERVERBUG] it is broken" in ground.errors
        assert [row[0] for row in ground.rows()] == [1, 3, 4, 6]
        found = ground.bring("--from-imap", url_of(server), status=os.EX_DATAERR)
        assert (found["imported"], found["withheld"]) == (0, 2)
        server.body = server.plain
        assert ground.bring("--from-imap", url_of(server))["imported"] == 2
        assert sorted(row[3] for row in ground.rows()) == messages


def test_a_message_at_which_the_server_hangs_up(ground: Ground) -> None:
    messages = [letter(n) for n in range(1, 7)]

    def body(uid: int, part: bytes) -> bytes:
        if uid == 4:
            raise Lost
        return server.plain(uid, part)

    with Imap(messages) as server:
        server.body = body
        found = ground.bring("--from-imap", url_of(server), status=os.EX_DATAERR)
        assert (found["imported"], found["withheld"]) == (5, 1)
        assert [row[0] for row in ground.rows()] == [1, 2, 3, 5, 6]


def test_a_server_that_always_hangs_up(ground: Ground) -> None:
    def body(uid: int, part: bytes) -> bytes:
        raise Lost

    with Imap([letter(n) for n in range(1, 7)], body) as server:
        ground.bring("--from-imap", url_of(server), status=os.EX_UNAVAILABLE)
        assert "the connection broke" in ground.errors
        assert ground.rows() == []


def test_short_strings_and_flags_that_nobody_asked_for(ground: Ground) -> None:
    messages = [b'Subject: short \\ "x"', b"", letter(3)]

    def body(uid: int, part: bytes) -> bytes:
        if uid == 3:
            return server.plain(uid, part)
        octets = messages[uid - 1].replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b'* %d FETCH (BODY[] "%s" UID %d)\r\n' % (uid, octets, uid)

    with Imap(messages) as server:
        server.body = body
        server.noise = (
            b"* 1 FETCH (UID 1 FLAGS (\\Flagged new))\r\n* 2 FETCH (UID 2 MODSEQ (9))\r\n* 3 FETCH (FLAGS ())\r\n"
        )
        assert ground.bring("--from-imap", url_of(server))["imported"] == 3
        first = 1577836801  # INTERNALDATE of the first
        assert ground.rows() == [
            (1, Flag.FLAGGED, first, messages[0]),
            (2, Flag.SEEN, first + 1, messages[1]),
            (3, Flag.SEEN, first + 2, messages[2]),
        ]


@pytest.mark.parametrize("size", [3999, 4000, 4001, 12_000, 12_345])
def test_a_large_message_comes_by_portions(ground: Ground, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(imap, "_PORTION", 4000)
    messages = [letter(1), letter(2, size - len(letter(2, 0))), letter(3)]
    assert len(messages[1]) == size
    with Imap(messages) as server:
        assert ground.bring("--from-imap", url_of(server))["imported"] == 3
        assert server.largest <= 4000
    assert [row[3] for row in ground.rows()] == messages


@pytest.mark.parametrize("user", ["al ice", 'al"ice', "älice", "alice@example.com"])
@pytest.mark.parametrize("password", [b'p "\\a(s{s%*', "pässwörd €".encode(), b"latin\xe4"])
def test_odd_names_and_passwords(ground: Ground, tmp_path: Path, user: str, password: bytes) -> None:
    file = tmp_path / "password"
    file.write_bytes(password + b"\r\n")
    server: Imap | Pop3
    with Imap([letter(1)]) as server:
        ground.bring("--from-imap", url_of(server, user.replace("@", "%40")), "--password-file", str(file))
        quoted = [
            b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"' for text in (user.encode(), password)
        ]
        assert b" LOGIN " + b" ".join(quoted) in b"\n".join(server.said)
    with Pop3([letter(1)]) as server:
        ground.bring("--from-pop3", url_of(server, user), "--password-file", str(file))
        assert b"USER " + user.encode() in server.said
        assert b"PASS " + password in server.said


def test_pop3_messages_that_are_refused(ground: Ground) -> None:
    messages = [letter(n, 100_000 * (n == 3)) for n in range(1, 7)]
    with Pop3(messages, refused=(2, 5)) as server:
        found = ground.bring("--from-pop3", url_of(server), status=os.EX_DATAERR)
        assert (found["imported"], found["withheld"]) == (4, 2)
        assert "INBOX: 2 messages could not be had: message 2: -ERR it is broken" in ground.errors
        server.refused = ()
        assert ground.bring("--from-pop3", url_of(server))["imported"] == 2
    assert sorted(row[3] for row in ground.rows()) == sorted(messages)


def test_pop3_that_hangs_up(ground: Ground) -> None:
    messages = [letter(n) for n in range(1, 7)]
    with Pop3(messages, breaking=(2, 2, 5)) as server:
        assert ground.bring("--from-pop3", url_of(server))["imported"] == 6
        assert b"DELE" not in b"\n".join(server.said)
    assert [row[3] for row in ground.rows()] == messages
