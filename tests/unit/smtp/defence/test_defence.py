"""Each defence by real sessions: whom it stops, and whom it must let pass."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailserver.config.schema import DefenceConfig, LimitsConfig, QueueConfig, ServerConfig
from mailserver.smtp.defence.dnsbl import Blocklists, reversed_name
from tests.program import Program
from tests.unit.delivery.peers import DnsServer, Records
from tests.unit.smtp.serving import Client, Server, bodies, messages, serving

LISTS: Records = {
    ("2.0.0.127.bl.example", "A"): ["127.0.0.2"],
    ("3.0.0.127.bl.example", "A"): ["192.0.2.1"],  # somebody bought the list's domain
    ("4.0.0.127.bl.example", "A"): ["127.255.255.254"],
    ("5.0.0.127.bl.example", "A"): ["SERVFAIL"],
    ("5.0.0.127.second.example", "A"): ["127.0.0.4"],
    ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example", "A"): ["127.0.0.2"],
}


class From(Client):
    """A client at another address of loopback."""

    def __init__(self, server: Server, address: str, hello: str = "EHLO client.example") -> None:
        place = ("127.0.0.1", server.port)
        self.sock = socket.create_connection(place, timeout=10, source_address=(address, 0))
        self.file = self.sock.makefile("rb")
        self.greeting = self.reply()
        if hello:
            self.capabilities = self.say(hello)

    def try_one(self, recipient: str = "alice@example.com", sender: str = "x@y.example") -> str:
        """Send a message; the reply to RCPT, or to the end when that was 250."""
        self.say("RSET")
        reply = self.say(f"MAIL FROM:<{sender}>")
        if not reply.startswith("250") or not (reply := self.say(f"RCPT TO:<{recipient}>")).startswith("250"):
            return reply
        self.say("DATA")
        self.send(b"Subject: x\r\n\r\nhi\r\n.\r\n")
        return self.reply()


@contextmanager
def defended(tmp_path: Path, kind: str = "smtp", *, own: Any = None, **changes: Any) -> Iterator[Server]:
    queue = QueueConfig(path=str(tmp_path / "queue"))
    with serving(tmp_path, kind, defence=DefenceConfig(**changes), queue=queue, **(own or {})) as server:
        yield server


def log_in(client: Client) -> None:
    assert client.say("AUTH PLAIN " + base64.b64encode(b"\0alice\0secret").decode()).startswith("235")


def test_connections_of_an_address(tmp_path: Path) -> None:
    with defended(tmp_path, connections_per_minute=3) as server:
        for _ in range(3):
            with From(server, "127.0.0.2") as client:
                assert client.greeting.startswith("220")
        with From(server, "127.0.0.2", "") as client:
            assert client.greeting.startswith("421 4.7.0")
            assert client.rest() == ""
        with From(server, "127.0.0.3") as client:
            assert client.greeting.startswith("220")


def test_messages_of_an_address(tmp_path: Path) -> None:
    with defended(tmp_path, messages_per_minute=2) as server, From(server, "127.0.0.2") as client:
        assert [client.try_one()[:9] for _ in range(3)] == ["250 2.0.0", "250 2.0.0", "450 4.7.1"]
        with From(server, "127.0.0.3") as other:
            assert other.try_one().startswith("250")
        log_in(client)
        assert client.try_one(sender="alice@example.com").startswith("250")


@pytest.mark.parametrize(("name", "line"), [("messages", "MAIL"), ("recipients", "RCPT")])
def test_messages_and_recipients_of_a_user(tmp_path: Path, name: str, line: str) -> None:
    own = {f"{name}_per_hour": 3}
    with serving(tmp_path, "submission", **own) as server, Client(server) as client, Client(server) as other:
        for one in (client, other):
            log_in(one)
        replies = []
        for one in (client, other) * 2:
            replies.append(one.say("MAIL FROM:<alice@example.com>"))
            replies.append(one.say("RCPT TO:<bob@example.com>"))
            one.say("RSET")
    assert [reply[:3] for reply in replies] == ["250"] * 6 + (["450", "503"] if line == "MAIL" else ["250", "450"])


def test_a_user_is_counted_over_workers(tmp_path: Path) -> None:
    extra = "messages_per_hour = 5\n[smtp]\nport = -1\n[lmtp]\nport = -1\n[queue]\npath = 'queue'\n"
    with Program(tmp_path, workers=2, protocols=("submission",), extra=extra) as program:
        replies = []
        for _ in range(12):
            with Client(_Port(program.ports["submission"])) as client:  # type: ignore[arg-type]
                log_in(client)
                replies.append(client.say("MAIL FROM:<alice@localhost>")[:3])
    assert replies == ["250"] * 5 + ["450"] * 7


class _Port:
    def __init__(self, port: int) -> None:
        self.port = port


def test_early_talkers(tmp_path: Path) -> None:
    with defended(tmp_path, greeting_delay_seconds=1) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(b"EHLO early.example\r\n")
            assert sock.recv(1000).startswith(b"554 5.5.0")
        begun = time.monotonic()
        with From(server, "127.0.0.2") as client:
            assert time.monotonic() - begun >= 0.9
            assert client.try_one().startswith("250")


@pytest.mark.parametrize(
    ("helo", "name", "refused"),
    [
        ("off", "mx.example.com", False),
        ("forged", "mx.example.com", True),
        ("forged", "MX.Example.com.", True),
        ("forged", "[127.0.0.1]", True),
        ("forged", "127.0.0.1", True),
        ("forged", "localhost", False),
        ("strict", "localhost", True),
        ("strict", "what is this", True),
        ("strict", "[192.0.2.1]", False),
        ("strict", "client.example", False),
    ],
)
def test_hello(tmp_path: Path, helo: str, name: str, refused: bool) -> None:
    with defended(tmp_path, helo=helo) as server, From(server, "127.0.0.2", f"EHLO {name}") as client:
        assert client.try_one().startswith("550 5.7.1" if refused else "250")
        assert client.try_one("postmaster@example.com").startswith("250")
        assert client.try_one("nobody@example.com").startswith("550 5.1.1")  # this tells more


def test_blocklists(tmp_path: Path) -> None:
    with DnsServer(LISTS) as dns:
        asked = ServerConfig(nameservers=(dns.place,))
        own = {"server": asked, "trusted_networks": ("127.0.0.6/32",)}
        with defended(tmp_path, own=own, dnsbl=("bl.example", "second.example.")) as server:
            with From(server, "127.0.0.2") as client:
                assert client.try_one() == "550 5.7.1 127.0.0.2 is listed by bl.example"
                assert client.try_one().startswith("550")
                assert client.try_one("abuse@example.com").startswith("250")
                log_in(client)
                assert client.try_one(sender="alice@example.com").startswith("250")
            assert sum(name.startswith("2.0.0.127.bl") for name in dns.asked) == 1
            for address, reply in (("3", "250"), ("4", "250"), ("5", "550 5.7.1 127.0.0.5 is listed by second")):
                with From(server, f"127.0.0.{address}") as client:
                    assert client.try_one().startswith(reply), address
            before = len(dns.asked)
            with From(server, "127.0.0.6") as client:
                assert client.try_one().startswith("250")
            assert len(dns.asked) == before
        lists = Blocklists(["bl.example"], dns.resolver())
        assert lists.listed("2001:db8::1") == "bl.example"
        assert lists.listed("unix") == ""
    assert reversed_name("192.0.2.99") == "99.2.0.192"


def test_greylisting(tmp_path: Path) -> None:
    with defended(tmp_path, greylist_seconds=1) as server, From(server, "127.0.0.2") as client:
        assert client.try_one() == "450 4.7.1 Not known here yet, come again in 1 seconds"
        assert client.try_one("postmaster@example.com").startswith("250")
        deadline = time.monotonic() + 10
        while not (reply := client.try_one()).startswith("250"):
            assert reply.startswith("450 4.7.1")
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.try_one("bob@example.com", "other@z.example").startswith("250")


def test_tar_pit(tmp_path: Path) -> None:
    with defended(tmp_path, tarpit_seconds=1) as server, From(server, "127.0.0.2") as client:
        for _ in range(3):
            assert client.say("FOO").startswith("500")
        begun = time.monotonic()
        assert client.say("FOO").startswith("500")
        assert time.monotonic() - begun >= 0.9


def test_the_tar_pit_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    with defended(tmp_path, tarpit_seconds=60) as server, From(server, "127.0.0.2") as client:
        client.send(b"FOO\r\n" * 4)
        begun = time.monotonic()
        for _ in range(3):
            client.reply()  # the first ones are answered at once
        server.stop()
        assert time.monotonic() - begun < 50


def test_junk_commands(tmp_path: Path) -> None:
    with serving(tmp_path, limits=LimitsConfig(max_junk_commands=5)) as server, Client(server) as client:
        replies = [client.say("NOOP")[:3] for _ in range(5)]
        assert replies == ["250"] * 5
        assert client.reply().startswith("421 4.7.0")


@pytest.mark.parametrize("verb", ["DATA", "BDAT"])
def test_octets_that_drip(tmp_path: Path, verb: str) -> None:
    limits = LimitsConfig(max_transfer_seconds=1)
    with serving(tmp_path, limits=limits) as server, Client(server) as client:
        client.begin()
        begun = time.monotonic()
        if verb == "DATA":
            assert client.say("DATA").startswith("354")
        else:
            client.send(b"BDAT 100000 LAST\r\n")
        client.sock.settimeout(0.1)
        while time.monotonic() - begun < 10:
            try:
                client.send(b"x\r\n")
                answer = client.sock.recv(100)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"421 4.4.2")
        assert 0.9 <= time.monotonic() - begun < 8
        server.stop()
        assert messages(server) == []


@pytest.mark.parametrize(
    ("field", "fits"),
    [
        ("From: alice@example.com", True),
        ("From: Alice <ALICE+x@example.com>", True),
        ("From: alice@localhost, Alice <alice@example.com>", True),
        ("Subject: no author", True),
        ("From: bob@example.com", False),
        ("From: Alice <alice@example.com>, bob@example.com", False),
        ("From: alice@example.com\r\nFrom: bob@example.com", False),
        ("From: ceo@elsewhere.example", False),
        ("From: =?utf-8?q?alice=40example=2Ecom?= <bob@example.com>", False),
        ("From: alice@example.com <bob@example.com>", False),
        ("From :bob@example.com", False),
        ("From: x\r\n\t<bob@example.com>", False),
    ],
)
def test_authors_of_users(tmp_path: Path, field: str, fits: bool) -> None:
    with serving(tmp_path, "submission") as server, Client(server) as client:
        log_in(client)
        client.begin("bob@example.com", "alice@example.com")
        client.say("DATA")
        client.send(f"{field}\r\n\r\nhi\r\n.\r\n".encode())
        assert client.reply().startswith("250" if fits else "550 5.7.1"), field
        assert len(bodies(server, "bob")) == fits
