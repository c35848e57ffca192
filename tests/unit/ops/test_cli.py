"""The commands: users, check-config, and how they fail."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest

from mailserver.__main__ import main
from mailserver.ops.cli.failure import explain, port_failure


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "m.toml"
    path.write_text(f"[auth]\nusers_file = 'users'\n[storage]\nmailbox_path = '{tmp_path}/mail'\n")
    return str(path)


def type_in(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))


def test_users(config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    type_in(monkeypatch, b"secret\n")
    assert main(["user", "add", "Alice", "--password-stdin", "--config", config]) == 0
    type_in(monkeypatch, b"other")
    assert main(["user", "passwd", "alice", "--password-stdin", "--config", config, "--json"]) == 0
    capsys.readouterr()
    assert main(["user", "list", "--config", config]) == 0
    assert capsys.readouterr().out == "alice\tARGON2ID\n"
    assert main(["user", "list", "--json", "--config", config]) == 0
    assert json.loads(capsys.readouterr().out) == [{"user": "alice", "scheme": "ARGON2ID"}]
    type_in(monkeypatch, b"secret\n")
    assert main(["user", "add", "alice", "--password-stdin", "--config", config]) == os.EX_DATAERR
    assert "exists already" in capsys.readouterr().err
    assert main(["user", "delete", "alice", "--config", config]) == 0
    assert main(["user", "delete", "alice", "--config", config]) == os.EX_NOUSER
    for bad in (b"", b"\n", b"x" * 2000, b"a\0b"):
        type_in(monkeypatch, bad)
        assert main(["user", "add", "bob", "--password-stdin", "--config", config]) == os.EX_DATAERR
    type_in(monkeypatch, b"secret\n")
    assert main(["user", "add", "../bob", "--password-stdin", "--config", config]) == os.EX_DATAERR
    assert "Traceback" not in capsys.readouterr().err


def test_prompt(config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter(["one", "two", "same", "same"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert main(["user", "add", "bob", "--config", config]) == os.EX_DATAERR
    assert "differ" in capsys.readouterr().err
    assert main(["user", "add", "bob", "--config", config]) == 0


def test_list_without_a_file(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["user", "list", "--config", config]) == os.EX_NOINPUT
    assert "users: No such file" in capsys.readouterr().err


def test_check_config(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "--config", config]) == os.EX_CONFIG
    assert "auth.users_file" in capsys.readouterr().err
    (tmp_path / "users").touch()
    assert main(["check-config", "--config", config]) == 0
    assert "no errors" in capsys.readouterr().out
    Path(config).write_text("[imap]\nprt = 1\nhost = 1\n")
    assert main(["check-config", "--json", "--config", config]) == os.EX_CONFIG
    assert len(json.loads(capsys.readouterr().out)["errors"]) == 2
    assert main(["check-config", "--config", str(tmp_path / "none")]) == os.EX_NOINPUT
    assert main(["check-config", "--config", str(tmp_path)]) == os.EX_OSERR


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["nosuch"], ["--nosuch"], ["user"], ["user", "nosuch"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == os.EX_USAGE
    for words in (["--version"], ["--help"], ["user", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
    assert "check-config" in capsys.readouterr().out


def test_permissions_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.touch(0o600)
    failure = explain(PermissionError(errno.EACCES, "Permission denied"), path)
    assert failure.status == os.EX_NOPERM
    assert f"{path} belongs to" in str(failure)
    assert "mode 0600" in str(failure)
    assert "needs the right to read" in str(failure)
    gone = explain(PermissionError(errno.EACCES, "Permission denied"), "/nosuch/x")
    assert gone.status == os.EX_NOPERM
    assert explain(OSError(errno.EIO, "Input/output error"), path).status == os.EX_OSERR


def test_ports_are_explained() -> None:
    assert "CAP_NET_BIND_SERVICE" in str(port_failure(PermissionError(errno.EACCES, "imap: port 143: no")))
    assert port_failure(OSError(errno.EADDRINUSE, "x")).status == os.EX_UNAVAILABLE
    assert port_failure(OSError(errno.EADDRNOTAVAIL, "x")).status == os.EX_OSERR


def test_a_fault_is_one_line(config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailserver.ops.cli.user.settings_of", lambda arguments: 1 / 0)
    assert main(["user", "list", "--config", config]) == os.EX_SOFTWARE
    assert "internal fault" in capsys.readouterr().err
