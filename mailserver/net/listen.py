"""Listening sockets: from a host and a port to bound sockets, IPv4 and IPv6."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen.

    ``host`` "" is all of IPv4 and IPv6, a path with a "/" is a Unix socket; ``port`` 0 takes a free one.
    """

    name: str
    host: str
    port: int
    implicit_tls: bool = False


def listen(endpoint: Endpoint) -> list[socket.socket]:
    """Open the sockets of an endpoint, non-blocking. Raises `OSError` whose text names the address."""
    if "/" in endpoint.host:
        return [_listen_unix(endpoint)]
    hosts = _addresses(endpoint)
    opened: list[socket.socket] = []
    port = endpoint.port
    try:
        for family, host in hosts:
            opened.append(_listen_one(family, host, port))
            port = port or opened[0].getsockname()[1]  # a free port is the same one for both families
    except OSError as error:
        for sock in opened:
            sock.close()
        raise _named(error, f"{endpoint.name}: {host or '*'} port {port}") from error
    return opened


def _addresses(endpoint: Endpoint) -> list[tuple[socket.AddressFamily, str]]:
    if endpoint.host in ("", "*"):
        both = [(socket.AF_INET, "0.0.0.0")]
        return [*both, (socket.AF_INET6, "::")] if _ipv6_works() else both
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(error.errno, f"{endpoint.name}: {endpoint.host}: {error.strerror}") from error
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _ipv6_works() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _listen_one(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _listen_unix(endpoint: Endpoint) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            os.unlink(endpoint.host)  # left behind by an earlier run
        except FileNotFoundError:
            pass
        sock.bind(endpoint.host)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _named(error, f"{endpoint.name}: {endpoint.host}") from error
    return sock


def _named(error: OSError, where: str) -> OSError:
    return type(error)(error.errno, f"{where}: {os.strerror(error.errno or 0)}")
