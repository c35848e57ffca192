"""The queue from reception to the other server and back: retries, reports, holding, restart."""

from __future__ import annotations

import contextlib
import email
import email.policy
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from mailserver.__main__ import main
from mailserver.config.schema import QueueConfig, TlsConfig
from mailserver.delivery import wiring
from mailserver.delivery.queue.relay import Relay
from mailserver.delivery.queue.resolver import Resolver
from mailserver.delivery.queue.scheduler import Timing
from mailserver.delivery.queue.spool import Spool
from mailserver.delivery.target import Envelope, Recipient, Status
from mailserver.services import Services
from tests.unit.delivery.peers import DnsServer, Records, Script, Sink
from tests.unit.smtp.serving import KINDS, USERS, Client, Server, messages, settings

RECORDS = {("far.example", "A"): ["127.0.0.1"], ("gone.example", "MX"): ["0 ."], ("next.example", "A"): ["127.0.0.1"]}


@contextmanager
def relaying(
    tmp_path: Path,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
    timing: Timing | None = None,
    *,
    kind: str = "smtp",
    certificate: tuple[Path, Path] | None = None,
    records: Records = RECORDS,
    validated: bool = False,
    relay: Mapping[str, Any] = MappingProxyType({}),
    own: Mapping[str, Any] = MappingProxyType({}),
    **changes: Any,
) -> Iterator[Server]:
    """A server that trusts loopback and sends to ``sink`` whatever the domain. ``relay``: of `Relay`; ``own``: of the
    server's section; ``changes``: of [queue]."""
    sections: dict[str, Any] = {"queue": QueueConfig(path=str(tmp_path / "queue"), **changes)}
    if certificate is not None:
        sections["tls"] = TlsConfig(certificate=str(certificate[0]), private_key=str(certificate[1]))
    services = Services(settings(tmp_path, **sections), users=USERS)
    if timing is not None:
        monkeypatch.setattr(wiring, "timing", lambda queue: timing)
    with DnsServer(records, validated=validated) as dns:
        made = Relay(
            "mx.example.com",
            Resolver([], dns.resolver()),
            port=sink.port,
            connect_seconds=5,
            reply_seconds=5,
            **relay,
        )
        begin = wiring.scheduler
        monkeypatch.setattr(wiring, "scheduler", lambda services, spool: begin(services, spool, made))
        server_class, config_class = KINDS[kind]
        trusting = {"trusted_networks": ("127.0.0.0/8",)} if kind == "smtp" else {}
        try:
            services.start_queue()
            config = config_class(**{"host": "127.0.0.1", "port": 0, "ssl_port": -1} | trusting | dict(own))
            with server_class(config, services) as server:
                yield server
        finally:
            services.close()


def submit(
    server: Server, *recipients: str, sender: str = "alice@example.com", text: bytes = b"Subject: x\r\n\r\nhi\r\n"
) -> str:
    with Client(server) as client:
        assert client.say(f"MAIL FROM:{sender if sender.startswith('<') else f'<{sender}>'}").startswith("250")
        for recipient in recipients:
            assert client.say(f"RCPT TO:{recipient if recipient.startswith('<') else f'<{recipient}>'}").startswith(
                "250"
            )
        assert client.say("DATA").startswith("354")
        client.send(text + b".\r\n")
        return client.reply()


