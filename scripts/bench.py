"""``make bench``: how quick the server is, beside Dovecot on the same machine, in turns.

    python -m scripts.bench [--seconds 2] [--rounds 3] [--connections 10] [--workers 2] [workload ...]

Every connection sends one command, waits for its end, and sends the next (``pop3_pipelined`` does not wait). Each round
runs a workload first on one server, then on the other; what is printed is the median of the rounds and the ratio.
Repeated runs differ by a third on a busy machine: look at ratios, and do not run anything beside it.

``smtp_5k`` and ``smtp_50k`` are beside Postfix: `scripts.bench_smtp`.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scripts import bench_smtp

USERS = 10
MESSAGES = 200
FIELDS = (
    b"(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Subject Date Message-ID References Content-Type)])"
)


def messages(count: int) -> list[bytes]:
    """Make messages of 1 to 60 kB, always the same."""
    source = random.Random(1)
    words = ["the", "mail", "server", "keeps", "all", "messages", "safe", "and", "answers", "quickly"]

    made = []
    for number in range(count):
        body = bytearray()
        size = int(2 ** source.uniform(10, 16))
        while len(body) < size:
            body += " ".join(source.choices(words, k=11)).encode() + b"\r\n"
        made.append(
            b"Received: from a.example by b.example; Mon, 1 Jan 2024 10:00:00 +0000\r\n"
            b"From: Sender %d <sender%d@example.com>\r\nTo: recipient@example.com\r\nSubject: Message %d about %s\r\n"
            b"Date: Mon, 1 Jan 2024 10:00:%02d +0000\r\nMessage-ID: <%d@example.com>\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n\r\n%b"
            % (number, number, number, source.choice(words).encode(), number % 60, number, bytes(body))
        )
    return made


class Client:
    """A plain IMAP connection."""

    def __init__(self, port: int, user: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._number = 0
        while b"\r\n" not in self._buffer:
            self._buffer += self.sock.recv(65536)
        self._buffer = b""
        self.command(b"LOGIN %b pass" % user.encode())

    def command(self, text: bytes) -> bytes:
        """Send, wait for the tagged answer, return everything."""
        self._number += 1
        tag = b"t%d" % self._number
        self.sock.sendall(tag + b" " + text + b"\r\n")
        parts = []
        mark = b"\r\n" + tag + b" "
        tail = b"\r\n"
        while True:
            data = self.sock.recv(262144)
            if not data:
                raise EOFError("the server closed the connection")
            parts.append(data)
            tail = (tail + data)[-4096:]
            place = tail.rfind(mark)
            if place >= 0 and tail.endswith(b"\r\n"):
                if tail[place + len(mark) :].startswith(b"OK"):
                    return b"".join(parts)
                raise RuntimeError(f"{text[:60]!r}: {tail[place:]!r}")

    def append(self, mailbox: bytes, message: bytes) -> None:
        """APPEND with a literal that does not wait."""
        self.command(b"APPEND %b {%d+}\r\n%b" % (mailbox, len(message), message))


class PopClient:
    """A plain POP3 connection."""

    def __init__(self, port: int, user: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read(b"\r\n")
        self.command(b"USER %b" % user.encode())
        self.command(b"PASS pass")

    def _read(self, end: bytes) -> bytes:
        parts = [self.sock.recv(262144)]
        while not (b"".join(parts[-2:]) if len(parts[-1]) < len(end) else parts[-1]).endswith(end):
            data = self.sock.recv(262144)
            if not data:
                raise EOFError("the server closed the connection")
            parts.append(data)
        if not parts[0].startswith(b"+OK"):
            raise RuntimeError(parts[0])
        return b"".join(parts)

    def command(self, text: bytes, *, lines: bool = False) -> bytes:
        """Send, wait for the end of the answer, of several ``lines`` or one."""
        self.sock.sendall(text + b"\r\n")
        return self._read(b"\r\n.\r\n" if lines else b"\r\n")

    def together(self, texts: list[bytes]) -> None:
        """Send all, the last of which is NOOP, and wait for the answers."""
        self.sock.sendall(b"\r\n".join([*texts, b"NOOP", b""]))
        tail, waiting = b"", True
        while waiting:
            data = self.sock.recv(262144)
            if not data:
                raise EOFError("the server closed the connection")
            tail = (tail + data)[-40:]
            waiting = not (tail.endswith(b"\r\n") and b"\r\n.\r\n+OK" in tail)

    def quit(self) -> None:
        """End the session."""
        self.command(b"QUIT")
        self.sock.close()


Work = Callable[[Client, int], int]
PopWork = Callable[[int, str, float], int]
_BODY = b"From: a@example.com\r\nSubject: bench\r\n\r\n" + b"x" * 70 + b"\r\n"


def _copy_expunge(client: Client, turn: int) -> int:
    client.command(b"COPY 1:5 bench")
    client.command(b"STORE %d:* +FLAGS.SILENT (\\Deleted)" % (MESSAGES + 1))
    client.command(b"EXPUNGE")
    return 1


def _each(text: bytes, count: int = 1) -> Work:
    def work(client: Client, turn: int) -> int:
        client.command(text)
        return count

    return work


def _store_one(client: Client, turn: int) -> int:
    client.command(b"STORE %d %bFLAGS (\\Seen)" % (turn % MESSAGES + 1, b"+" if turn // MESSAGES % 2 == 0 else b"-"))
    return 1


def _store_all(client: Client, turn: int) -> int:
    client.command(b"STORE 1:* %bFLAGS (\\Flagged)" % (b"+" if turn % 2 == 0 else b"-"))
    return MESSAGES


def _append(client: Client, turn: int) -> int:
    client.append(b"Sent", _BODY * 200)
    return 1


WORKLOADS: dict[str, tuple[Work, str]] = {
    "noop": (_each(b"NOOP"), "commands"),
    "select_flags": (lambda c, n: len([c.command(b"SELECT bench"), c.command(b"FETCH 1:* (FLAGS)")]) // 2, "rounds"),
    "fetch_flags": (_each(b"FETCH 1:* (FLAGS)", MESSAGES), "messages"),
    "fetch_body": (_each(b"FETCH 1:* (BODY.PEEK[])", MESSAGES), "messages"),
    "fetch_one": (lambda c, n: bool(c.command(b"FETCH %d (BODY.PEEK[])" % (n % MESSAGES + 1))) * 1, "messages"),
    "fetch_headers": (_each(b"FETCH 1:* " + FIELDS, MESSAGES), "messages"),
    "fetch_envelope": (_each(b"FETCH 1:* (ENVELOPE BODYSTRUCTURE)", MESSAGES), "messages"),
    "append": (_append, "messages"),
    "store_one": (_store_one, "commands"),
    "store_all": (_store_all, "messages"),
    "search_flags": (_each(b"SEARCH UNSEEN"), "commands"),
    "search_header": (_each(b'SEARCH SUBJECT "about message"'), "commands"),
    "search_body": (_each(b'SEARCH BODY "keeps safe mail"'), "commands"),
    "status": (_each(b"STATUS bench (MESSAGES UNSEEN UIDNEXT)"), "commands"),
    "list": (_each(b'LIST "" "*"'), "commands"),
    "copy_expunge": (_copy_expunge, "rounds"),
}


def _pop_sessions(port: int, user: str, end: float) -> int:
    done = 0
    while time.monotonic() < end:
        client = PopClient(port, user)
        client.command(b"STAT")
        client.command(b"LIST", lines=True)
        client.command(b"UIDL", lines=True)
        client.quit()
        done += 1
    return done


def _pop_retrieve(port: int, user: str, end: float) -> int:
    client, done = PopClient(port, user), 0
    while time.monotonic() < end:
        client.command(b"RETR %d" % (done % MESSAGES + 1), lines=True)
        done += 1
    client.quit()
    return done


def _pop_pipelined(port: int, user: str, end: float) -> int:
    client, done = PopClient(port, user), 0
    while time.monotonic() < end:
        client.together([b"RETR %d" % number for number in range(1, MESSAGES + 1)])
        done += MESSAGES
    client.quit()
    return done


# each with a user of its own, for a maildrop has one session
POP_WORKLOADS: dict[str, tuple[PopWork, str]] = {
    "pop3_sessions": (_pop_sessions, "logins with STAT, LIST, UIDL, QUIT"),
    "pop3_retr": (_pop_retrieve, "messages"),
    "pop3_pipelined": (_pop_pipelined, "messages"),
}


def _pop_worker(port: int, users: list[str], name: str, seconds: float, results: multiprocessing.Queue[int]) -> None:
    import threading

    work, _ = POP_WORKLOADS[name]
    end = time.monotonic() + seconds
    counts: list[int] = []
    threads = [threading.Thread(target=lambda u=u: counts.append(work(port, u, end))) for u in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(sum(counts))


def _worker(port: int, users: list[str], name: str, seconds: float, results: multiprocessing.Queue[int]) -> None:
    """Some of the connections, each with its turn, in one process."""
    import threading

    clients = [Client(port, user) for user in users]
    for client in clients:
        client.command(b"SELECT bench")
    work, _ = WORKLOADS[name]
    counts = [0] * len(clients)
    end = time.monotonic() + seconds

    def run(i: int) -> None:
        turn = 0
        while time.monotonic() < end:
            counts[i] += work(clients[i], turn)
            turn += 1

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(sum(counts))


def measure(ports: Mapping[str, int], name: str, seconds: float, connections: int) -> float:
    """Return how much was done in a second."""
    results: multiprocessing.Queue[int] = multiprocessing.Queue()
    users = [f"user{i % USERS + 1}" for i in range(connections)]
    began = time.monotonic()
    if name in POP_WORKLOADS:
        target, port, users = _pop_worker, ports["pop3"], users[:USERS]
    else:
        target, port = _worker, ports["imap"]
    process = multiprocessing.Process(target=target, args=(port, users, name, seconds, results))
    process.start()
    done = results.get(timeout=seconds + 120)
    process.join()
    return done / max(seconds, time.monotonic() - began - 1)


def fill(port: int) -> None:
    """Give every user a mailbox."""
    made = messages(MESSAGES)
    for number in range(1, USERS + 1):
        client = Client(port, f"user{number}")
        with contextlib.suppress(RuntimeError):
            client.command(b"CREATE bench")
        with contextlib.suppress(RuntimeError):
            client.command(b"CREATE Sent")
        for message in made:
            client.append(b"bench", message)
        client.command(b"SELECT bench")
        client.command(b"COPY 1:* INBOX")


@contextlib.contextmanager
def ours(folder: Path, workers: int) -> Iterator[dict[str, int]]:
    """Start this server as a process."""
    folder.mkdir()
    (folder / "users").write_text("".join(f"user{i}:{{PLAIN}}pass:::::\n" for i in range(1, USERS + 1)))
    (folder / "mailserver.toml").write_text(
        f'[storage]\nmailbox_path = "{folder}/mail"\n[auth]\nusers_file = "{folder}/users"\n'
        '[imap]\nhost = "127.0.0.1"\nport = 0\nssl_port = -1\nmax_connections = 1000\n'
        '[pop3]\nhost = "127.0.0.1"\nport = 0\nssl_port = -1\n[http]\nport = -1\n'
        f'[server]\nworkers = {workers}\nlog_level = "error"\n'
    )
    command = [sys.executable, "-m", "mailserver", "--imap", "--pop3", "--config", str(folder / "mailserver.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield {name: int(process.stdout.readline().rsplit(" ", 1)[1]) for name in ("imap", "pop3")}
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def dovecot() -> Iterator[dict[str, int]]:
    """Start Dovecot as the interoperability tests do, in a directory that its processes may enter."""
    from tests.interop.dovecot import Dovecot

    with Dovecot(users=tuple(f"user{i}" for i in range(1, USERS + 1))) as server:
        yield {"imap": server.imap_port, "pop3": server.pop3_port}


def main() -> int:
    """Run the workloads and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    every = [*WORKLOADS, *POP_WORKLOADS, *bench_smtp.SIZES]
    parser.add_argument("workloads", nargs="*", choices=[*every, []], help="default: all")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    chosen = arguments.workloads or every
    bench_reading(arguments, [name for name in chosen if name not in bench_smtp.SIZES])
    bench_smtp.bench([name for name in chosen if name in bench_smtp.SIZES], arguments.rounds, arguments.workers)
    return 0


