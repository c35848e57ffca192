"""SMTP smuggling: nothing but CRLF.CRLF ends a message, so its text never becomes commands or a second message."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.smtp.serving import Client, bodies, serving

ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r\n.\r\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\0.\r\n",
    b"\n\r.\r\n",
    b"\r\n. \r\n",
    b"\r\n\x85.\r\n",
    b"\n.\n\r",
]
SECOND = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\nSubject: forged\r\n\r\nforged"


@pytest.mark.parametrize("refuse", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_one_message(tmp_path: Path, end: bytes, refuse: bool) -> None:
    with serving(tmp_path, bare_newline="refuse" if refuse else "accept") as server, Client(server) as client:
        client.begin()
        assert client.say("DATA").startswith("354")
        client.send(b"Subject: one\r\n\r\ntext" + end + SECOND + b"\r\n.\r\n")
        answer = client.reply()
        assert client.say("NOOP").startswith("250")
        server.stop()
        assert bodies(server, "bob") == []
        clean = end in (b"\r\n.\0\r\n", b"\r\n\0.\r\n", b"\r\n. \r\n", b"\r\n\x85.\r\n")
        if refuse and not clean:
            assert answer.startswith("550 5.6.0")
            assert bodies(server) == []
        else:
            assert answer.startswith("250")
            (body,) = bodies(server)
            assert body.endswith(b"forged\r\n")


def test_bare_lf_is_stored_as_crlf_and_bare_cr_stays(tmp_path: Path) -> None:
    with serving(tmp_path) as server, Client(server) as client:
        client.begin()
        client.say("DATA")
        client.send(b"Subject: x\n\none\ntwo\rthree\n.\nfour\r\n.\r\n")
        assert client.reply().startswith("250")
        assert bodies(server) == [b"Subject: x\r\n\r\none\r\ntwo\rthree\r\n.\r\nfour\r\n"]