def wait(check: Callable[[], Any], seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def spool_of(server: Server) -> Spool:
    assert server.services.spool is not None
    return server.services.spool


def report(octets: bytes) -> tuple[EmailMessage, dict[str, str]]:
    """A report, and the fields of its first recipient."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    parts = list(message.iter_parts())
    assert len(parts) == 3
    blocks = parts[1].get_payload()
    assert isinstance(blocks, list)
    return message, {name.lower(): str(value) for name, value in blocks[1].items()}


def test_sent_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch) as server:
        assert submit(server, "a@far.example", "b@next.example", "bob@example.com").startswith("250 2.0.0")
        sink.wait(2)
        assert sorted(got.rcpts[0] for got in sink.got) == ["RCPT TO:<a@far.example>", "RCPT TO:<b@next.example>"]
        assert sink.got[0].octets.startswith(b"Received: from client.example")
        assert sink.got[0].octets.endswith(b"Subject: x\r\n\r\nhi\r\n")
        assert b"Return-Path" not in sink.got[0].octets
        assert len(messages(server, "bob")) == 1
        wait(lambda: spool_of(server).count() == 0)
        wait(lambda: os.listdir(tmp_path / "queue" / "messages") == [])


def test_failure_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(replies={"RCPT TO:<no@": "550 5.1.1 nobody of that name"})
    with Sink(script) as sink, relaying(tmp_path, sink, monkeypatch) as server:
        submit(
            server,
            "yes@far.example",
            "<no@far.example> ORCPT=rfc822;orig@x NOTIFY=FAILURE",
            "<x@gone.example> NOTIFY=NEVER",
        )
        sink.wait(1)
        octets = wait(lambda: messages(server))[0]
        message, fields = report(octets)
        wait(lambda: spool_of(server).count() == 0)
        assert len(messages(server)) == 1
    assert octets.startswith(b"Return-Path: <>\r\n")
    assert message["auto-submitted"] == "auto-replied"
    assert fields["action"] == "failed"
    assert fields["status"] == "5.1.1"
    assert fields["final-recipient"] == "rfc822; no@far.example"
    assert fields["original-recipient"] == "rfc822;orig@x"
    assert fields["remote-mta"] == "dns; far.example"
    assert fields["diagnostic-code"] == "smtp; 550 5.1.1 nobody of that name"
    assert list(message.iter_parts())[2].get_content_type() == "text/rfc822-headers"


def test_whole_message_comes_back_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch) as server:
        submit(server, "x@gone.example", sender="<alice@example.com> RET=FULL ENVID=my-id")
        message, fields = report(wait(lambda: messages(server))[0])
    assert fields["status"] == "5.1.10"
    last = list(message.iter_parts())[2]
    assert last.get_content_type() == "message/rfc822"
    assert "hi" in last.as_string()
    assert b"Original-Envelope-Id: my-id" in message.as_bytes()


def test_no_report_about_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch) as server:
        submit(server, "x@gone.example", sender="<>")
        wait(lambda: spool_of(server).count() == 0)
        assert messages(server) == []


def test_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(replies={"MAIL": "451 4.3.0 later"})

    def better(line: str) -> None:
        if line.startswith("MAIL") and sum(said.startswith("MAIL") for said in sink.lines) > 2:
            script.replies.clear()

    script.hook = better
    timing = Timing(first=0.05, longest=0.1)
    with Sink(script) as sink, relaying(tmp_path, sink, monkeypatch, timing) as server:
        submit(server, "a@far.example")
        sink.wait(1)
        assert sum(line.startswith("MAIL") for line in sink.lines) == 3
        wait(lambda: spool_of(server).count() == 0)


def test_slow_servers_delay_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten destinations that do not answer, with more mail than they may have connections; an eleventh that does."""
    slow = [f"s{number}.example" for number in range(10)]
    records = {(name, "A"): ["127.0.0.1"] for name in [*slow, "far.example"]}
    answer = threading.Event()

    def stuck(line: str) -> None:
        if line.startswith("MAIL FROM:<slow@"):
            answer.wait(20)

    timing = Timing(first=0.1, longest=0.2)  # on a busy machine one may be given up for this time
    with Sink(Script(hook=stuck)) as sink, relaying(tmp_path, sink, monkeypatch, timing, records=records) as server:
        for _ in range(4):
            submit(server, *(f"a@{name}" for name in slow), sender="slow@example.com")
        sink.wait_line("MAIL FROM:<slow@", 10)
        submit(server, "quick@far.example")
        (got,) = sink.wait(1)
        assert got.rcpts == ["RCPT TO:<quick@far.example>"]
        answer.set()
        wait(lambda: spool_of(server).count() == 0)
        assert len(sink.got) == 41


def test_given_up_after_the_lifetime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing(first=0.05, longest=0.1, lifetime=0.3, warning=0)
    with Sink(Script(end="451 4.3.0 later")) as sink, relaying(tmp_path, sink, monkeypatch, timing) as server:
        submit(server, "a@far.example")
        _, fields = report(wait(lambda: messages(server))[0])
        assert fields["action"] == "failed"
        assert fields["status"] == "4.4.7"
        assert "451 4.3.0 later" in fields["diagnostic-code"]
        wait(lambda: spool_of(server).count() == 0)


def test_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing(first=0.05, longest=0.05, warning=0.01)
    with Sink(Script(end="451 4.3.0 later")) as sink, relaying(tmp_path, sink, monkeypatch, timing) as server:
        submit(server, "a@far.example")
        sink.wait_line("DATA", 5)
        (octets,) = wait(lambda: messages(server))
        _, fields = report(octets)
        assert fields["action"] == "delayed"
        assert "will-retry-until" in fields


def test_success_is_reported_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch) as server:
        submit(server, "<a@far.example> NOTIFY=SUCCESS", "<bob@example.com> NOTIFY=SUCCESS", "carol@other.example")
        wait(lambda: len(messages(server)) == 2)
        actions = {report(octets)[1]["action"]: report(octets)[1]["final-recipient"] for octets in messages(server)}
    assert actions == {"relayed": "rfc822; a@far.example", "delivered": "rfc822; bob@example.com"}


