"""What a transcript cannot say: locks, big messages, faults, the end of the server, poplib."""

from __future__ import annotations

import poplib
import socket
import time
from pathlib import Path

import pytest

from mailserver.config.schema import Pop3Config
from mailserver.ops import metrics
from mailserver.pop3 import commands
from mailserver.pop3.context import Pop3Options
from mailserver.pop3.server import Pop3Server
from mailserver.pop3.table import TABLE
from mailserver.store.mailbox import FlagOp
from mailserver.store.model.flags import Flag
from tests.transcripts.test_pop3 import deliver, serving


def connect(server: Pop3Server) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.addresses["pop3"]), timeout=10)
    assert client.recv(1000).startswith(b"+OK")
    return client


def login(server: Pop3Server) -> poplib.POP3:
    pop = poplib.POP3("127.0.0.1", server.addresses["pop3"], timeout=10)
    try:
        pop.user("alice")
        pop.pass_("secret")
    except poplib.error_proto:
        pop.close()
        raise
    return pop


def test_poplib(tmp_path: Path, mailbox_format: str) -> None:
    body = b"Subject: x\r\n\r\n.dot\r\nlast\r\n"
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, store):
        deliver(store, body)
        before = metrics.POP3_DELETED.value()
        pop = poplib.POP3("127.0.0.1", server.addresses["pop3"], timeout=10)
        assert set(pop.capa()) >= {"TOP", "UIDL", "USER", "SASL", "STLS"} - {"STLS"}
        pop.apop("alice", "secret")
        assert pop.stat() == (1, len(body))
        assert b"\r\n".join(pop.retr(1)[1]) + b"\r\n" == body
        assert pop.top(1, 1)[1] == [b"Subject: x", b"", b".dot"]
        pop.dele(1)
        pop.quit()
        assert metrics.POP3_DELETED.value() == before + 1
        assert store.account("alice").mailbox("INBOX").rescan().messages == []


def test_the_lock_is_free_after_a_lost_connection(tmp_path: Path, mailbox_format: str) -> None:
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, store):
        first = login(server)
        with pytest.raises(poplib.error_proto, match="IN-USE"):
            login(server)
        first.close()
        server.stop()  # waits until the session has ended
        store.account("alice").maildrop_lock().release()


def test_login_delay_holds_over_processes_and_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailbox_format: str
) -> None:
    options = Pop3Options(login_delay=900)
    with (
        serving(tmp_path, options, format=mailbox_format) as (server, _),
        serving(tmp_path, options, format=mailbox_format) as (other, _),
    ):
        login(server).quit()
        with pytest.raises(poplib.error_proto, match="LOGIN-DELAY"):
            login(other)
    now = time.time()
    with serving(tmp_path, options, format=mailbox_format) as (server, _):
        with pytest.raises(poplib.error_proto, match="LOGIN-DELAY"):
            login(server)
        monkeypatch.setattr("mailserver.pop3.maildrop.time.time", lambda: now + 901)
        login(server).quit()
        monkeypatch.setattr("mailserver.pop3.maildrop.time.time", lambda: now)  # the clock was put back
        login(server).quit()


def test_what_is_flagged_as_deleted_comes_back_when_the_flag_goes(tmp_path: Path, mailbox_format: str) -> None:
    with serving(tmp_path, Pop3Options(delete_type="flag"), format=mailbox_format) as (server, store):
        for _ in range(2):
            deliver(store, b"a: b\r\n\r\nc\r\n")
        pop = login(server)
        ids = pop.uidl()[1]
        pop.dele(1)
        pop.quit()
        box = store.account("alice").mailbox("INBOX")
        assert [bool(m.flags & Flag.DELETED) for m in box.rescan().messages] == [True, False]
        pop = login(server)
        assert pop.stat()[0] == 1
        pop.quit()
        box.store_flags([1], FlagOp.REMOVE, Flag.DELETED)
        pop = login(server)
        assert pop.uidl()[1] == ids
        pop.quit()


def test_what_others_do_meanwhile_is_not_shown(tmp_path: Path, mailbox_format: str) -> None:
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, store):
        for number in range(4):
            deliver(store, b"a: %d\r\n\r\nc\r\n" % number)
        pop = login(server)
        before = (pop.list()[1], pop.uidl()[1])
        box = store.account("alice").mailbox("INBOX")
        box.store_flags([1, 2, 3, 4], FlagOp.ADD, Flag.FLAGGED, ["work"])
        box.expunge([2])
        deliver(store, b"a: new\r\n\r\nc\r\n")
        assert (pop.list()[1], pop.uidl()[1]) == before
        assert [pop.retr(n)[1][0] for n in (1, 3, 4)] == [b"a: 0", b"a: 2", b"a: 3"]
        with pytest.raises(poplib.error_proto, match="expunged"):
            pop.retr(2)
        pop.dele(3)
        pop.dele(2)
        pop.quit()
        left = box.rescan().messages
        assert [m.uid for m in left] == [1, 4, 5]
        assert [m.flags for m in left] == [Flag.FLAGGED | Flag.SEEN, Flag.FLAGGED | Flag.SEEN, 0]


