"""The server under each protocol: listening sockets, one thread per connection, caps, and an orderly end.

A subclass gives `StreamServer.handle_connection` and `StreamServer.refuse`. The accepting thread only accepts and
counts; TLS handshake and protocol run in the connection's own thread, so that a client which does not speak holds up
nobody.

Several processes may share the listening sockets: `bind` before the fork, `start` after it in each.
"""

from __future__ import annotations

import os
import select
import socket
import socketserver
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Self

from mailserver.net.connection import Connection, ConnectionLost, TimedOut
from mailserver.net.crew import Crew
from mailserver.net.limits import SharedLimits
from mailserver.net.listen import Endpoint, listen
from mailserver.net.roll import Roll
from mailserver.net.tls import TlsKeeper
from mailserver.net.waiter import Waiter
from mailserver.ops import log as logging
from mailserver.ops import metrics

PAUSE = 0.2  # seconds without accepting after the process ran out of descriptors
STEP_BACK = 0.001  # seconds that a worker leaves a new connection to each one that has fewer


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What `StreamServer` must know. Times in seconds, 0 = no cap for the counts."""

    name: str
    endpoints: Sequence[Endpoint]
    max_connections: int = 100
    max_connections_per_address: int = 0
    max_unauthenticated: int = 0
    timeout: float = 300.0
    handshake_timeout: float = 30.0
    login_timeout: float = 0.0  # 0: nobody has to log in (SMTP from other servers)
    tls: TlsKeeper | None = None
    limits: SharedLimits = field(default_factory=SharedLimits)
    waiter: Waiter | None = None


class _Handler(socketserver.BaseRequestHandler):
    """Ties socketserver's request to `StreamServer.handle_connection`."""

    def handle(self) -> None:
        """Serve the connection in its thread."""
        self.server.serve(self.request)  # type: ignore[attr-defined]  # socketserver types the server as its base


