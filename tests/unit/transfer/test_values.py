"""Names, URLs, the record, and the line that shows progress."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mailserver.ops.cli.progress import line
from mailserver.store.errors import Kind, StoreError
from mailserver.store.model.flags import Flag
from mailserver.transfer import naming
from mailserver.transfer.merge import Change, change, is_untouched
from mailserver.transfer.model import Folder, Item, SourceError
from mailserver.transfer.naming import Mapping
from mailserver.transfer.record import NAME, Noted, Record
from mailserver.transfer.sources import url
from mailserver.transfer.target import date_of


@pytest.mark.parametrize(
    ("raw", "delimiter", "prefix", "name"),
    [
        ("inbox", ".", "INBOX.", "INBOX"),
        ("INBOX.Work.2024", ".", "INBOX.", "Work/2024"),
        ("INBOX.Entw&APw-rfe", ".", "INBOX.", "Entwürfe"),
        ("INBOX.INBOX", ".", "INBOX.", "INBOX_"),
        ("INBOX/Work", "/", "", "INBOX/Work"),
        ("Sent Items", "/", "", "Sent Items"),
        ("a/b.c", ".", "", "a_b/c"),
        ("a..b", ".", "", "a/b"),
        ("R&D", "/", "", "R&D"),
        ("flat.name", "", "", "flat.name"),
        ("x\x01y", "/", "", "x_y"),
        ("../up", "/", "", "_/up"),
    ],
)
def test_names_of_other_servers(raw: str, delimiter: str, prefix: str, name: str) -> None:
    assert naming.from_imap(raw, delimiter, prefix) == name


def test_a_prefix_that_nobody_announces() -> None:
    assert naming.common_prefix(["INBOX", "INBOX.a", "INBOX.b.c"], ".") == "INBOX."
    assert naming.common_prefix(["INBOX", "INBOX.a", "b"], ".") == ""
    assert naming.common_prefix(["INBOX"], ".") == ""
    assert naming.common_prefix(["INBOX", "x"], "") == ""


def test_mapping() -> None:
    mapping = Mapping((("Work", "Job"), ("Work/2024", "Now"), ("[Gmail]/Sent Mail", "Sent")), ("[Gmail]/All Mail", "x"))
    names = ["Work", "Work/2023", "Work/2024/May", "Workshop", "[Gmail]/Sent Mail", "[Gmail]/All Mail", "x/y", "xy"]
    expected = ["Job", "Job/2023", "Now/May", "Workshop", "Sent", None, None, "xy"]
    assert [mapping.apply(name) for name in names] == expected


def test_urls() -> None:
    server = url.parse("imaps://alice%40example.com:s%3Ac@mail.example.com", "imap")
    assert (server.user, server.password, server.port, server.tls) == ("alice@example.com", "s:c", 993, True)
    assert str(server) == "imaps://alice@example.com@mail.example.com:993"
    assert "s:c" not in repr(server)
    assert url.parse("pop3://a@[::1]:1110", "pop3").host == "::1"
    for wrong in ("imaps://mail.example.com", "imap:alice", "pop3://a@b", "imap://a@b:x", "", "imap://@b"):
        with pytest.raises(SourceError):
            url.parse(wrong, "imap")


def test_passwords_do_not_go_over_the_net_in_clear() -> None:
    url.parse("imap://a@127.0.0.1", "imap").refuse_clear()
    url.parse("imap://a@localhost", "imap").refuse_clear()
    with pytest.raises(SourceError, match="in clear"):
        url.parse("imap://a@mail.example.com", "imap").refuse_clear()


def test_the_record_outlives_a_torn_line(tmp_path: Path) -> None:
    folder, other = Folder("INBOX", "INBOX", 7), Folder("INBOX", "INBOX", 8)
    record = Record(str(tmp_path), "imap://a@b:1", writing=True)
    first = Item("1", flags=9, keywords=frozenset({"work", "$Forwarded"}))
    record.note(folder, 99, [(first, 5), (Item("2"), 6)], numbers=True)
    record.begin(folder, {"base": (7, "Pid")})
    record.known_until(folder, 12)
    record.note_subscribed({"a": "b"})
    with pytest.raises(StoreError) as refused:
        Record(str(tmp_path), "imap://a@b:1", writing=True)
    assert refused.value.kind is Kind.IN_USE
    record.close()
    with (tmp_path / NAME).open("a") as f:
        f.write(json.dumps({"source": "imap://a@b:1", "folder": "INBOX", "uidvalidity": 7})[:-1])
    again = Record(str(tmp_path), "imap://a@b:1", writing=True)
    again.note(other, 99, [(Item("3"), 9)], numbers=False)
    again.close()
    read = Record(str(tmp_path), "imap://a@b:1", writing=False)
    known = read.of(folder)
    assert known.messages == {"1": Noted(5, 99, 9, first.keywords), "2": Noted(6, 99, 0, frozenset())}
    assert (known.uids(99), known.uids(98), known.numbers) == ({5, 6}, set(), True)
    assert (known.begun, known.modseq, read.subscribed) == ({"base": (7, "Pid")}, 12, {"a": "b"})
    assert read.folders() == {"INBOX"}
    assert read.of(other).messages.keys() == {"3"}
    assert not Record(str(tmp_path), "imap://other@b:1", writing=False).of(folder).messages
    assert not Record(str(tmp_path / "none"), "x", writing=False).of(folder).messages


def test_the_record_follows_a_mailbox_that_is_renumbered(tmp_path: Path) -> None:
    folder = Folder("INBOX", "INBOX", 7)
    record = Record(str(tmp_path), "x", writing=True)
    record.note(folder, 7, [(Item("1"), 1)], numbers=True)
    record.begin(folder, {"base": (2, "")})
    record.renumbered(folder, 7, 50)
    record.note(folder, 50, [(Item("2"), 2)], numbers=False)
    record.close()
    known = Record(str(tmp_path), "x", writing=False).of(folder)
    assert (known.uids(50), known.uids(7), known.numbers, known.begun) == ({1, 2}, set(), False, {})


def test_what_changed_at_the_source() -> None:
    before = Noted(1, 7, Flag.SEEN | Flag.DRAFT, frozenset({"work", "Old"}))
    now = Item("1", flags=Flag.SEEN | Flag.FLAGGED, keywords=frozenset({"WORK", "New"}))
    assert change(before, now) == Change(Flag.FLAGGED, frozenset({"New"}), Flag.DRAFT, frozenset({"Old"}))
    assert change(before, Item("1", flags=Flag.SEEN | Flag.DRAFT, keywords=frozenset({"old", "Work"}))) is None
    assert is_untouched(before, Flag.SEEN | Flag.DRAFT, ["Work", "old"])
    assert not is_untouched(before, Flag.SEEN, ["Work", "old"])
    assert not is_untouched(before, Flag.SEEN | Flag.DRAFT, ["Work"])


def test_when_a_message_arrived() -> None:
    received = b"Received: from a (b)\r\n\tby c; Fri, 11 Mar 2011 08:06:00 +0100\r\n"
    received += b"Received: x; Thu, 10 Mar 2011 08:06:00 +0100\r\n"
    own = b"Date: Sat, 12 Mar 2011 08:06:00 +0100\r\n"
    assert date_of(received + own + b"\r\n") == 1299827160
    assert date_of(b"Received: nonsense\r\n" + own + b"\r\n") == 1299827160 + 86400
    assert date_of(b"Date: nonsense\r\n\r\n") > 1_700_000_000


def test_progress() -> None:
    assert line("INBOX", 50, 200, 12_100_000, 10) == "INBOX: 50 of 200 messages, 12.1 MB, 5/s, 0:30 left"
    assert line("a\x1bb", 1, 40_000, 0, 1) == "a?b: 1 of 40000 messages, 0.0 MB, 1/s, 11:06:39 left"
    assert line("x", 0, 0, 0, 0) == "x: 0 of 0 messages, 0.0 MB, 0/s"
