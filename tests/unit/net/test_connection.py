"""The connection: its buffer, its deadlines, TLS, waiting."""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.net import connection
from mailserver.net.connection import Connection, ConnectionLost, LineTooLong, ShuttingDown, TimedOut
from mailserver.net.tls import server_context
from mailserver.net.waiter import Waiter, Wake, Waker

Pair = tuple[Connection, socket.socket]


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    waiter = Waiter()
    yield waiter
    waiter.close()


@pytest.fixture
def pair(waiter: Waiter) -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=10)
        accepted, _ = listener.accept()
    conn = Connection(accepted, waiter=waiter, timeout=5)
    yield conn, client
    conn.close()
    client.close()


def test_addresses_and_ids(pair: Pair) -> None:
    conn, client = pair
    assert conn.peer == client.getsockname()
    assert conn.local == client.getpeername()
    assert conn.is_loopback
    assert not conn.tls
    assert "-" in conn.id


def test_lines_whole_and_in_pieces(pair: Pair) -> None:
    conn, client = pair
    client.sendall(b"one\r\ntwo\nthr")
    assert conn.read_line(100) == b"one\r\n"
    assert conn.read_line(100) == b"two\n"
    assert conn.buffered == 3
    for octet in b"ee\r\nrest":
        client.sendall(bytes([octet]))
    assert conn.read_line(100) == b"three\r\n"
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionLost):
        conn.read_line(100)


def test_receive_gives_what_is_buffered_first(pair: Pair) -> None:
    conn, client = pair
    client.sendall(b"a\nbc")
    assert conn.read_line(10) == b"a\n"
    assert conn.receive() == b"bc"
    client.sendall(b"d")
    assert conn.receive() == b"d"


def test_push_back(pair: Pair) -> None:
    conn, client = pair
    client.sendall(b"a\nb\n")
    assert conn.read_line(10) == b"a\n"
    conn.push_back(b"x\ny")
    conn.push_back(b"")
    assert conn.read_line(10) == b"x\n"
    assert conn.read_line(10) == b"yb\n"
    assert conn.buffered == 0


@pytest.mark.parametrize("length", [9, 10, 11])
def test_line_limit_at_its_edge(pair: Pair, length: int) -> None:
    conn, client = pair
    line = b"x" * (length - 1) + b"\n"
    client.sendall(line + b"next\n")
    if length <= 10:
        assert conn.read_line(10) == line
    else:
        with pytest.raises(LineTooLong):
            conn.read_line(10)
    assert conn.read_line(10) == b"next\n"


def test_long_line_in_pieces_is_skipped(pair: Pair) -> None:
    conn, client = pair
    sender = threading.Thread(target=client.sendall, args=(b"x" * 1_000_000 + b"\nnext\n",))
    sender.start()
    with pytest.raises(LineTooLong):
        conn.read_line(1000)
    assert conn.read_line(10) == b"next\n"
    sender.join()


def test_endless_line_ends_the_connection(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    conn, client = pair
    monkeypatch.setattr(connection, "MAX_SKIPPED", 100_000)
    client.settimeout(0.5)

    def pour() -> None:
        try:
            while True:
                client.sendall(b"x" * 65536)
        except OSError:
            return

    with ThreadPoolExecutor(1) as pool:
        pool.submit(pour)
        with pytest.raises(ConnectionLost):
            conn.read_line(1000)
        conn.close()


def test_receive_times_out(pair: Pair) -> None:
    conn, client = pair
    conn.timeout = 0.05
    with pytest.raises(TimedOut):
        conn.receive()
    client.sendall(b"later\n")  # and is usable afterwards
    assert conn.read_line(10) == b"later\n"


def test_a_trickled_line_times_out(pair: Pair) -> None:
    conn, client = pair
    conn.timeout = 0.2
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.05):
            client.sendall(b"x")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(trickle)
        with pytest.raises(TimedOut):
            conn.read_line(1000)
        stop.set()


