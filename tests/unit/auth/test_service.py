"""Logging in: right, wrong, unknown, throttled; SASL."""

from __future__ import annotations

import base64
import copy
import hashlib
import pickle
from pathlib import Path

import pytest

from mailserver.auth import passwords, sasl
from mailserver.auth.names import NameRules
from mailserver.auth.secret import Secret
from mailserver.auth.service import Authenticator, AuthFailed, AuthRules, AuthUnavailable, Identity, Origin
from mailserver.auth.throttle import LONGEST, Throttle
from mailserver.auth.users import StaticUsers, UserFile

HERE = Origin("imap", "127.0.0.1", "c-1", loopback=True)
AWAY = Origin("imap", "192.0.2.1", "c-2")


@pytest.fixture
def auth() -> Authenticator:
    return Authenticator(StaticUsers({"alice": "secret", "bob": "pa:ß"}))


def test_login(auth: Authenticator, log_lines: list[str]) -> None:
    assert auth.login("Alice", Secret(b"secret"), HERE) == Identity("alice")
    assert auth.login("bob", Secret("pa:ß".encode()), HERE) == Identity("bob")
    assert "event=login conn=c-1 rip=127.0.0.1 proto=auth user=alice" in log_lines[0]
    assert "secret" not in "".join(log_lines)


@pytest.mark.parametrize("user", ["alice", "nobody", "", "../alice", "a\0b", 'x" user=root\r\n', "a" * 5000])
def test_wrong_password_and_unknown_user_look_alike(auth: Authenticator, log_lines: list[str], user: str) -> None:
    with pytest.raises(AuthFailed) as caught:
        auth.login(user, Secret(b"wrong"), HERE)
    assert str(caught.value) == "Authentication failed."
    assert "event=auth-failed conn=c-1 rip=127.0.0.1" in log_lines[0]
    assert len(log_lines[0].splitlines()) == 1


def test_unknown_users_are_hashed_like_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "users"
    field = passwords.hash_new(b"secret")
    path.write_text(f"a:{field}\nb:{field}\nc:{{PLAIN}}x\n")
    auth = Authenticator(UserFile(path))
    seen: list[str] = []
    real = passwords.verify
    monkeypatch.setattr(passwords, "verify", lambda stored, *a, **k: seen.append(stored) or real(stored, *a, **k))
    for user in ("a", "nobody"):
        with pytest.raises(AuthFailed):
            auth.login(user, Secret(b"wrong"), HERE)
    assert seen == [field, field]
    auth.login("a", Secret(b"secret"), HERE)
    auth.login("a", Secret(b"secret"), HERE)  # remembered: not hashed again
    assert len(seen) == 3
    path.write_text("a:{PLAIN}other\n")
    with pytest.raises(AuthFailed):
        auth.login("a", Secret(b"secret"), HERE)
    with pytest.raises(AuthFailed):  # the right password of the sample is nobody's
        auth.login("nobody", Secret(b"other"), HERE)


def test_no_users_at_all() -> None:
    with pytest.raises(AuthFailed):
        Authenticator(StaticUsers({})).login("a", Secret(b"b"), HERE)


def test_no_file_and_damaged_fields(tmp_path: Path, log_lines: list[str]) -> None:
    path = tmp_path / "users"
    auth = Authenticator(UserFile(path))
    with pytest.raises(AuthUnavailable):
        auth.login("a", Secret(b"b"), HERE)
    path.write_text("a:{NOSUCH}b\nweak:{MD5-CRYPT}$1$HPXQBAZj$UIFrdtVTB1Z88nBXQffGz1\n")
    for user in ("a", "weak"):
        with pytest.raises(AuthUnavailable):
            auth.login(user, Secret(b"b"), HERE)
    with pytest.raises(AuthFailed):
        auth.login("nobody", Secret(b"b"), HERE)
    assert any("allow_weak_schemes" in line for line in log_lines)
    weak = Authenticator(UserFile(path), AuthRules(allow_weak_schemes=True))
    assert weak.login("weak", Secret(b"secret"), HERE) == Identity("weak")


