"""Mail that comes in by SMTP, and how it must come out again."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mailserver.app import App
from mailserver.mail import headers
from tests.interop.serving import run
from tests.messages import corpus

_BARE_LF = re.compile(rb"(?<!\r)\n")


@dataclass
class Delivered:
    """The messages of a mailbox in their order, with CRLF, without the trace fields that the server put before them."""

    messages: list[bytes] = field(default_factory=list)

    def check(self, found: Sequence[bytes]) -> None:
        """Assert that these are they, trace fields in front; line ends may be LF."""
        assert len(found) == len(self.messages)
        for octets, sent in zip(found, self.messages, strict=True):
            crlf, expected = octets, sent
            if b"\r\n" not in octets:  # a client that keeps lines with LF, and no CR at all
                crlf, expected = octets.replace(b"\n", b"\r\n"), sent.replace(b"\r", b"").replace(b"\n", b"\r\n")
            assert crlf.endswith((expected, expected.rstrip(b"\r\n"))), (expected[:300], crlf[:600])
            trace = crlf[: len(crlf.rstrip(b"\r\n")) - len(expected.rstrip(b"\r\n"))]
            assert len(trace) < 1500, trace


def deliver(app: App, home: Path, user: str = "user1") -> Delivered:
    """Send the corpus, every tenth message with swaks, the others with smtplib."""
    delivered = Delivered()
    with smtplib.SMTP("127.0.0.1", app.ports["smtp"], local_hostname="client.example.com", timeout=60) as client:
        for number, octets in enumerate(corpus()):
            text = _BARE_LF.sub(b"\r\n", octets)
            text = text if text.endswith(b"\r\n") else text + b"\r\n"
            if number % 10 == 0 and b"\r" not in octets and not octets.startswith(b"From ") and b"%" not in text:
                _swaks(app.ports["smtp"], home, octets, user)
            else:
                client.sendmail("sender@example.net", [f"{user}@example.com"], text)
            delivered.messages.append(_without_return_path(text))
    return delivered


# RFC 5321 section 4.4: whoever makes the final delivery replaces what others wrote there
def _without_return_path(text: bytes) -> bytes:
    header, body = headers.split(text)
    gone = [f for f in headers.iterate(header) if f.name.lower() == b"return-path"]
    for field_ in reversed(gone):
        header = header[: field_.start] + header[field_.end :]
    return header + text[body:]


def _swaks(port: int, home: Path, octets: bytes, user: str) -> None:
    path = home / "message"
    path.write_bytes(octets.removesuffix(b"\n").removesuffix(b"\r"))  # it puts a line end behind the last line
    names = ["--from", "sender@example.net", "--to", f"{user}@example.com", "--helo", "client.example.com"]
    run(["swaks", "--server", "127.0.0.1", "--port", str(port), *names, "--data", f"@{path}"], home)