def test_login_deadline_holds_over_lines(pair: Pair) -> None:
    conn, client = pair
    conn.set_login_deadline(0.2)
    begin = time.monotonic()
    with pytest.raises(TimedOut):  # noqa: PT012  # the loop is the test: each line comes in time, all together do not
        while time.monotonic() < begin + 5:
            client.sendall(b"NOOP\r\n")
            conn.read_line(100)
            time.sleep(0.02)
    conn.mark_authenticated()
    client.sendall(b"x\n")
    while conn.read_line(100) != b"x\n":
        pass
    assert conn.timeout == 5


def test_send_to_one_who_does_not_read_times_out(pair: Pair) -> None:
    conn, _ = pair
    conn.timeout = 0.1
    with pytest.raises(TimedOut):
        conn.send(b"x" * 50_000_000)


def test_send_after_the_end(pair: Pair) -> None:
    conn, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(ConnectionLost):  # noqa: PT012  # the first send may still find the buffer
        for _ in range(100):
            conn.send(b"x" * 10_000)
    assert conn.lost


@pytest.mark.parametrize("secure", [False, True])
def test_send_in_all_ways(pair: Pair, certificate: tuple[Path, Path], secure: bool) -> None:
    conn, client = pair
    big = os.urandom(3_000_000)
    with tempfile.TemporaryFile() as file, ThreadPoolExecutor(1) as pool:
        file.write(big)
        file.flush()
        if secure:
            client = _secured(pool, conn, client, certificate)

        def answer() -> None:
            conn.send(b"head ", more=True)
            conn.send_file(file.fileno(), 1_000_000, 2_000_000)
            conn.send_many([b"a", b"bc", memoryview(big)])  # type: ignore[list-item]
            conn.send_many([b"d"] * 2000)
            conn.send_many([])
            conn.send(bytearray(b"end"))
            conn.close()

        task = pool.submit(answer)
        got = b"".join(iter(lambda: client.recv(1 << 20), b""))
        task.result()
    assert got == b"head " + big[1_000_000:] + b"abc" + big + b"d" * 2000 + b"end"
    client.close()


def test_a_file_shorter_than_promised_loses_the_connection(pair: Pair) -> None:
    conn, _ = pair
    with tempfile.TemporaryFile() as file:
        file.write(b"short")
        file.flush()
        with pytest.raises(ConnectionLost):
            conn.send_file(file.fileno(), 0, 10)


def _secured(
    pool: ThreadPoolExecutor, conn: Connection, client: socket.socket, certificate: tuple[Path, Path]
) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    task = pool.submit(conn.start_tls, server_context(*certificate))
    wrapped = context.wrap_socket(client, server_hostname="localhost")
    task.result()
    return wrapped


def test_tls(pair: Pair, certificate: tuple[Path, Path]) -> None:
    conn, client = pair
    with ThreadPoolExecutor(1) as pool:
        wrapped = _secured(pool, conn, client, certificate)
    assert conn.tls
    assert conn.tls_version == "TLSv1.3"
    assert conn.cipher
    wrapped.sendall(b"a" * 40_000 + b"\nb\nc")
    assert conn.read_line(100_000) == b"a" * 40_000 + b"\n"
    assert conn.read_line(10) == b"b\n"
    assert conn.receive() == b"c"
    conn.timeout = 0.05
    with pytest.raises(TimedOut):
        conn.receive()
    wrapped.sendall(b"still\n")
    assert conn.read_line(10) == b"still\n"
    conn.close()
    assert wrapped.recv(10) == b""  # the end was announced: no SSLEOFError
    wrapped.close()


def test_octets_in_clear_behind_starttls_hang_up(pair: Pair, certificate: tuple[Path, Path]) -> None:
    conn, client = pair
    client.sendall(b"STLS\r\nDELE 1\r\n")
    assert conn.read_line(100) == b"STLS\r\n"
    with pytest.raises(ConnectionLost):
        conn.start_tls(server_context(*certificate))


def test_handshake_has_a_deadline(pair: Pair, certificate: tuple[Path, Path]) -> None:
    conn, _ = pair
    conn.handshake_timeout = 0.05
    with pytest.raises(TimedOut):
        conn.start_tls(server_context(*certificate))


