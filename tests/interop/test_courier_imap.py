"""A Maildir that Courier served is pointed at: everything a client remembers stays true, here and at Dovecot's."""

from __future__ import annotations

import imaplib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailserver.__main__ import main
from mailserver.store.check import check_account
from tests.interop import courier
from tests.interop.dovecot import Dovecot
from tests.interop.mbsync import Mbsync
from tests.interop.serving import PASSWORD, serve
from tests.interop.test_courier import couriers, listed

_FOLDERS = {"INBOX": "INBOX", "INBOX.Work.2024": "Work/2024", "INBOX.Entw&APw-rfe": "Entw&APw-rfe"}
_GONE = "INBOX.Old"
Remembered = dict[str, tuple[int, int, list[tuple[int, frozenset[str], str]]]]


def _message(number: int) -> bytes:
    return b"From: a@example.org\r\nMessage-ID: <%d@example.org>\r\nSubject: %d\r\n\r\ntext %d\r\n" % ((number,) * 3)


def _years(client: imaplib.IMAP4) -> None:
    """Delivered, flagged, renamed, expunged."""
    for folder in [*list(_FOLDERS)[1:], _GONE]:
        assert client.create(f'"{folder}"')[0] == "OK"
    for folder in [*_FOLDERS, _GONE]:
        assert client.subscribe(f'"{folder}"')[0] == "OK"
    for number in range(24):
        folder = list(_FOLDERS)[number % 3]
        flags = ["", "(\\Seen)", "(\\Flagged $Forwarded)", "(\\Draft work NonJunk)"][number % 4]
        date = f'"0{number % 9 + 1}-Mar-2011 10:00:00 +0200"'
        assert client.append(f'"{folder}"', flags, date, _message(number))[0] == "OK"
    for folder in _FOLDERS:
        client.select(f'"{folder}"')
        client.store("2", "+FLAGS", "(\\Deleted)")
        client.store("4", "+FLAGS", "(late \\Answered)")
        client.store("3", "-FLAGS", "(work NonJunk $Forwarded)")
        client.expunge()
        client.close()


def _remembered(client: imaplib.IMAP4, folders: dict[str, str]) -> Remembered:
    return {ours: courier.remembered(client, theirs) for theirs, ours in folders.items()}


def _zone_free(found: Remembered) -> Remembered:
    return {
        name: (v, n, [(u, f, re.sub(r" \+0000$", "", d)) for u, f, d in rows]) for name, (v, n, rows) in found.items()
    }


@contextmanager
def _client(port: int) -> Iterator[imaplib.IMAP4]:
    client = imaplib.IMAP4("127.0.0.1", port, timeout=60)
    try:
        client.login("user1", PASSWORD)
        yield client
    finally:
        client.logout()


def _subscribed(client: imaplib.IMAP4) -> set[str]:
    lines = [line for line in client.lsub()[1] if isinstance(line, bytes) and b"\\Noselect" not in line]
    return {re.sub(r'^.*\) "." "?([^"]*)"?$', r"\1", line.decode()) for line in lines}


def _ids(drop: list[tuple[int, int, str]]) -> list[tuple[int, str]]:
    return [(number, uidl) for number, _, uidl in drop]


def _unmoved(port: int, before: Remembered) -> None:
    with _client(port) as client:
        now = _remembered(client, {name: name for name in before})
    assert _zone_free(now) == _zone_free(before)


