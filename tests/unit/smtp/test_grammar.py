"""Command lines. Every character class is tried with every octet."""

from __future__ import annotations

import re

import pytest

from mailserver.mail.addrspec import Address, BadAddress, is_host, literal_of, normal_domain, parse
from mailserver.smtp import grammar
from mailserver.smtp.grammar import BadParameter, BadSyntax, Mail, Rcpt

ATEXT = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~."


def test_local_part_with_every_octet() -> None:
    for octet in range(128):
        text = chr(octet)
        if octet in ATEXT:
            assert parse(f"a{text}b@c.example") == Address(f"a{text}b", "c.example")
        elif text != "@":
            with pytest.raises(BadAddress):
                parse(f"a{text}b@c.example")


def test_quoted_local_part_with_every_octet() -> None:
    for octet in range(128):
        text = chr(octet)
        if 32 <= octet < 127 and text not in '"\\':
            assert parse(f'"a{text}b"@c.example').local == f"a{text}b"
        else:
            with pytest.raises(BadAddress):
                parse(f'"a{text}b"@c.example') if text != "\\" else parse('"a\\"@c.example')
        if 32 <= octet < 127:
            address = parse(f'"a\\{text}b"@c.example')
            assert address.local == f"a{text}b"
            assert parse(str(address)) == address


@pytest.mark.parametrize(
    "domain", ["example.com", "a", "x-y.z", "3com.com", "[192.0.2.1]", "[IPv6:2001:db8::1]", "bücher.example", "_a.b"]
)
def test_domains(domain: str) -> None:
    assert parse(f"a@{domain}").domain == domain
    assert is_host(domain)


@pytest.mark.parametrize(
    "domain",
    ["", "-a", "a-", "a..b", ".a", "a b", "[1.2.3]", "[IPv6:x]", "[", "[1.2.3.4", "a_", "a/b", "a,b", "x" * 256],
)
def test_no_domains(domain: str) -> None:
    if domain != "a_":
        with pytest.raises(BadAddress):
            parse(f"a@{domain}")
        assert not is_host(domain)


def test_normal_domain() -> None:
    assert normal_domain("EXAMPLE.com.") == "example.com"
    assert normal_domain("Bücher.example") == "xn--bcher-kva.example"
    assert literal_of("::1") == "[IPv6:::1]"


def test_command() -> None:
    assert grammar.command(b"mail FROM:<a@b>\r\n") == ("MAIL", b"FROM:<a@b>")
    assert grammar.command(b"QUIT  \n") == ("QUIT", b"")
    assert grammar.command(b"\r\n") == ("", b"")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b"FROM:<>", Mail(None)),
        (b"from: <a@b.c>", Mail(Address("a", "b.c"))),
        (b"FROM:a@b.c", Mail(Address("a", "b.c"))),
        (b"FROM:<@x,@y:a@b.c>", Mail(Address("a", "b.c"))),
        (b'FROM:<"a>b"@b.c> SIZE=3', Mail(Address("a>b", "b.c"), size=3)),
        (b"FROM:<a@b.c> body=8bitmime SMTPUTF8", Mail(Address("a", "b.c"), body="8BITMIME", smtputf8=True)),
        (b"FROM:<> AUTH=<>", Mail(None, auth="<>")),
        (b"FROM:<> RET=hdrs ENVID=a+2Bb", Mail(None, ret="HDRS", envid="a+b")),
    ],
)
def test_mail(line: bytes, wanted: Mail) -> None:
    assert grammar.mail(line) == wanted


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"FROM",
        b"FROM:",
        b"TO:<a@b>",
        b"FROM:<a@b>SIZE=1",
        b"FROM:<> SIZE=",
        b"FROM:<> SIZE=-1",
        b"FROM:<\xff@b>",
        b"FROM:<> SIZE=1 SIZE=1",
        b"FROM:<> SMTPUTF8=1",
        b"FROM:<> RET=x",
        b"FROM:<> ENVID=a+zz",
        b"FROM:<> ==",
        b"FROM:\0",
    ],
)
def test_mail_bad(line: bytes) -> None:
    with pytest.raises((BadSyntax, BadAddress)):
        grammar.mail(line)


def test_unknown_parameter() -> None:
    with pytest.raises(BadParameter):
        grammar.mail(b"FROM:<> FOO=bar")
    with pytest.raises(BadParameter):
        grammar.rcpt(b"TO:<a@b> SIZE=1")
    with pytest.raises(BadParameter):
        grammar.mail(b"FROM:<> BODY=16BIT")


def test_later_parameters() -> None:
    found = grammar.mail(b"FROM:<> BODY=binarymime REQUIRETLS BY=-5;nt MT-PRIORITY=-9 HOLDFOR=60")
    assert (found.body, found.requiretls, found.by) == ("BINARYMIME", True, grammar.By(-5, "N", True))
    assert (found.mt_priority, found.holdfor) == (-9, 60)
    assert found.given == ("BODY", "REQUIRETLS", "BY", "MT-PRIORITY", "HOLDFOR")
    assert grammar.mail(b"FROM:<> HOLDUNTIL=1970-01-02T01:00:00+01:00").holduntil == 86400
    assert grammar.mail(b"FROM:<> HOLDUNTIL=1970-01-02t00:00:00z BY=9;R").holduntil == 86400


@pytest.mark.parametrize(
    "words",
    [
        *("BY", "BY=", "BY=1", "BY=1;X", "BY=0;R", "BY=-1;R", "BY=1;RR", "BY=1234567890;N", "BY=1;R;T"),
        *("HOLDFOR=-1", "HOLDFOR=1234567890", "HOLDFOR", "HOLDUNTIL=tomorrow", "HOLDUNTIL=2026-13-01T00:00:00Z"),
        *("HOLDUNTIL=2026-01-01", "HOLDFOR=1 HOLDUNTIL=2030-01-01T00:00:00Z", "MT-PRIORITY=10", "MT-PRIORITY=+1"),
        *("MT-PRIORITY=-0", "MT-PRIORITY", "REQUIRETLS=1", "BY=1;R BY=2;R"),
    ],
)
def test_later_parameters_bad(words: str) -> None:
    with pytest.raises(BadSyntax):
        grammar.mail(f"FROM:<> {words}".encode())


def test_rcpt() -> None:
    line = b"TO:<a@b> NOTIFY=success,FAILURE ORCPT=rfc822;Bob+40x"
    assert grammar.rcpt(line) == Rcpt(Address("a", "b"), "SUCCESS,FAILURE", "rfc822;Bob@x")
    assert grammar.rcpt(b"TO:<a@b> NOTIFY=NEVER").notify == "NEVER"
    for bad in (
        b"TO:<>",
        b"TO:<a@b> NOTIFY=",
        b"TO:<a@b> NOTIFY=NEVER,DELAY",
        b"TO:<a@b> ORCPT=x",
        b"TO:<a@b> ORCPT=x;+",
    ):
        with pytest.raises((BadSyntax, BadAddress)):
            grammar.rcpt(bad)


def test_chunk() -> None:
    assert grammar.chunk(b"5 last") == grammar.Chunk(5, True)
    assert grammar.chunk(b"0") == grammar.Chunk(0, False)
    for bad in (b"", b"x", b"-1", b"5 FIRST", b"5 LAST x", b"5" * 30):
        with pytest.raises(BadSyntax):
            grammar.chunk(bad)


def test_xtext_both_ways() -> None:
    for octet in range(128):
        text = f"a{chr(octet)}b"
        coded = grammar.to_xtext(text)
        assert re.fullmatch(r"[!-~]+", coded)
        assert grammar.from_xtext(coded) == text
