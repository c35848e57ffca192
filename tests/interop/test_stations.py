"""Mail on its way from Dovecot to us, and back, and to us once more: at every station clients see the same.

Dovecot makes an account, and mbsync a copy of it. Then the servers take turns, each of them changing things before the
next one takes over; whoever takes over must tell the same facts as the one before, and mbsync must find nothing to do.
"""

from __future__ import annotations

import imaplib
import poplib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mailserver.store.check import check_account
from tests.interop.dovecot import Dovecot
from tests.interop.mbsync import Mbsync
from tests.interop.remembered import State, drop, same, state
from tests.interop.serving import PASSWORD, serve
from tests.interop.turns import Turns
from tests.interop.wire import Wire
from tests.messages import corpus

_FOLDERS = ["INBOX", "Work", "Work/2024", "Work/2024/May", "Entw&APw-rfe", "&ZeVnLIqe-", "A b (c)", "R&-D"]
_SCHEMES = (
    *("PLAIN", "SHA512-CRYPT", "SHA256-CRYPT", "BLF-CRYPT", "ARGON2ID", "ARGON2I", "PBKDF2", "SSHA512", "SSHA256"),
    *("SHA512", "SHA256", "SHA1", "SSHA", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "MD5-CRYPT", "DES-CRYPT", "SMD5"),
    *("LDAP-MD5", "PLAIN-MD5", "PLAIN-MD4", "DIGEST-MD5", "CLEARTEXT", "HMAC-MD5", "SHA", "CRYPT", "MD5", "CLEAR"),
)


class Stations(Turns):
    """One directory of Maildirs, and a client that keeps a copy."""

    def __init__(self, dovecot: Dovecot, home: Path, layout: str) -> None:
        super().__init__(dovecot, dovecot.mail_root, dovecot.mail_root, layout=layout)
        self.client = Mbsync(home)
        self.facts: tuple[State, object] | None = None

    def _look(self, ports: dict[str, int]) -> tuple[State, object]:
        with Wire(ports["imap"], "user1", PASSWORD) as wire:
            return state(wire, octets=True), drop(ports["pop3"], octets=False)

    def arrive(self, server: Callable[[], object], act: Callable[[dict[str, int]], None], *gone: str) -> None:
        """The next server takes over, and changes things; the client then forgets the folders that are ``gone``."""
        with server() as ports:  # type: ignore[attr-defined]  # one of the two above
            if self.facts is not None:
                same(self.facts, self._look(ports))
                assert not self.client.sync(ports["imap"])
                same(self.facts, self._look(ports))
            act(ports)
            for folder in gone:
                self.client.forget(folder)
            assert self.client.sync(ports["imap"])
            assert not self.client.sync(ports["imap"])
            before, self.facts = self.facts, self._look(ports)  # now, for mbsync expunges what is \\Deleted
            assert self.facts != before


def _make(ports: dict[str, int]) -> None:
    """What an account looks like after some years."""
    with Wire(ports["imap"], "user1", PASSWORD) as wire:
        for name in _FOLDERS[1:]:
            wire(f'CREATE "{name}"')
        for name in [*_FOLDERS[:5], "R&-D"]:
            wire(f'SUBSCRIBE "{name}"')
        for number, octets in enumerate(corpus()[:64]):
            name = _FOLDERS[number % len(_FOLDERS)]
            date = f'(\\Seen) "0{number % 9 + 1}-Mar-2011 10:00:00 +0200"' if number % 3 else ""
            wire.append(f'"{name}"', octets, date)
        for name in _FOLDERS:
            wire(f'SELECT "{name}"')
            wire("STORE 1:3 +FLAGS (\\Answered $Forwarded)")
            wire("STORE 2,5 +FLAGS (\\Flagged NonJunk work)")
            wire("STORE 4 +FLAGS (\\Deleted)")
            wire("EXPUNGE")
            wire("STORE 5 +FLAGS (\\Draft \\Deleted)")
        wire('RENAME "A b (c)" "A b (d)"')


def _ours(ports: dict[str, int]) -> None:
    with Wire(ports["imap"], "user1", PASSWORD) as wire:
        wire('SELECT "INBOX"')
        wire("STORE 1:2 FLAGS (\\Seen more Work)")
        wire("STORE 2 -FLAGS (more)")
        wire.append("INBOX", b"Subject: new\r\n\r\nnew\r\n", '(\\Flagged brandnew) "12-Dec-2012 12:12:12 +0000"')
        wire.append("INBOX", b"Subject: plain\r\n\r\nplain\r\n")
        wire('COPY 1:3 "Work/2024"')
        wire('MOVE 1 "&ZeVnLIqe-"')
        wire("STORE 3 +FLAGS.SILENT (\\Deleted)")
        wire("EXPUNGE")
        wire('CREATE "Made/Here/Deep"')
        wire.append("Made/Here/Deep", b"Subject: deep\r\n\r\ndeep\r\n", "(first)")
        wire('SUBSCRIBE "Made/Here/Deep"')
        wire('UNSUBSCRIBE "Work"')
        wire('RENAME "Work/2024" "Years/2024"')
        wire('DELETE "R&-D"')
        wire("UNSELECT")
    _take_away(ports["pop3"], 2)


