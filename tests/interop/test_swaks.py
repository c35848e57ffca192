"""swaks, the SMTP test client: messages of the corpus, read back octet for octet; then every feature it can ask for.

It cannot say parameters of MAIL and RCPT: they are smuggled into the address, and a value that may end with ">" takes
the bracket that it puts behind (``<a@b> BODY=8BITMIME ENVID=>``).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.messages import CORPUS
from tests.unit.delivery.peers import Sink
from tests.unit.delivery.test_queue import relaying, spool_of
from tests.unit.smtp.serving import Server, bodies, messages, serving

SWAKS = shutil.which("swaks")
pytestmark = pytest.mark.skipif(SWAKS is None, reason="swaks is not installed")


def swaks(server: Server, *words: str, check: bool = True) -> str:
    command = [str(SWAKS), "--server", "127.0.0.1", "--port", str(server.port), "--helo", "swaks.example", *words]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    text = done.stdout.decode("utf-8", "replace")
    assert not check or done.returncode == 0, text
    return text


def test_corpus(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        wanted = []
        for path in sorted(CORPUS.glob("*.eml"))[::4]:
            octets = path.read_bytes()
            if not octets.isascii() or b"\0" in octets or b"eturn-" in octets:
                continue  # swaks re-encodes these itself
            swaks(server, "--from", "a@far.example", "--to", "alice@example.com", "--data", f"@{path}")
            text = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            wanted.append(text if text.endswith(b"\r\n") else text + b"\r\n")
        found = bodies(server)
    assert len(wanted) > 5
    assert [one.rstrip(b"\r\n") for one in found] == [one.rstrip(b"\r\n") for one in wanted]


def test_submission_with_login(tmp_path: Path) -> None:
    with serving(tmp_path, "submission") as server:
        words = ["--from", "alice@example.com", "--to", "bob@example.com", "--auth-user", "alice"]
        for mechanism in ("PLAIN", "LOGIN"):
            swaks(server, *words, "--auth", mechanism, "--auth-password", "secret")
        said = swaks(server, *words, "--auth", "PLAIN", "--auth-password", "wrong", check=False)
        assert "535 5.7.8" in said
        assert len(bodies(server, "bob")) == 2


def test_lmtp_and_pipelining(tmp_path: Path) -> None:
    with serving(tmp_path, "lmtp") as server:
        swaks(server, "--protocol", "LMTP", "--from", "a@far.example", "--to", "alice,bob@example.com")
        assert len(bodies(server)) == len(bodies(server, "bob")) == 1
    with serving(tmp_path) as server:
        swaks(server, "--pipeline", "--from", "a@far.example", "--to", "alice@example.com,bob@example.com")
        assert len(bodies(server)) == 2


ALICE = ["--auth-user", "alice", "--auth-password", "secret", "--auth", "PLAIN"]


@pytest.mark.parametrize("implicit", [False, True])
def test_tls(tmp_path: Path, certificate: tuple[Path, Path], implicit: bool) -> None:
    with serving(tmp_path, "submission", certificate, ssl_port=0) as server:
        how = ["--tls-on-connect", "--port", str(server.ssl_port)] if implicit else ["--tls"]
        said = swaks(server, *how, *ALICE, "--from", "alice@example.com", "--to", "bob@example.com")
        assert "TLS started" in said
        assert b"with ESMTPSA" in messages(server, "bob")[0]


def test_lmtp_over_a_unix_socket(tmp_path: Path) -> None:
    place = tmp_path / "lmtp"
    with serving(tmp_path, "lmtp", host=str(place)):
        command = [str(SWAKS), "--socket", str(place), "--protocol", "LMTP", "--helo", "swaks.example"]
        names = ["--from", "a@far.example", "--to", "alice@example.com,nobody@example.com"]
        done = subprocess.run([*command, *names], capture_output=True, timeout=60, check=False, text=True)
    assert "550 5.1.1" in done.stdout
    assert "250 2.0.0 OK" in done.stdout


@pytest.mark.parametrize(
    ("parameters", "passed_on"),
    [
        ("BODY=8BITMIME RET=HDRS ENVID=", "BODY=8BITMIME RET=HDRS ENVID=>"),
        ("SMTPUTF8 ENVID=", "ENVID=>"),
        ("BY=600;N ENVID=", "BY="),
        ("MT-PRIORITY=3 ENVID=", "MT-PRIORITY=3"),
        ("SIZE=1000 ENVID=", "ENVID="),
    ],
)
def test_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: str, passed_on: str) -> None:
    with Sink() as sink:
        sink.script.keywords = ["8BITMIME", "DSN", "DELIVERBY", "MT-PRIORITY", "SMTPUTF8", "PIPELINING"]
        with relaying(tmp_path, sink, monkeypatch) as server:
            swaks(
                server, "--from", f"a@near.example> {parameters}", "--to", "b@far.example> NOTIFY=NEVER ORCPT=rfc822;x"
            )
            (got,) = sink.wait(1)
    assert passed_on in got.mail
    assert "NOTIFY=NEVER ORCPT=rfc822;x>" in got.rcpts[0]


def test_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch, kind="submission") as server:
        swaks(server, *ALICE, "--from", "alice@example.com> HOLDFOR=1000 ENVID=", "--to", "b@far.example")
        (waiting,) = spool_of(server).all()
        assert waiting.envelope.release > waiting.created + 900
        assert not sink.got


def test_requiretls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with serving(tmp_path, certificate=certificate) as server:
        names = ["--from", "a@far.example> REQUIRETLS AUTH=<", "--to", "alice@example.com"]
        assert "555 5.5.4" in swaks(server, *names, check=False)
        assert "250-REQUIRETLS" in swaks(server, "--tls", *names)
        assert len(messages(server)) == 1


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["--from", "a@b.example> SIZE=99999999999 ENVID=", "--to", "alice@example.com"], "552 5.3.4"),
        (["--from", "a@b.example", "--to", "user@elsewhere.example"], "550 5.7.1"),
        (["--from", "a@b.example", "--to", "nobody@example.com"], "550 5.1.1"),
        (["--from", "a@b.example", "--to", "alice@example.com", *ALICE[:2], "--auth-password", "x"], "535 5.7.8"),
    ],
)
def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], reply: str) -> None:
    with Sink() as sink, relaying(tmp_path, sink, monkeypatch, own={"trusted_networks": ()}) as server:
        assert reply in swaks(server, *words, check=False)