def test_allow_nets_and_nologin(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(
        "a:{PLAIN}x::::::allow_nets=192.0.2.0/24,2001:db8::/32\n"
        "b:{PLAIN}x::::::nologin\nc:{PLAIN}x::::::allow_nets=damaged\nd:{PLAIN}x::::::allow_nets=local\n"
    )
    auth = Authenticator(UserFile(path), AuthRules(delay_failures=False))
    assert auth.login("a", Secret(b"x"), AWAY)
    assert auth.login("a", Secret(b"x"), Origin("imap", "2001:db8::5"))
    assert auth.login("d", Secret(b"x"), Origin("imap", "unix"))
    for user, origin in (("a", HERE), ("b", AWAY), ("c", AWAY), ("d", AWAY), ("a", Origin("imap", "unix"))):
        with pytest.raises(AuthFailed):
            auth.login(user, Secret(b"x"), origin)


def test_cleartext_and_exists() -> None:
    auth = Authenticator(StaticUsers({"a": "b"}))
    assert auth.allows_cleartext(tls=True, loopback=False)
    assert auth.allows_cleartext(tls=False, loopback=True)
    assert not auth.allows_cleartext(tls=False, loopback=False)
    assert sasl.offered(auth, tls=False, loopback=False) == []
    assert sasl.offered(auth, tls=True, loopback=False) == ["PLAIN", "LOGIN"]
    assert auth.exists("A")
    assert not auth.exists("nobody")
    assert not auth.exists("../a")


def test_apop() -> None:
    # RFC 1939 section 7, the example
    challenge, digest = "<1896.697170952@dbc.mtview.ca.us>", "c4c9334bac560ecc979e58001b3e22fb"
    auth = Authenticator(StaticUsers({"mrose": "tanstaaf", "empty": ""}))
    assert auth.apop("mrose", digest, challenge, HERE) == Identity("mrose")
    assert auth.apop("mrose", digest.upper(), challenge, HERE) == Identity("mrose")
    none = hashlib.md5(challenge.encode() + b"none").hexdigest()
    for user, wrong in (("mrose", "0" * 32), ("mrose", ""), ("mrose", "ü"), ("nobody", none), ("empty", none)):
        with pytest.raises(AuthFailed):
            auth.apop(user, wrong, challenge, HERE)


def test_an_empty_password_opens_nothing() -> None:
    with pytest.raises(AuthFailed):
        Authenticator(StaticUsers({"a": ""})).login("a", Secret(b""), HERE)


def test_apop_needs_the_password_itself(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("a:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    none = hashlib.md5(b"<x>none").hexdigest()
    with pytest.raises(AuthFailed):
        Authenticator(UserFile(path)).apop("a", none, "<x>", HERE)


# -- throttling


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_throttle_counts_distinct_wrong_passwords() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(100):
        throttle.failed("192.0.2.1", "alice", b"old password")
    assert throttle.delay("192.0.2.1", "alice") == 0
    for number in range(6):
        throttle.failed("192.0.2.1", f"u{number}", b"guess")
    first = throttle.delay("192.0.2.1", "somebody")
    assert 0 < first < LONGEST
    for number in range(100):
        throttle.failed("192.0.2.1", "alice", b"%d" % number)
    assert throttle.delay("192.0.2.1", "somebody") == LONGEST
    assert 0 < throttle.delay("192.0.2.2", "alice") <= 4
    throttle.succeeded("192.0.2.2", "alice")
    assert throttle.delay("192.0.2.2", "alice") == 0  # its owner is let in at once
    assert throttle.delay("127.0.0.1", "alice", loopback=True) == 0
    clock.now += 3600
    assert throttle.delay("192.0.2.1", "alice") == 0
    for number in range(20):
        throttle.failed("192.0.2.1", "alice", b"%d" % number)
    throttle.unblock("192.0.2.1")
    assert throttle.delay("192.0.2.1", "bob") == 0


def test_throttle_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailserver.auth.throttle.REMEMBERED", 50)
    throttle = Throttle()
    for number in range(500):
        throttle.failed(f"2001:db8::{number:x}", "\udcff", b"x" * 1000)
        throttle.succeeded("192.0.2.1", f"u{number}")
    assert len(throttle._seen) == len(throttle._trusted) == 50


def test_a_delayed_login_ends_when_the_server_stops() -> None:
    throttle = Throttle()
    for number in range(100):
        throttle.failed(AWAY.address, "alice", b"%d" % number)
    auth = Authenticator(StaticUsers({"alice": "secret"}), throttle=throttle)
    auth.stop()
    with pytest.raises(AuthUnavailable):
        auth.login("alice", Secret(b"secret"), AWAY)


# -- SASL


def test_plain(auth: Authenticator) -> None:
    for message in (b"\0alice\0secret", b"alice\0alice\0secret", b"ALICE\0alice\0secret"):
        assert sasl.Plain(auth, HERE).step(message) == Identity("alice")
    mechanism = sasl.MECHANISMS["PLAIN"](auth, HERE)
    assert mechanism.step(None) == b""
    assert mechanism.step("\0bob\0pa:ß".encode()) == Identity("bob")
    for message in (b"bob\0alice\0secret", b"../x\0alice\0secret", b"\0alice\0wrong"):
        with pytest.raises(AuthFailed):
            sasl.Plain(auth, HERE).step(message)


@pytest.mark.parametrize("message", [b"", b"\0", b"\0\0", b"a\0b", b"\0alice\0", b"\0a\0b\0c", b"\0\xff\0x"])
def test_plain_syntax(auth: Authenticator, message: bytes) -> None:
    with pytest.raises(sasl.SaslSyntax):
        sasl.Plain(auth, HERE).step(message)


def test_login_mechanism(auth: Authenticator) -> None:
    mechanism = sasl.Login(auth, HERE)
    assert mechanism.step(None) == b"Username:"
    assert mechanism.step(b"alice") == b"Password:"
    assert mechanism.step(b"secret") == Identity("alice")
    mechanism = sasl.Login(auth, HERE)
    assert mechanism.step(b"alice") == b"Password:"  # the name as initial response
    with pytest.raises(AuthFailed):
        mechanism.step(b"wrong")
    with pytest.raises(sasl.SaslSyntax):
        sasl.Login(auth, HERE).step(b"\xff")


def test_base64() -> None:
    assert sasl.decode(b"=") == b""
    assert sasl.decode(b"") == b""
    assert sasl.decode(b"AGFsaWNlAHNlY3JldA==\r\n") == b"\0alice\0secret"
    assert sasl.encode(b"Username:") == base64.b64encode(b"Username:")
    for line in (b"*", b"AA", b"AAA=\0", b"A A=", b"====", b"AAA=AAA=", b"\xff\xff", b"A" * 20_000):
        with pytest.raises(sasl.SaslSyntax):
            sasl.decode(line)


def test_a_secret_does_not_print_itself() -> None:
    secret = Secret(b"hush")
    assert f"{secret} {secret!r} {[secret]}" == "*** *** [***]"
    assert secret == Secret(b"hush")
    assert secret != Secret(b"other")
    assert len({secret, Secret(b"hush")}) == 1
    for leak in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            leak(secret)


def test_names_follow_the_rules() -> None:
    auth = Authenticator(StaticUsers({"a@example.com": "b"}), AuthRules(names=NameRules(default_domain="example.com")))
    assert auth.login("A", Secret(b"b"), HERE) == Identity("a@example.com")
