"""swaks, the SMTP test client: every message of the corpus, read back octet for octet from the store."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.messages import CORPUS
from tests.unit.smtp.serving import Server, bodies, serving

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