class StreamServer(socketserver.ThreadingTCPServer):
    """One protocol's server; see the module. Also a context manager: started inside, stopped behind."""

    protocol: ClassVar[str] = "net"
    daemon_threads = True
    block_on_close = False

    def __init__(self, options: ServerOptions) -> None:
        first = options.endpoints[0] if options.endpoints else Endpoint(options.name, "127.0.0.1", 0)
        socketserver.BaseServer.__init__(self, (first.host, first.port), _Handler)
        self.options = options
        self.log = logging.get(self.protocol)
        self.waiter = options.waiter or Waiter()
        self._owns_waiter = options.waiter is None
        self._semaphore = options.limits.semaphore(options.name, options.max_connections)
        self._roll = Roll(options.max_unauthenticated)
        self._listeners: dict[int, tuple[socket.socket, Endpoint]] = {}
        self._accepting: threading.Thread | None = None
        self._crew = Crew(options.name)
        self._stop_fd = -1
        self._complained = 0.0
        self.stopping = False
        self.addresses: dict[str, int] = {}

    # -- for the protocol

    def handle_connection(self, conn: Connection) -> None:
        """Speak the protocol until it ends.

        May let `ConnectionLost` and `TimedOut` escape; ``conn`` is closed by the caller.
        """
        raise NotImplementedError

    def refuse(self, reason: str) -> bytes:
        """Return the line for a client over a cap, in the protocol's words; empty: just hang up."""
        return b""

    # -- life

    def bind(self) -> dict[str, int]:
        """Open the listening sockets; return the ports by endpoint name.

        Raises `OSError` with the address in its text.
        """
        if not self._listeners:
            self.addresses.clear()
            try:
                for endpoint in self.options.endpoints:
                    self._bind_one(endpoint)
            except OSError:
                self._close_listeners()
                raise
        return self.addresses

    def _bind_one(self, endpoint: Endpoint) -> None:
        for sock in listen(endpoint):
            self._listeners[sock.fileno()] = (sock, endpoint)
            self.addresses.setdefault(endpoint.name, sock.getsockname()[1])

    def start(self) -> None:
        """Bind, if that has not been done, and accept in a thread of its own; returns at once, connections are taken
        from now on.
        """
        self.bind()
        self.stopping = False
        self._crew = Crew(self.options.name)
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._accepting = threading.Thread(target=self.serve_forever, name=f"{self.options.name}-accept", daemon=True)
        self._accepting.start()

    def stop(self, grace: float = 5.0) -> None:
        """Take no new connection, let commands in flight be answered; after ``grace`` seconds cut off who is left."""
        self.stopping = True
        if self._accepting is not None:
            os.eventfd_write(self._stop_fd, 1)
            self._accepting.join()
            self._accepting = None
            os.close(self._stop_fd)
        self._close_listeners()
        self._crew.end()
        if not self._roll.end_all(grace):
            self.log.warning("stop-incomplete", connections=self._roll.count)
        if self._owns_waiter:
            self.waiter.close()

    def shutdown(self) -> None:
        """Do what `stop` does, under socketserver's name."""
        self.stop()

    def server_close(self) -> None:
        """Close the listening sockets."""
        self._close_listeners()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def active(self) -> int:
        """Connections of this process now."""
        return self._roll.count

    def fileno(self) -> int:
        """Return the first listening socket's descriptor, as socketserver's users expect."""
        return next(iter(self._listeners), -1)

    def _close_listeners(self) -> None:
        for sock, _ in self._listeners.values():
            sock.close()
        self._listeners.clear()

    # -- accepting

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Accept until `stop`; run by `start` in a thread."""
        with select.epoll() as epoll:
            epoll.register(self._stop_fd, select.EPOLLIN)
            for fd in self._listeners:
                epoll.register(fd, select.EPOLLIN)
            while not self.stopping:
                for fd, _ in epoll.poll():
                    if fd in self._listeners:
                        self._accept(*self._listeners[fd])

    def _accept(self, listener: socket.socket, endpoint: Endpoint) -> None:
        # all workers were woken: the one with the fewest connections takes it, the others only if that one is too busy
        if behind := self._semaphore.lighter:
            select.select([self._stop_fd], [], [], STEP_BACK * behind)
        try:
            sock, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker was quicker, or the client left
            return
        except OSError as error:  # no descriptors or no memory: wait for some to come free, and say so now and then
            self._complain("accept-failed", error)
            select.select([self._stop_fd], [], [], PAUSE)
            return
        self.process_request((sock, endpoint), address)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count the connection and start its thread, or refuse it."""
        sock, endpoint = request
        address = str(client_address[0]) if isinstance(client_address, tuple) and client_address else "unix"
        permit = _Permit(self, address.removeprefix("::ffff:"))
        reason = permit.take()
        if reason:
            self._turn_away(sock, endpoint, reason, address)
            return
        try:
            counted: Any = (sock, endpoint, permit)
            self._crew.run(lambda: self.process_request_thread(counted, client_address))
        except RuntimeError as error:  # the system has no more threads
            permit.give_back()
            self._complain("thread-failed", error)
            self._turn_away(sock, endpoint, "out of threads", address)

    def _turn_away(self, sock: socket.socket, endpoint: Endpoint, reason: str, address: str) -> None:
        metrics.REFUSED.inc(protocol=self.protocol, reason=reason)
        self._complain("refused", reason, rip=address)
        try:
            if not endpoint.implicit_tls:
                sock.send(self.refuse(reason), socket.MSG_DONTWAIT)
                sock.shutdown(socket.SHUT_WR)
        except OSError:  # it left first
            pass
        sock.close()

    def _complain(self, event: str, reason: object, rip: str | None = None) -> None:
        now = time.monotonic()
        if now - self._complained > 1:  # under a flood one line a second says enough
            self._complained = now
            self.log.warning(event, rip=rip, reason=str(reason))

    # -- in the connection's thread

    def serve(self, request: tuple[socket.socket, Endpoint, _Permit]) -> None:
        """Run one connection from handshake to end."""
        sock, endpoint, permit = request
        try:
            conn = self._connection(sock)
        except OSError:  # the client left before its thread began
            sock.close()
            permit.give_back()
            return
        self._roll.enter(conn)
        metrics.CONNECTIONS.inc(protocol=self.protocol)
        metrics.ACTIVE.inc(protocol=self.protocol)
        try:
            self._serve(conn, endpoint)
        finally:
            conn.close()
            permit.give_back()
            metrics.ACTIVE.inc(-1, protocol=self.protocol)
            self._roll.leave(conn)

    def _serve(self, conn: Connection, endpoint: Endpoint) -> None:
        try:
            if endpoint.implicit_tls:
                assert self.options.tls is not None
                conn.start_tls(self.options.tls.context)
            if self.stopping:
                conn.shut_down()
            self.handle_connection(conn)
        except (ConnectionLost, TimedOut) as error:
            self.log.debug("lost", conn, reason=str(error) or type(error).__name__)
        except Exception:
            metrics.FAULTS.inc(protocol=self.protocol)
            self.log.exception("fault", conn)

    def _connection(self, sock: socket.socket) -> Connection:
        options = self.options
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # a phone that left the network is noticed after some ten minutes, not after the kernel's two hours
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 300)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 60)
        conn = Connection(
            sock, waiter=self.waiter, timeout=options.timeout, handshake_timeout=options.handshake_timeout
        )
        if options.login_timeout:
            conn.set_login_deadline(options.login_timeout)
        return conn

    def shutdown_request(self, request: Any) -> None:
        """Nothing: `serve` closed the connection itself."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what escaped from the server's own code; socketserver would print it."""
        self.log.exception("fault")


class _Permit:
    """What one connection counts for: a permit of the server and one of its address."""

    def __init__(self, server: StreamServer, address: str) -> None:
        self._server = server
        self._address = address
        # the machine itself is not limited: a webmail is one address with many users
        local = address == "unix" or address == "::1" or address.startswith("127.")
        self._per_address = 0 if local else server.options.max_connections_per_address

    def take(self) -> str:
        """Take both permits; return "" or why not."""
        if not self._server._semaphore.acquire():
            return "too many connections"
        if self._per_address and not self._server.options.limits.enter_address(self._address, self._per_address):
            self._server._semaphore.release()
            return "too many connections from your address"
        return ""

    def give_back(self) -> None:
        """Give both back."""
        self._server._semaphore.release()
        if self._per_address:
            self._server.options.limits.leave_address(self._address)