def test_begin_and_end_are_in_the_log(tmp_path: Path, log_lines: list[str], mailbox_format: str) -> None:
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, _):
        with connect(server) as client:
            client.sendall(b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\nQUIT\r\n")
            while client.recv(1000):
                pass
        server.stop()
    events = [line for line in log_lines if "proto=pop3" in line and "user=alice" in line]
    assert ["event=opened" in events[0], "event=logout" in events[-1]] == [True, True]
    assert "received=39" in events[-1]


def test_every_setting_reaches_the_sessions(tmp_path: Path) -> None:
    config = Pop3Config(
        host="127.0.0.1",
        port=0,
        ssl_port=-1,
        mailbox_path=str(tmp_path),
        users={"alice": "secret"},
        connection_timeout_seconds=7,
        max_message_size=2000,
        delete_on_quit=False,
        pop3_delete_type="flag",
        uidl_format="cyrus",
        login_delay_seconds=9,
        expire_days=11,
        utf8_headers="refuse",
    )
    with Pop3Server(config) as server:
        assert server.context.options == Pop3Options(
            timeout=7,
            max_message_size=2000,
            delete_on_quit=False,
            delete_type="flag",
            uidl_format="cyrus",
            login_delay=9,
            expire_days=11,
            utf8_headers="refuse",
            max_bad_commands=20,
        )


def test_too_many_failures_end_the_session(tmp_path: Path, mailbox_format: str) -> None:
    with (
        serving(tmp_path, Pop3Options(max_failed_logins=2), format=mailbox_format) as (server, _),
        connect(server) as client,
    ):
        client.sendall(b"USER alice\r\nPASS x\r\nUSER alice\r\nPASS y\r\nNOOP\r\n")
        said = b"".join(iter(lambda: client.recv(1000), b""))
        assert said.count(b"-ERR [AUTH]") == 2
        assert said.count(b"\r\n") == 4


def test_a_timeout_says_nothing_and_removes_nothing(tmp_path: Path, mailbox_format: str) -> None:
    with serving(tmp_path, Pop3Options(timeout=0.2), format=mailbox_format) as (server, store):
        deliver(store, b"a: b\r\n\r\nc\r\n")
        with connect(server) as client:
            client.sendall(b"USER alice\r\nPASS secret\r\nDELE 1\r\n")
            said = b"".join(iter(lambda: client.recv(1000), b""))
        assert said.endswith(b"+OK Message deleted\r\n")
        assert len(store.account("alice").mailbox("INBOX").rescan().messages) == 1


def test_a_fault_is_a_temporary_failure_with_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str], mailbox_format: str
) -> None:
    def broken(session: object, _: None) -> None:
        raise ZeroDivisionError("inside")

    spec = TABLE["NOOP"]
    monkeypatch.setitem(TABLE, "NOOP", type(spec)(spec.parse, broken, spec.states))  # type: ignore[arg-type]
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, _), connect(server) as client:
        client.sendall(b"USER alice\r\nPASS secret\r\nNOOP\r\nQUIT\r\n")
        said = b"".join(iter(lambda: client.recv(1000), b"")).decode()
    answer = next(line for line in said.splitlines() if line.startswith("-ERR"))
    assert answer.startswith("-ERR [SYS/TEMP] Internal error ")
    assert any(answer.split()[-1] in line for line in log_lines)
    assert said.endswith("(0 messages deleted)\r\n")


def test_a_message_that_vanished(tmp_path: Path, mailbox_format: str) -> None:
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, store):
        deliver(store, b"a: b\r\n\r\nc\r\n")
        pop = login(server)
        box = store.account("alice").mailbox("INBOX")
        box.expunge([message.uid for message in box.rescan().messages])
        with pytest.raises(poplib.error_proto, match="expunged"):
            pop.retr(1)
        pop.dele(1)
        assert pop.quit().startswith(b"+OK")


def test_the_server_says_goodbye(tmp_path: Path, mailbox_format: str) -> None:
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, _), connect(server) as client:
        server.stop()
        assert client.recv(1000).startswith(b"-ERR [SYS/TEMP]")


def test_password_is_refused_in_clear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailbox_format: str) -> None:
    with serving(tmp_path, Pop3Options(), format=mailbox_format) as (server, _), connect(server) as client:
        monkeypatch.setattr(type(server.context.auth), "allows_cleartext", lambda self, tls, loopback: tls)
        client.sendall(b"USER alice\r\nPASS secret\r\nAUTH PLAIN =\r\nCAPA\r\nQUIT\r\n")
        said = b"".join(iter(lambda: client.recv(1000), b""))
    assert said.count(b"-ERR Passwords are only accepted over TLS") == 3
    assert b"SASL" not in said
    assert b"\r\nUSER\r\n" not in said


def test_every_word_of_the_table_has_a_function_of_its_own_room() -> None:
    assert {spec.run.__module__ for spec in TABLE.values()} == {commands.__name__, "mailserver.pop3.login"}
