"""No open relay: whatever a recipient looks like, mail goes nowhere but to users of this server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.smtp.serving import Client, serving

FORMS = [
    "<user@elsewhere.example>",
    "user@elsewhere.example",
    "<user@[192.0.2.1]>",
    "<user@[IPv6:2001:db8::1]>",
    "<user@192.0.2.1>",
    "<user%elsewhere.example@example.com>",
    "<user%elsewhere.example@localhost>",
    "<user%elsewhere.example@[127.0.0.1]>",
    "<user%elsewhere.example>",
    "<elsewhere.example!user@example.com>",
    "<elsewhere.example!user>",
    "<@example.com:user@elsewhere.example>",
    "<@example.com,@other.example:user@elsewhere.example>",
    "<@elsewhere.example:user@example.com>",
    '<"user@elsewhere.example"@example.com>',
    '<"user@elsewhere.example">',
    '<"user%elsewhere.example"@example.com>',
    '<"alice@elsewhere.example"@example.com>',
    '<"carol@other.example"@example.com>',
    "<user@elsewhere.example@example.com>",
    "<user@example.com@elsewhere.example>",
    "<user@elsewhere.example%example.com>",
    "<user@elsewhere.example.>",
    "<user@example.com.elsewhere.example>",
    "<user@>",
    "<@elsewhere.example>",
    "<user@@example.com>",
    "<user@elsewhere.example,alice@example.com>",
    "<alice@example.com>,<user@elsewhere.example>",
    "<user@elsewhere.example> <alice@example.com>",
    "<user@elsewhere.example\0@example.com>",
    "<user+x@elsewhere.example>",
    "<postmaster@elsewhere.example>",
    "<../alice@example.com>",
    "<alice/../bob@example.com>",
    "<.alice@example.com>",
    "<|/bin/sh@example.com>",
    "</tmp/file@example.com>",
]


@pytest.mark.parametrize("kind", ["smtp", "lmtp"])
def test_refused(tmp_path: Path, kind: str) -> None:
    with serving(tmp_path, kind) as server:
        for form in FORMS:
            with Client(server, "LHLO x" if kind == "lmtp" else "EHLO x") as client:
                assert client.say("MAIL FROM:<postmaster@example.com>").startswith("250")
                answer = client.say(f"RCPT TO:{form}")
                assert answer[0] == "5", (form, answer)


def test_sender_address_gives_no_right(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server) as client:
        for sender in ("<alice@example.com>", "<>", "<root@localhost>"):
            assert client.say(f"MAIL FROM:{sender}").startswith("250")
            assert client.say("RCPT TO:<user@elsewhere.example>").startswith("550 5.7.1")
            client.say("RSET")


@pytest.mark.parametrize(("networks", "answer"), [(("127.0.0.0/8",), "250"), (("192.0.2.0/24",), "550 5.7.1")])
def test_trusted_network(tmp_path: Path, networks: tuple[str, ...], answer: str) -> None:
    with serving(tmp_path, trusted_networks=networks) as server, Client(server) as client:
        client.say("MAIL FROM:<a@b.example>")
        relays = server.services.router.relays
        assert client.say("RCPT TO:<user@elsewhere.example>").startswith(answer if relays else "550 5.7.1")
