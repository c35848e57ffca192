"""The program: ports, the library, workers, signals, HTTP. An echo takes the place of the protocols."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailserver
from mailserver import app as app_module
from mailserver.app import App
from mailserver.config.load import parse
from mailserver.config.schema import HttpConfig, Listener
from mailserver.ops.http import HttpServer
from mailserver.services import Services
from tests.unit import echo_server

QUIET = "".join(f"[{name}]\nhost = '127.0.0.1'\nport = 0\nssl_port = -1\n" for name in echo_server.SERVERS)


@pytest.fixture(autouse=True)
def _echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "SERVERS", echo_server.SERVERS)


def say(port: int, line: bytes = b"x\n") -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(line)
        return client.recv(100)


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def test_app_in_this_process() -> None:
    with App(parse(QUIET.encode()), users={"a": "b"}) as app:
        assert set(app.ports) == {"imap", "pop3", "smtp", "submission", "lmtp", "http"}
        assert say(app.ports["imap"]) == b"x\n"
        assert say(app.ports["lmtp"]) == b"x\n"
        text = get(app.ports["http"], "/metrics")
        assert f'mailserver_build_info{{version="{mailserver.__version__}"}} 1.0' in text
        assert "mailserver_connections_total" in text
        assert any(str(line).startswith("listening: imap on 127.0.0.1 port ") for line in app.listening)


def test_only_what_is_named() -> None:
    with App(parse(QUIET.encode()), ["pop3"], users={}) as app:
        assert set(app.ports) == {"pop3", "http"}


def test_tls_ports(certificate: tuple[Path, Path]) -> None:
    text = f"[tls]\ncertificate='{certificate[0]}'\nprivate_key='{certificate[1]}'\n[imap]\nport=-1\nssl_port=0\n"
    text += "[http]\nport=-1\n[pop3]\nport=0\nssl_port=0\nenable_ssl=false\n"
    with App(parse(text.encode()), ["imap", "pop3"], users={}) as app:
        assert set(app.ports) == {"imaps", "pop3"}
        app.reload()


def test_library_use(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    config = Listener(
        port=0,
        ssl_port=0,
        mailbox_path=str(tmp_path),
        users={"a": "b"},
        certificate=str(certificate[0]),
        private_key=str(certificate[1]),
    )
    kind = echo_server.ImapServer
    with kind(config) as server:
        assert say(server.port) == b"x\n"
        assert server.ssl_port > 0
        assert server.services.authenticator.exists("a")
        assert server.services.settings.storage.mailbox_path == str(tmp_path)
    with kind() as server:
        assert server.ssl_port == -1
        assert server.services.settings.hostname


def test_two_servers_share_services() -> None:
    services = Services(users={})
    with echo_server.ImapServer(services=services) as one, echo_server.Pop3Server(services=services) as two:
        assert say(one.port) == say(two.port)
    services.close()


def test_names_of_the_library() -> None:
    assert mailserver.ImapConfig().port == 143
    assert mailserver.Settings().imap.port == 143
    assert mailserver.Services is Services
    with pytest.raises(AttributeError):
        mailserver.nothing  # noqa: B018  # the access is the test


# -- HTTP


@pytest.fixture
def http() -> Iterator[int]:
    with HttpServer(HttpConfig(port=0)) as server:
        yield server.port


def test_http(http: int) -> None:
    assert get(http, "/healthz") == "ok\n"
    assert get(http, "/healthz?x") == "ok\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(http, "/")


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405"),
        (b"HEAD /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 200"),
        (b"\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET\r\n\r\n", b"HTTP/1.1 400"),
        (b"\xff\xff\xff /\x00 HTTP/1.1\r\n\r\n", b"HTTP/1.1 405"),
        (b"GET " + b"/" * 20_000 + b"\r\n", b"HTTP/1.1 400"),
        (b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 1000, b"HTTP/1.1 200"),
    ],
)
def test_http_takes_anything(http: int, request_text: bytes, answer: bytes) -> None:
    with socket.create_connection(("127.0.0.1", http), timeout=10) as client:
        client.sendall(request_text)
        got = b"".join(iter(lambda: client.recv(1000), b""))
    assert got.startswith(answer)


# -- as a program

PROGRAM = (
    "from mailserver import app; from tests.unit.echo_server import SERVERS; app.SERVERS = SERVERS\n"
    "from mailserver.__main__ import main; raise SystemExit(main())"
)


class Program:
    def __init__(self, folder: Path, extra: str = "", users: str = "a:{PLAIN}b\n") -> None:
        self.file = folder / "m.toml"
        self.file.write_text(f"[storage]\nmailbox_path='{folder}/mail'\n{QUIET}{extra}")
        (folder / "users").write_text(users)
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--config", str(self.file), "--ready-fd", str(writer)],
            pass_fds=[writer],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        os.close(writer)
        with os.fdopen(reader) as ready:
            self.ports = json.loads(ready.read() or "{}")

    def end(self, signo: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(signo)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.mark.parametrize("workers", [1, 2])
def test_program(tmp_path: Path, workers: int) -> None:
    program = Program(tmp_path, f"[server]\nworkers = {workers}\n")
    try:
        ports = program.ports
        with socket.create_connection(("127.0.0.1", ports["imap"]), timeout=10) as client:
            client.sendall(b"x\n")
            assert client.recv(10) == b"x\n"
            for _ in range(4):
                assert say(ports["pop3"]) == b"x\n"
            counted = re.search(r'connections_total\{protocol="echo"\} (\d+)', get(ports["http"], "/metrics"))
            assert counted is not None
            assert counted[1] == "5"  # over all workers
            program.process.send_signal(signal.SIGHUP)
            status, out, err = program.end()
            assert client.recv(10) == b"bye\n"
    finally:
        program.process.kill()
        program.process.wait()
    assert status == 0
    assert sorted(line.split()[1] for line in out.splitlines()) == sorted(ports)
    assert "Traceback" not in err
    assert "event=no-tls" in err


def run(*words: str, **kinds: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
        check=False,
        **kinds,  # type: ignore[call-overload]  # cwd and friends
    )


def test_a_busy_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        program = Program(tmp_path, "")
        program.end()
        port = busy.getsockname()[1]
        program.file.write_text(program.file.read_text().replace("port = 0", f"port = {port}", 1))
        done = run("--config", str(program.file))
    assert done.returncode == os.EX_UNAVAILABLE
    assert done.stderr.splitlines()[-1] == (
        f"mailserver: imap: 127.0.0.1 port {port}: Address already in use; is another mail server running?"
    )
    assert "Traceback" not in done.stderr


def test_start_errors_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    mail = f"[storage]\nmailbox_path='{tmp_path}'\n"
    users = "[auth]\nusers_file='m.toml'\n"
    cases = [
        (QUIET + mail, os.EX_NOINPUT, "users: no such file; `python -m mailserver user add NAME` makes it"),
        ("[imap]\nport = 'x'\n[pop3]\nprot = 1\n", os.EX_CONFIG, "pop3.prot: unknown name; did you mean port?"),
        (f"{QUIET}{mail}{users}[tls]\ncertificate='nosuch'\nprivate_key='x'\n", os.EX_NOINPUT, "nosuch: No such file"),
        (f"{QUIET}{mail}{users}[server]\nuser='nosuchuser'\n", os.EX_NOUSER, "nosuchuser: no such user"),
    ]
    for text, status, message in cases:
        file.write_text(text)
        done = run("--config", str(file))
        assert done.returncode == status, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert run("--config", str(tmp_path / "none")).returncode == os.EX_NOINPUT