def bench_reading(arguments: argparse.Namespace, chosen: list[str]) -> None:
    """Run the workloads of IMAP and POP3, ours and Dovecot in turns."""
    if not chosen:
        return
    with_dovecot = Path("/usr/sbin/dovecot").exists() and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        ports = {"postkeep": stack.enter_context(ours(Path(name) / "ours", arguments.workers))}
        if with_dovecot:
            ports["dovecot"] = stack.enter_context(dovecot())
        for found in ports.values():
            fill(found["imap"])
        print(f"{'workload':15}" + "".join(f"{server:>14}" for server in ports) + "  ratio  per second", flush=True)
        units = {name: unit for name, (_, unit) in [*WORKLOADS.items(), *POP_WORKLOADS.items()]}
        for workload in chosen:
            rates: dict[str, list[float]] = {server: [] for server in ports}
            for _ in range(arguments.rounds):
                for server, found in ports.items():
                    rates[server].append(measure(found, workload, arguments.seconds, arguments.connections))
            medians = [statistics.median(r) for r in rates.values()]
            ratio = f"{medians[0] / medians[1]:6.2f}" if with_dovecot else "     -"
            print(f"{workload:15}" + "".join(f"{m:14,.0f}" for m in medians) + f" {ratio}  {units[workload]}")


if __name__ == "__main__":
    sys.exit(main())