def test_utf8_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch) as server:
        submit(server, "jürgen@far.example", sender="<alice@example.com> SMTPUTF8")
        octets = wait(lambda: messages(server))[0]
    assert b"Content-Type: message/global-delivery-status" in octets
    assert "Final-Recipient: utf-8; jürgen@far.example".encode() in octets


def test_a_mailbox_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing(first=0.05, longest=0.1)
    blocker = tmp_path / "mail" / "bob"
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch, timing) as server:
        blocker.parent.mkdir(exist_ok=True)
        blocker.write_text("in the way")
        assert submit(server, "alice@example.com", "bob@example.com").startswith("250")
        assert len(messages(server)) == 1
        blocker.unlink()
        (octets,) = wait(lambda: messages(server, "bob"))
        assert octets.endswith(b"Subject: x\r\n\r\nhi\r\n")
        assert octets.count(b"Return-Path:") == 1
        wait(lambda: spool_of(server).count() == 0)
        assert len(messages(server)) == 1


def test_alias_to_elsewhere_and_loop_of_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch) as server, Client(server) as client:
        assert "250-DSN" in client.capabilities or "250 DSN" in client.capabilities
        client.say("MAIL FROM:<a@b.example>")
        assert client.say("RCPT TO:<a@far.example>").startswith("250")


def test_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch) as server:
        context = server.context
        monkeypatch.setitem(
            server.__dict__, "context", type(context)(context.flavour, context.hostname, context.auth, context.router)
        )
        with Client(server) as client:
            client.say("MAIL FROM:<a@b.example>")
            assert client.say("RCPT TO:<a@far.example>").startswith("550 5.7.1")


def fill(spool: Spool, name: str, *addresses: str) -> None:
    delivery = spool.start(Envelope(name, "from@x.example"))
    for address in addresses:
        delivery.recipient(Recipient(address))
    delivery.write(b"Subject: x\r\n\r\n")
    delivery.write(b"body\n")
    assert delivery.commit() == {}
    delivery.abort()


def due(spool: Spool) -> list[str]:
    now = time.time()
    return spool.due(now, spool.due_domains(now))


