"""The server under the protocols: listening, caps, TLS in the connection's thread, the orderly end."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from mailserver.net.connection import Connection, ShuttingDown
from mailserver.net.limits import SharedLimits, address_group
from mailserver.net.listen import Endpoint, listen
from mailserver.net.server import ServerOptions, StreamServer
from mailserver.net.tls import TlsError, TlsKeeper
from mailserver.ops import metrics

LOCAL = Endpoint("echo", "127.0.0.1", 0)


class Echo(StreamServer):
    protocol = "echo"

    def handle_connection(self, conn: Connection) -> None:
        try:
            while True:
                line = conn.read_line(1000)
                if line == b"fault\n":
                    raise ValueError("a fault")
                if line == b"login\n":
                    conn.mark_authenticated()
                conn.send(line)
        except ShuttingDown:
            conn.send(b"bye\n")

    def refuse(self, reason: str) -> bytes:
        return b"no: " + reason.encode() + b"\n"


def connect(server: StreamServer, name: str = "echo") -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.addresses[name]), timeout=10)


def say(client: socket.socket, line: bytes) -> bytes:
    client.sendall(line)
    return client.recv(1000)


def test_serves_and_says_goodbye(log_lines: list[str]) -> None:
    with Echo(ServerOptions("echo", [LOCAL])) as server:
        with connect(server) as one, connect(server) as two:
            assert say(one, b"hello\n") == b"hello\n"
            assert say(two, b"there\n") == b"there\n"
            assert server.active == 2
            server.stop(5)
            assert one.recv(100) == b"bye\n"
            assert two.recv(100) == b"bye\n"
        assert server.active == 0
        with pytest.raises(OSError, match="refused"):
            connect(server)


def test_starts_again_after_a_stop() -> None:
    server = Echo(ServerOptions("echo", [LOCAL]))
    for _ in range(2):
        server.start()
        with connect(server) as client:
            assert say(client, b"x\n") == b"x\n"
        server.stop()
    server.stop()


def test_all_addresses_of_both_families() -> None:
    with Echo(ServerOptions("echo", [Endpoint("echo", "", 0)])) as server:
        port = server.addresses["echo"]
        for host in ("127.0.0.1", "::1"):
            try:
                client = socket.create_connection((host, port), timeout=10)
            except OSError:
                if host == "::1":
                    pytest.skip("no IPv6 here")
                raise
            with client:
                assert say(client, b"x\n") == b"x\n"


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch()
    with Echo(ServerOptions("echo", [Endpoint("echo", str(path), 0)])), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert say(client, b"x\n") == b"x\n"


def test_a_busy_port_names_itself() -> None:
    with Echo(ServerOptions("echo", [LOCAL])) as server:
        taken = server.addresses["echo"]
        with pytest.raises(OSError, match=f"echo: 127.0.0.1 port {taken}: Address already in use"):
            listen(Endpoint("echo", "127.0.0.1", taken))


def test_unknown_host() -> None:
    with pytest.raises(OSError, match=r"echo: no\.such\.host\.invalid"):
        listen(Endpoint("echo", "no.such.host.invalid", 0))


def test_max_connections_and_refusal(log_lines: list[str]) -> None:
    with Echo(ServerOptions("echo", [LOCAL], max_connections=2)) as server:
        with connect(server) as one, connect(server) as two:
            assert say(one, b"x\n") == say(two, b"x\n")
            with connect(server) as three:
                assert three.recv(100) == b"no: too many connections\n"
        with connect(server) as four:  # permits come back, perhaps a moment after the close
            answer = say(four, b"x\n")
        while answer != b"x\n":
            with connect(server) as four:
                answer = say(four, b"x\n")
    assert any("event=refused" in line for line in log_lines)


def test_the_oldest_that_has_not_logged_in_makes_room() -> None:
    with (
        Echo(ServerOptions("echo", [LOCAL], max_unauthenticated=2)) as server,
        connect(server) as old,
        connect(server) as logged_in,
    ):
        assert say(old, b"x\n") == b"x\n"
        assert say(logged_in, b"login\n") == b"login\n"
        with connect(server) as second, connect(server) as third:
            assert say(second, b"x\n") == b"x\n"
            assert say(third, b"x\n") == b"x\n"
            assert old.recv(100) == b""
            assert say(logged_in, b"x\n") == b"x\n"
            assert say(second, b"x\n") == b"x\n"


def test_login_timeout() -> None:
    with Echo(ServerOptions("echo", [LOCAL], login_timeout=0.1)) as server, connect(server) as client:
        assert client.recv(100) == b""


def test_a_fault_is_logged_and_counted(log_lines: list[str]) -> None:
    before = metrics.FAULTS.value(protocol="echo")
    with Echo(ServerOptions("echo", [LOCAL])) as server, connect(server) as client:
        assert say(client, b"fault\n") == b""
    line = next(line for line in log_lines if "event=fault" in line)
    assert "ValueError: a fault" in line
    assert line.count("\n") == 1
    assert metrics.FAULTS.value(protocol="echo") == before + 1
    assert metrics.ACTIVE.value(protocol="echo") == 0


def test_implicit_tls_does_not_hold_up_the_others(certificate: tuple[Path, Path]) -> None:
    keeper = TlsKeeper(*certificate)
    endpoints = [LOCAL, Endpoint("echos", "127.0.0.1", 0, implicit_tls=True)]
    with (
        Echo(ServerOptions("echo", endpoints, tls=keeper)) as server,
        connect(server, "echos") as silent,
        connect(server, "echos") as client,
    ):
        context = ssl.create_default_context(cafile=str(certificate[0]))
        with context.wrap_socket(client, server_hostname="localhost") as secure:
            assert say(secure, b"x\n") == b"x\n"
        server.stop(0.05)
        assert b"".join(iter(lambda: silent.recv(10), b""))[:1] in (b"", b"\x15")  # at most a TLS alert


def test_tls_reload(tmp_path: Path, certificate: tuple[Path, Path], log_lines: list[str]) -> None:
    chain, key = tmp_path / "c.pem", tmp_path / "k.pem"
    chain.write_bytes(certificate[0].read_bytes())
    key.write_bytes(certificate[1].read_bytes())
    keeper = TlsKeeper(chain, key)
    first = keeper.context
    assert keeper.reload()
    second = keeper.context
    assert second is not first
    chain.write_text("not a certificate")
    assert not keeper.reload()
    assert keeper.context is second
    chain.unlink()
    assert not keeper.reload()
    assert any(str(chain) in line and "No such file" in line for line in log_lines)
    with pytest.raises(TlsError, match=str(chain)):
        TlsKeeper(chain, key)


def test_stop_cuts_off_who_does_not_end() -> None:
    class Deaf(Echo):
        def handle_connection(self, conn: Connection) -> None:
            entered.set()
            conn.send(b"x" * 100_000_000)

    entered = threading.Event()
    with Deaf(ServerOptions("echo", [LOCAL])) as server, connect(server):
        assert entered.wait(5)
        server.stop(0.05)
        assert server.active == 0


def test_limits_over_workers() -> None:
    limits = SharedLimits(2)
    semaphore = limits.semaphore("imap", 3)
    assert limits.semaphore("pop3", 1).acquire()
    assert semaphore.acquire()
    assert semaphore.acquire()
    limits.adopt(1)  # as if this were the other worker
    assert semaphore.acquire()
    assert not semaphore.acquire()
    limits.give_back(0)
    assert semaphore.held == 1
    assert semaphore.acquire()
    semaphore.release()
    semaphore.release()
    semaphore.release()  # one too many does no harm
    assert semaphore.held == 0


def test_the_worker_with_the_fewest_connections_is_first() -> None:
    limits = SharedLimits(workers=3)
    semaphore = limits.semaphore("imap", 100)
    for row, count in ((0, 2), (1, 0), (2, 2)):
        limits.adopt(row)
        for _ in range(count):
            assert semaphore.acquire()
    places = []
    for row in range(3):
        limits.adopt(row)
        places.append(semaphore.lighter)
    assert places == [1, 0, 2]  # of two with the same number the first


def test_limits_by_address() -> None:
    limits = SharedLimits(2)
    assert limits.enter_address("192.0.2.1", 2)
    assert limits.enter_address("192.0.2.1", 2)
    assert not limits.enter_address("192.0.2.1", 2)
    assert limits.enter_address("192.0.2.2", 2)
    assert limits.enter_address("2001:db8::1", 1)
    assert not limits.enter_address("2001:db8::2", 1)  # the same /64
    limits.leave_address("192.0.2.1")
    assert limits.enter_address("192.0.2.1", 2)
    limits.give_back(0)
    assert limits.enter_address("2001:db8::2", 1)
    assert address_group("fe80::1%eth0") == "fe80::"
    assert address_group("not:an:address") == "not:an:address"