def test_garbage_for_a_handshake(pair: Pair, certificate: tuple[Path, Path]) -> None:
    conn, client = pair
    client.sendall(b"A001 LOGIN me secret\r\n" * 10)
    with pytest.raises(ConnectionLost):
        conn.start_tls(server_context(*certificate))


def test_wait(pair: Pair) -> None:
    conn, client = pair
    waker = Waker()
    assert conn.wait(0.01, waker) is Wake.TIMEOUT
    waker.wake()
    waker.wake()
    assert conn.wait(5, waker) is Wake.WOKEN
    assert conn.wait(0.01, waker) is Wake.TIMEOUT
    client.sendall(b"one\n")
    assert conn.wait(5, waker) is Wake.READABLE
    assert conn.read_line(10) == b"one\n"
    assert conn.wait(0.01, waker) is Wake.TIMEOUT  # a stale readiness is not reported
    client.sendall(b"two\nthree\n")
    assert conn.wait(5, waker) is Wake.READABLE
    assert conn.read_line(10) == b"two\n"
    assert conn.wait(5, waker) is Wake.READABLE  # from the buffer
    assert conn.read_line(10) == b"three\n"
    client.close()
    assert conn.wait(5, waker) is Wake.READABLE
    with pytest.raises(ConnectionLost):
        conn.receive()


def test_many_wakes_from_another_thread(pair: Pair) -> None:
    conn, client = pair
    waker = Waker()
    done = threading.Event()

    def waking() -> None:
        while not done.is_set():
            waker.wake()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(waking)
        for _ in range(200):
            assert conn.wait(5, waker) is Wake.WOKEN
        done.set()
    client.sendall(b"x")
    assert conn.wait(5, waker) in (Wake.READABLE, Wake.WOKEN)
    assert conn.receive() == b"x"


def test_wait_looks_at_what_tls_holds(pair: Pair, certificate: tuple[Path, Path]) -> None:
    conn, client = pair
    with ThreadPoolExecutor(1) as pool:
        wrapped = _secured(pool, conn, client, certificate)
    wrapped.sendall(b"x" * 70_000)
    total = 0
    while total < 70_000:
        assert conn.wait(5, Waker()) is Wake.READABLE
        total += len(conn.receive())
    wrapped.close()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("waiting", [False, True])
def test_shut_down_leaves_the_way_out_open(
    pair: Pair, certificate: tuple[Path, Path], secure: bool, waiting: bool
) -> None:
    conn, client = pair
    with ThreadPoolExecutor(1) as pool:
        if secure:
            client = _secured(pool, conn, client, certificate)

        def session() -> None:
            if waiting:
                assert conn.wait(5, Waker()) is Wake.READABLE
            try:
                conn.receive()
            except ShuttingDown:
                conn.send(b"* BYE\r\n")
                conn.close()

        task = pool.submit(session)
        time.sleep(0.02)
        conn.shut_down()
        task.result(5)
    assert client.recv(100) == b"* BYE\r\n"
    assert client.recv(100) == b""
    client.close()


def test_the_last_answer_arrives_although_octets_are_unread(pair: Pair) -> None:
    conn, client = pair
    client.sendall(b"x" * 100_000)
    conn.receive()
    conn.send(b"* BYE\r\n")
    conn.close()
    assert client.recv(100) == b"* BYE\r\n"


def test_waiter_serves_other_descriptors(waiter: Waiter) -> None:
    reader, writer = os.pipe()
    came = threading.Event()
    got: list[bytes] = []

    def callback() -> None:
        got.append(os.read(reader, 10))
        came.set()
        raise ValueError("a fault in a callback does not end the thread")

    waiter.watch(reader, callback)
    for text in (b"one", b"two"):
        came.clear()
        os.write(writer, text)
        assert came.wait(5)
    waiter.unwatch(reader)
    os.write(writer, b"three")
    assert got == [b"one", b"two"]
    os.close(reader)
    os.close(writer)


