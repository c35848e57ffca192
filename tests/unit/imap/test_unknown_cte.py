"""A part that cannot be decoded, behind a part so large that it is on its way already."""

from __future__ import annotations

import imaplib
from pathlib import Path

from mailserver import ImapConfig, ImapServer

_MESSAGE = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n'
    b"--x\r\n\r\n" + b"y" * 10_000 + b"\r\n"
    b"--x\r\nContent-Transfer-Encoding: x-nobody\r\n\r\nz\r\n--x--\r\n"
)


# RFC 3516 section 4.3: UNKNOWN-CTE
def test_a_response_that_was_begun_is_ended(tmp_path: Path) -> None:
    config = ImapConfig(
        host="127.0.0.1", port=0, ssl_port=-1, mailbox_path=str(tmp_path / "mail"), users={"alice": "secret"}
    )
    with ImapServer(config) as server, imaplib.IMAP4("127.0.0.1", server.port, timeout=10) as client:
        client.login("alice", "secret")
        client.append("INBOX", "", "", _MESSAGE)
        client.select("INBOX")
        answer, _ = client.fetch("1", "(BODY.PEEK[] BINARY.PEEK[2])")
        assert answer == "NO"
        [(start, octets), end] = client.response("FETCH")[1]
        assert (start, octets, end) == (b"1 (BODY[] {%d}" % len(_MESSAGE), _MESSAGE, b")")
        assert client.noop()[0] == "OK"
