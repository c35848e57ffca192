"""COMPRESS=DEFLATE with a peer that flushes partially, as Apple Mail does."""

from __future__ import annotations

import socket
import zlib
from pathlib import Path

import pytest

from mailserver import ImapConfig, ImapServer


@pytest.mark.parametrize("flush", [zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH])
def test_compressed_session(tmp_path: Path, flush: int) -> None:
    config = ImapConfig(host="127.0.0.1", port=0, ssl_port=-1, mailbox_path=str(tmp_path), users={"a": "b"})
    with ImapServer(config) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        deflate = zlib.compressobj(wbits=-15)
        inflate = zlib.decompressobj(wbits=-15)
        held = b""

        def until(mark: bytes, *, compressed: bool) -> bytes:
            nonlocal held
            while mark not in held:
                data = sock.recv(65536)
                assert data
                held += inflate.decompress(data) if compressed else data
            found, held = held, b""
            return found

        def say(text: bytes) -> None:
            sock.sendall(deflate.compress(text) + deflate.flush(flush))

        sock.sendall(b"a LOGIN a b\r\n")
        assert b"COMPRESS=DEFLATE" in until(b"a OK", compressed=False)
        sock.sendall(b"b COMPRESS DEFLATE\r\n" + deflate.compress(b"c NOOP\r\n") + deflate.flush(flush))
        data = until(b"\r\n", compressed=False)
        line, _, rest = data.partition(b"\r\n")
        while not line.startswith(b"b OK"):
            line, _, rest = rest.partition(b"\r\n")
        held = inflate.decompress(rest)
        until(b"c OK", compressed=True)
        say(b"d COMPRESS DEFLATE\r\n")
        assert b"[COMPRESSIONACTIVE]" in until(b"d NO", compressed=True)
        say(b"e APPEND INBOX {20000+}\r\n" + b"x" * 20000 + b"\r\n")
        until(b"e OK", compressed=True)
        say(b"f EXAMINE INBOX\r\n")
        until(b"f OK", compressed=True)
        say(b"g FETCH 1 BODY.PEEK[]\r\n")
        assert b"x" * 20000 in until(b"g OK", compressed=True)
        say(b"h LOGOUT\r\n")
        until(b"h OK", compressed=True)