def test_spool_survives(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    fill(spool, "one", "a@b", "c@d")
    spool.close()
    spool = Spool(str(tmp_path))
    (found,) = spool.all()
    assert [waiting.recipient.address for waiting in found.waiting] == ["a@b", "c@d"]
    assert Path(spool.file("one")).read_bytes() == b"Subject: x\r\n\r\nbody\r\n"
    assert found.size == 20
    late, done = (waiting.number for waiting in found.waiting)
    assert not spool.settle("one", [done], [(late, 5e9, Status(451, "4.0.0", "later"))])
    assert due(spool) == []
    assert spool.next_due() == 5e9
    assert spool.retry("one")
    assert due(spool) == ["one"]
    assert spool.hold("one", True)
    assert due(spool) == []
    assert spool.delete("one")
    assert not spool.delete("one")
    assert spool.count() == 0
    spool.close()


def test_a_queue_of_an_earlier_version(tmp_path: Path) -> None:
    (tmp_path / "messages").mkdir()
    (tmp_path / "messages" / "old").write_bytes(b"Subject: x\r\n\r\n")
    with contextlib.closing(sqlite3.connect(tmp_path / "queue.sqlite")) as db, db:
        db.execute(
            "create table message (id text primary key, sender text not null, user text not null,"
            " utf8 integer not null, body text not null, ret text not null, envid text not null, size integer not null,"
            " created real not null, held integer not null) without rowid"
        )
        db.execute(
            "create table recipient (number integer primary key, message text not null, address text not null,"
            " user text not null, given text not null, notify text not null, orcpt text not null,"
            " attempts integer not null, due real not null, warned integer not null, code integer not null,"
            " enhanced text not null, said text not null)"
        )
        db.execute("insert into message values ('old', 'a@b', '', 0, '', '', '', 14, 5.0, 0)")
        db.execute(
            "insert into recipient values (1, 'old', 'x@Far.example', '', '', '', '', 2, 6.0, 1, 451, '4.0.0', 'no')"
        )
    for _ in range(2):  # the second time nothing is missing
        spool = Spool(str(tmp_path))
        (message,) = spool.all()
        (waiting,) = message.waiting
        assert (message.envelope.priority, message.envelope.release, message.envelope.tls) == (0, 0.0, "")
        assert (waiting.recipient.address, waiting.attempts, waiting.warned, waiting.trying) == (
            "x@Far.example",
            2,
            1,
            False,
        )
        assert spool.due_domains(time.time()) == ["far.example"]
        assert due(spool) == ["old"]
        spool.close()


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    delivery = spool.start(Envelope("x", ""))
    delivery.write(b"y" * 1000000)
    delivery.abort()
    delivery.abort()
    assert os.listdir(tmp_path / "messages") == []
    spool.close()


def test_orphans_are_swept_and_one_delivers(tmp_path: Path) -> None:
    spool, other = Spool(str(tmp_path)), Spool(str(tmp_path))
    fill(spool, "kept", "a@b")
    for name in ("orphan", "half.part"):
        Path(spool.file(name)).write_bytes(b"x")
        os.utime(spool.file(name), (0, 0))
    Path(spool.file("new.part")).write_bytes(b"x")
    os.utime(spool.file("kept"), (0, 0))
    assert spool.sweep() == 2
    assert sorted(os.listdir(tmp_path / "messages")) == ["kept", "new.part"]
    assert spool.take_charge()
    assert not other.take_charge()
    spool.close()
    assert other.take_charge()
    other.close()


def test_full_disk_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with Sink() as sink, relaying(tmp_path, sink, monkeypatch) as server:
        monkeypatch.setattr(Spool, "insert", full)
        assert submit(server, "a@far.example", "bob@example.com") == "452 4.3.1 No room in the queue"
        assert messages(server, "bob") == []


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "mailserver.toml"
    config.write_text('[queue]\npath = "queue"\n')

    def run(*words: str) -> str:
        assert main(["queue", *words, "--config", str(config)]) == 0
        return capsys.readouterr().out

    assert main(["queue", "list", "--config", str(config)]) == os.EX_NOINPUT
    spool = Spool(str(tmp_path / "queue"))
    fill(spool, "one", "a@b")
    fill(spool, "two", "c@d")
    assert "a@b  attempts 0" in run("list")
    assert '"address": "a@b"' in run("list", "--json")
    asked = spool.start(Envelope("asked", "", release=86400.0, by=172800.0, by_mode="N", priority=3))
    asked.recipient(Recipient("x@y"))
    asked.write(b"A: b\r\n\r\n")
    asked.commit()
    assert "<> priority 3 not before 1970-01-02T00:00:00Z until 1970-01-03T00:00:00Z" in run("list")
    assert run("delete", "asked") == "1 messages deleted\n"
    assert "body" in run("show", "one")
    assert run("hold", "one") == "1 messages held\n"
    assert due(spool) == ["two"]
    assert run("release", "--all") == "2 messages released\n"
    assert run("retry", "two") == "1 messages will be tried now\n"
    assert run("delete", "one", "two") == "2 messages deleted\n"
    assert run("list") == "0 messages\n"
    assert main(["queue", "delete", "one", "--config", str(config)]) == os.EX_DATAERR
    spool.close()


def test_pauses() -> None:
    timing = Timing(first=100, longest=1000)
    pauses: Sequence[float] = [timing.pause(attempts) for attempts in range(10)]
    assert 80 <= pauses[0] <= 120
    assert 160 <= pauses[1] <= 240
    assert all(800 <= pause <= 1200 for pause in pauses[4:])