@settings(max_examples=40, deadline=None)
@given(
    octets=st.binary(max_size=200).map(lambda b: b.replace(b"a", b"\n")),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    limit=st.integers(1, 30),
)
def test_lines_are_the_same_however_the_octets_are_split(octets: bytes, cuts: list[int], limit: int) -> None:
    ours, theirs = socket.socketpair()
    conn = Connection(ours, timeout=5)
    bounds = sorted({0, len(octets), *(cut for cut in cuts if cut < len(octets))})
    expected = [line if len(line) <= limit else None for line in octets.split(b"\n")[:-1] for line in [line + b"\n"]]
    found: list[bytes | None] = []
    pieces = [octets[a:b] for a, b in itertools.pairwise(bounds)]
    sent = b""
    for piece in pieces:
        theirs.sendall(piece)
        sent += piece
        while len(found) < sent.count(b"\n"):
            try:
                found.append(conn.read_line(limit))
            except LineTooLong:
                found.append(None)
    theirs.close()
    assert found == expected
    with pytest.raises(ConnectionLost):
        conn.read_line(limit)
    conn.close()


def test_many_sessions_wait_in_one_epoll(waiter: Waiter) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pairs = [socket.socketpair() for _ in range(100)]
    conns = [Connection(ours, waiter=waiter) for ours, _ in pairs]
    with ThreadPoolExecutor(100) as pool:
        tasks = [pool.submit(conn.wait, 10, Waker()) for conn in conns]
        for _, theirs in reversed(pairs):
            theirs.sendall(b"x")
        assert all(task.result() is Wake.READABLE for task in tasks)
    assert len(os.listdir("/proc/self/fd")) <= before + 200 + 2  # the epoll and its bell
    for conn, (_, theirs) in zip(conns, pairs, strict=True):
        conn.close()
        theirs.close()


def _deflated(data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush(flush)


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_PARTIAL_FLUSH])
@pytest.mark.parametrize("secure", [False, True])
def test_compression(pair: Pair, certificate: tuple[Path, Path], secure: bool, flush: int) -> None:
    conn, client = pair
    with ThreadPoolExecutor(1) as pool:
        if secure:
            client = _secured(pool, conn, client, certificate)
    conn.start_compression()
    assert conn.compressed
    client.sendall(_deflated(b"one\r\ntwo\r\n" + b"x" * 200_000 + b"\n", flush))
    assert conn.wait(5, Waker()) is Wake.READABLE
    assert conn.read_line(100) == b"one\r\n"
    assert conn.read_line(100) == b"two\r\n"
    assert len(conn.read_line(300_000)) == 200_001
    assert conn.buffered == 0
    assert conn.wait(0.01, Waker()) is Wake.TIMEOUT
    conn.send(b"* OK ", more=True)
    conn.send_many([b"a", b"b" * 1000, b"\r\n"])
    with tempfile.TemporaryFile() as file:
        file.write(b"file")
        file.flush()
        conn.send_file(file.fileno(), 0, 4)
    conn.close()
    got = zlib.decompressobj(-15).decompress(b"".join(iter(lambda: client.recv(10_000), b"")))
    assert got == b"* OK a" + b"b" * 1000 + b"\r\nfile"
    client.close()


def test_octets_behind_the_command_are_inflated(pair: Pair) -> None:
    conn, client = pair
    client.sendall(b"COMPRESS\n" + _deflated(b"NOOP\n"))
    assert conn.read_line(100) == b"COMPRESS\n"
    conn.start_compression()
    assert conn.read_line(100) == b"NOOP\n"


@pytest.mark.parametrize("octets", [b"\xff" * 100, b"A001 NOOP\r\n" * 10, _deflated(b"", zlib.Z_FINISH) + b"x"])
def test_what_is_no_deflate_ends_the_connection(pair: Pair, octets: bytes) -> None:
    conn, client = pair
    conn.start_compression()
    client.sendall(octets)
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionLost):
        conn.read_line(1000)


def test_a_bomb_is_inflated_in_steps(pair: Pair) -> None:
    conn, client = pair
    conn.start_compression()
    client.sendall(_deflated(b"\0" * 10_000_000 + b"\nnext\n"))
    assert len(conn.receive()) <= connection.RECEIVE
    with pytest.raises(LineTooLong):
        conn.read_line(1000)
    assert conn.read_line(1000) == b"next\n"