def _dovecots(ports: dict[str, int]) -> None:
    with Wire(ports["imap"], "user1", PASSWORD) as wire:
        wire('SELECT "Made/Here/Deep"')
        wire("STORE 1 +FLAGS (\\Seen theirs)")
        wire("STORE 1 -FLAGS (first)")
        wire.append("Made/Here/Deep", b"Subject: theirs\r\n\r\ntheirs\r\n", '(more) "12-Dec-2013 12:12:12 +0000"')
        wire('COPY 1:* "INBOX"')
        wire('SELECT "Years/2024"')
        wire("STORE 1:2 +FLAGS (\\Deleted)")
        wire("EXPUNGE")
        wire('RENAME "Made/Here" "Made/There"')
        wire('SUBSCRIBE "Years/2024"')
        wire('UNSUBSCRIBE "INBOX"')
    _take_away(ports["pop3"], 1)


def _ours_again(ports: dict[str, int]) -> None:
    with Wire(ports["imap"], "user1", PASSWORD) as wire:
        wire('SELECT "Years/2024"')
        wire("STORE 1:* +FLAGS (again theirs)")
        wire('MOVE 1 "INBOX"')
        wire('RENAME "Years" "Decades"')


def _nothing_much(ports: dict[str, int]) -> None:
    with Wire(ports["imap"], "user1", PASSWORD) as wire:
        wire('SELECT "Decades/2024"')
        wire("STORE 1 +FLAGS (\\Draft last)")


def _take_away(port: int, number: int) -> None:
    client = poplib.POP3("127.0.0.1", port, timeout=30)
    client.user("user1")
    client.pass_(PASSWORD)
    client.dele(number)
    client.quit()


def _as_version_1(mail: Path) -> None:
    """What Dovecot 1.0 left: lists of version 1, which know nothing but UIDs, and no other books."""
    root = mail / "user1"
    for path in [*root.rglob("dovecot.index*"), *root.rglob("dovecot.list*"), *root.rglob("dovecot-uidvalidity*")]:
        path.unlink()
    lists = list(root.rglob("dovecot-uidlist"))
    assert len(lists) > 5
    for path in lists:
        head, *lines = path.read_bytes().splitlines()
        numbers = re.match(rb"3 V(\d+) N(\d+)", head)
        assert numbers is not None
        rows = [line.partition(b" ")[0] + b" " + line.partition(b":")[2] for line in lines]
        path.write_bytes(b"\n".join([b"1 %s %s" % numbers.groups(), *rows, b""]))


@pytest.mark.parametrize("kind", ["maildir++", "fs", "version 1"])
def test_between_dovecot_and_us(kind: str, tmp_path: Path) -> None:
    layout = "fs" if kind == "fs" else "maildir++"
    with Dovecot(layout=":LAYOUT=fs" if kind == "fs" else "") as dovecot:
        stations = Stations(dovecot, tmp_path, layout)
        stations.arrive(stations.dovecot, _make)
        if kind == "version 1":
            _as_version_1(stations.path)
        stations.arrive(stations.ours, _ours, "Work/2024", "R&-D")
        stations.arrive(stations.dovecot, _dovecots, "Made/Here")
        stations.arrive(stations.ours, _ours_again, "Years")
        stations.arrive(stations.dovecot, _nothing_much)
        if layout == "maildir++":
            assert check_account(str(stations.path / "user1")) == []


def test_the_users_of_dovecot(tmp_path: Path) -> None:
    """Every scheme in which Dovecot writes passwords, in the same file for both."""
    fields = {}
    for scheme in _SCHEMES:
        user = scheme.lower()
        words = ["doveadm", "pw", "-s", scheme, "-u", user, "-p", PASSWORD]
        fields[user] = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    with (
        Dovecot(users=tuple(fields), passwords=fields) as dovecot,
        serve(dovecot.mail_root, users_file=dovecot.base / "users") as app,
    ):
        for port in (dovecot.imap_port, app.ports["imap"]):
            assert [user for user in fields if not _may(port, user, PASSWORD)] == []
        assert not _may(app.ports["imap"], "argon2id", "wrong")


def _may(port: int, user: str, password: str) -> bool:
    client = imaplib.IMAP4("127.0.0.1", port, timeout=30)
    try:
        client.login(user, password)
        return True
    except imaplib.IMAP4.error:
        return False
    finally:
        client.shutdown()
