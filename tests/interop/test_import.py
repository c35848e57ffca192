"""Mail is brought here from a real Dovecot that serves it as Courier and Cyrus do: ``INBOX.`` before every name."""

from __future__ import annotations

import imaplib
import json
import os
import poplib
import subprocess
import sys
from pathlib import Path

from mailserver.store.check import check_account
from mailserver.transfer.record import NAME
from tests.interop import courier
from tests.interop.dovecot import Dovecot
from tests.interop.mbsync import Mbsync
from tests.interop.serving import PASSWORD, serve
from tests.messages import corpus

_PREFIX = "namespace inbox {\n  prefix = INBOX.\n}\n"
_FOLDERS = {"INBOX": "INBOX", "INBOX.Work.2024": "Work/2024", "INBOX.Entw&APw-rfe": "Entw&APw-rfe"}


def _fill(client: imaplib.IMAP4) -> None:
    for folder in list(_FOLDERS)[1:]:
        client.create(folder)
        client.subscribe(folder)
    client.create("INBOX.Old")
    assert client.subscribe("INBOX.Old")[0] == "OK"
    for number, octets in enumerate(corpus()[:60]):
        flags = ["", "(\\Seen)", "(\\Flagged $Forwarded)", "(\\Draft work)"][number % 4]
        date = f'"0{number % 9 + 1}-Mar-2011 10:00:00 +0200"'
        assert client.append(list(_FOLDERS)[number % 3], flags, date, octets)[0] == "OK"
    for folder in _FOLDERS:
        client.select(folder)
        client.store("2,7,20", "+FLAGS", "(\\Deleted)")
        client.expunge()


def _import(mail: Path, *words: str) -> dict[str, int]:
    """As a program of its own; how many messages of each folder were imported."""
    config = mail.parent / "import.toml"
    config.write_text(f"[storage]\nmailbox_path = '{mail}'\ndurability = 'relaxed'\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mailserver",
            "import",
            "user1",
            "--config",
            config,
            "--json",
            "--password-stdin",
            *words,
        ],
        input=PASSWORD + "\n",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return {row["name"]: row["imported"] for row in json.loads(done.stdout)["folders"] if row["imported"]}


def _uidls(port: int) -> list[bytes]:
    client = poplib.POP3("127.0.0.1", port, timeout=30)
    client.user("user1")
    client.pass_(PASSWORD)
    found = client.uidl()[1]
    client.quit()
    return found


def _without(uidls: list[bytes], place: int) -> list[bytes]:
    return [uidl.split()[1] for i, uidl in enumerate(uidls) if i != place]


def test_from_dovecot_by_imap(tmp_path: Path) -> None:
    mail = tmp_path / "mail"
    with Dovecot(extra=_PREFIX, separator=".") as dovecot:
        copy = Mbsync(tmp_path / "copy")
        with _logged_in(dovecot.imap_port) as client:
            _fill(client)
            before = {ours: courier.remembered(client, theirs) for theirs, ours in _FOLDERS.items()}
        copy.sync(dovecot.imap_port)
        uidls = _uidls(dovecot.pop3_port)
        where = f"imap://user1@127.0.0.1:{dovecot.imap_port}"
        expected = {"INBOX": 17, "Work/2024": 17, "Entwürfe": 17}
        assert _import(mail, "--from-imap", where) == expected
        assert _import(mail, "--from-imap", where) == {}
        with _logged_in(dovecot.imap_port) as client:
            client.append("INBOX", "", None, b"Subject: late\r\n\r\nlate\r\n")
            client.select("INBOX")
            client.store("1:3", "+FLAGS", "(\\Answered moved)")
            client.store("4", "FLAGS", "()")
            client.uid("STORE", "9", "+FLAGS", "(\\Deleted)")
            client.expunge()
            before["INBOX"] = courier.remembered(client, "INBOX")
        copy.sync(dovecot.imap_port)
        assert b'"modseq":' in (mail / "user1" / NAME).read_bytes()  # it is asked for changes only
        assert _import(mail, "--from-imap", where, "--mirror") == {"INBOX": 1}
        noted = (mail / "user1" / NAME).read_bytes()
        assert _import(mail, "--from-imap", where, "--mirror") == {}
        assert (mail / "user1" / NAME).read_bytes() == noted
    with serve(mail) as app:
        with _logged_in(app.ports["imap"]) as client:
            after = {name: courier.remembered(client, name) for name in before}
            assert after == before
            assert b'"Old"' in b"".join(line for line in client.lsub()[1] if isinstance(line, bytes))
        assert [uidl.split()[1] for uidl in _uidls(app.ports["pop3"])[:-1]] == _without(uidls, 6)
        made = copy.sync(app.ports["imap"])  # the folders that an account of ours begins with
        assert not copy.sync(app.ports["imap"])
        assert made
        assert len(copy.messages()) == 17
    assert check_account(str(mail / "user1")) == []


def test_from_dovecot_by_pop3(tmp_path: Path) -> None:
    mail = tmp_path / "mail"
    octets = [text for text in corpus() if b"\0" not in text][:40]
    with Dovecot() as dovecot:
        dovecot.deliver("user1", octets)
        uidls = _uidls(dovecot.pop3_port)
        where = f"pop3://user1@127.0.0.1:{dovecot.pop3_port}"
        assert _import(mail, "--from-pop3", where) == {"INBOX": len(octets)}
        assert _import(mail, "--from-pop3", where) == {}
    with serve(mail) as app:
        assert _uidls(app.ports["pop3"]) == uidls


def test_from_the_files_of_courier(tmp_path: Path) -> None:
    maildir = tmp_path / "old" / "user1"
    for part in ("cur", "new", "tmp"):
        (maildir / part).mkdir(parents=True)
    with courier.imap(maildir) as client:
        _fill(client)
        before = {ours: courier.remembered(client, theirs) for theirs, ours in _FOLDERS.items()}
    listed = sorted(str(path) for path in maildir.rglob("*"))
    assert sum(_import(tmp_path / "mail", "--from-maildir", str(maildir)).values()) == 51
    assert sorted(str(path) for path in maildir.rglob("*")) == listed
    with serve(tmp_path / "mail") as app, _logged_in(app.ports["imap"]) as client:
        assert {name: courier.remembered(client, name) for name in before} == before
    assert os.path.exists(maildir / "courierimapuiddb")


class _logged_in:  # a context manager that reads like a function
    def __init__(self, port: int) -> None:
        self._client = imaplib.IMAP4("127.0.0.1", port, timeout=60)

    def __enter__(self) -> imaplib.IMAP4:
        self._client.login("user1", PASSWORD)
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.logout()