def test_from_courier_to_us_and_on_to_dovecot(tmp_path: Path) -> None:
    with Dovecot() as dovecot:
        maildir = dovecot.mail_root / "user1"
        for part in ("cur", "new", "tmp"):
            (maildir / part).mkdir(parents=True)
        with courier.imap(maildir) as client:
            _years(client)
            before = _remembered(client, _FOLDERS)
            assert _subscribed(client) == {*_FOLDERS, _GONE}
        assert any(rows for _, _, rows in before.values())
        assert any("late" in flags for _, _, rows in before.values() for _, flags, _ in rows)
        drop = couriers(maildir)
        assert len(drop) == len(before["INBOX"][2])
        copy = Mbsync(tmp_path)
        assert copy.sync(0, tunnel=courier.tunnel(maildir))
        assert not copy.sync(0, tunnel=courier.tunnel(maildir))
        with serve(dovecot.mail_root) as app:
            assert _ids(listed(app.ports["pop3"])) == _ids(drop)
            _unmoved(app.ports["imap"], before)
            assert not copy.sync(app.ports["imap"])
            with _client(app.ports["imap"]) as client:
                assert _subscribed(client) == {*_FOLDERS.values(), "Old"}
                client.select("INBOX")
                client.uid("STORE", "1", "+FLAGS", "(\\Flagged another)")
                client.append('"Work/2024"', "(\\Seen)", None, _message(99))
                client.select('"Work/2024"')
                client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
                client.expunge()
                client.unsubscribe("Old")
                after = _remembered(client, {name: name for name in before})
            assert copy.sync(app.ports["imap"])
        assert after["INBOX"][2][0][1] == before["INBOX"][2][0][1] | {"\\Flagged", "another"}
        assert [uid for uid, _, _ in after["Work/2024"][2]] == [3, 4, 5, 6, 7, 8, 9]
        assert check_account(str(maildir)) == []
        dovecot.own(dovecot.mail_root)
        _unmoved(dovecot.imap_port, after)
        with _client(dovecot.imap_port) as client:
            assert _subscribed(client) == set(_FOLDERS.values())
        assert not copy.sync(dovecot.imap_port)
        assert _ids(listed(dovecot.pop3_port)) == _ids(drop)


def test_the_way_back_to_courier_and_once_more_to_us(tmp_path: Path) -> None:
    maildir = tmp_path / "old" / "user1"
    for part in ("cur", "new", "tmp"):
        (maildir / part).mkdir(parents=True)
    with courier.imap(maildir) as client:
        _years(client)
    copy = Mbsync(tmp_path / "copy")
    with serve(tmp_path / "old") as app:
        with _client(app.ports["imap"]) as client:
            client.append("INBOX", "(\\Flagged new)", None, _message(99))
            client.select("INBOX")
            client.uid("STORE", "3", "+FLAGS", "(\\Deleted)")
            client.expunge()
            before = _remembered(client, {name: name for name in _FOLDERS.values()})
        drop = listed(app.ports["pop3"])
        assert copy.sync(app.ports["imap"])
        assert not copy.sync(app.ports["imap"])
    config = tmp_path / "m.toml"
    config.write_text(f"[storage]\nmailbox_path = '{tmp_path}/old'\n")
    assert main(["export", "user1", str(tmp_path / "user1"), "--format", "courier", "--config", str(config)]) == 0
    maildir = tmp_path / "user1"
    with courier.imap(maildir) as client:
        assert _zone_free(_remembered(client, _FOLDERS)) == _zone_free(before)
        assert _subscribed(client) == {*_FOLDERS, _GONE}
        client.select("INBOX", readonly=True)
        assert client.uid("FETCH", "9", "(BODY.PEEK[])")[1][0][1] == _message(99)  # type: ignore[index]
    assert couriers(maildir) == drop
    assert not copy.sync(0, tunnel=courier.tunnel(maildir))
    _back_to_us(maildir, copy, config)


def _back_to_us(maildir: Path, copy: Mbsync, config: Path) -> None:
    """Courier goes on with what it was given, and we take over from it, in another place."""
    with courier.imap(maildir) as client:
        client.select("INBOX")
        client.uid("STORE", "9", "+FLAGS", "(couriers)")
        client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
        client.expunge()
        client.append("INBOX", "(\\Draft late)", None, _message(100))
        client.append('"INBOX.Work.2024"', "(\\Seen)", None, _message(101))
        client.append("INBOX", "", None, _message(102))
        client.select("INBOX")
        client.uid("STORE", "10", "+FLAGS", "(\\Deleted)")
        client.expunge()
        before = _remembered(client, _FOLDERS)
    assert copy.sync(0, tunnel=courier.tunnel(maildir))
    drop = couriers(maildir)
    config.write_text(f"[storage]\nmailbox_path = '{config.parent}/new'\n")
    assert main(["import", "user1", "--from-maildir", str(maildir), "--config", str(config)]) == 0
    with serve(config.parent / "new") as app:
        _unmoved(app.ports["imap"], before)
        assert _ids(listed(app.ports["pop3"])) == _ids(drop)
        with _client(app.ports["imap"]) as client:
            assert {*_FOLDERS.values(), "Old"} <= _subscribed(client)
        copy.sync(app.ports["imap"])  # the folders that an account of ours begins with
        assert not copy.sync(app.ports["imap"])
        assert len(copy.messages()) == len(before["INBOX"][2])
    assert check_account(str(config.parent / "new" / "user1")) == []
