"""Courier's POP3 and IMAP servers on a Maildir, as inetd would start them behind their login: octets in, octets out.

They cannot be installed beside Dovecot's (each is "the" pop3-server), so ``.ci/run`` unpacks the packages courier-pop,
courier-imap and courier-authlib, with the libraries they need, to ``courier-root/`` here.
"""

from __future__ import annotations

import imaplib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent / "courier-root"
_PROGRAM = "usr/lib/courier/courier/courierpop3d"
_IMAPD = "usr/bin/imapd"
_CAPABILITY = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE QUOTA"


def session(maildir: Path, *commands: str) -> list[str]:
    """Run a session on the Maildir; return the lines of all answers."""
    program = _program(_PROGRAM)
    done = subprocess.run(
        [str(program), f"./{maildir.name}"],
        input="".join(f"{command}\r\n" for command in [*commands, "QUIT"]).encode(),
        capture_output=True,
        cwd=maildir.parent,
        env={**os.environ, "AUTHENTICATED": "user1", "AUTHADDR": "user1", "LD_LIBRARY_PATH": _libraries()},
        timeout=30,
        check=False,
    )
    assert done.stdout.startswith(b"+OK"), (done.stdout, done.stderr)
    return done.stdout.decode("latin-1").split("\r\n")


def _program(name: str) -> Path:
    program = ROOT / name
    if not program.exists():
        pytest.fail(f"{program} is missing: see {__file__}, or leave tests/interop out (make test)")
    return program


def _libraries() -> str:
    return ":".join(sorted({str(path.parent) for path in (ROOT / "usr").rglob("*.so.*")}))


def tunnel(maildir: Path) -> str:
    """A shell command that speaks IMAP, logged in, of the Maildir; its first line, an alert, is left out.

    The alert says that no file alteration monitor runs, without which it works as well.
    """
    variables = {
        "AUTHENTICATED": "user1",
        "AUTHADDR": "user1",
        "PROTOCOL": "IMAP",
        "IMAP_CAPABILITY": _CAPABILITY,
        "IMAP_KEYWORDS": "1",
        "IMAP_USELOCKS": "0",
        "IMAP_TRASHFOLDERNAME": "Trash",
        "LD_LIBRARY_PATH": _libraries(),
    }
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    where = shlex.quote(str(maildir.parent))
    return f"cd {where} && {words} {_program(_IMAPD)} ./{maildir.name} 2>/dev/null | LC_ALL=C sed -u 1d"


@contextmanager
def imap(maildir: Path) -> Iterator[imaplib.IMAP4]:
    """A client of Courier's IMAP server, logged in."""
    client = imaplib.IMAP4_stream(tunnel(maildir))
    assert client.state == "AUTH", client.welcome
    try:
        yield client
    finally:
        client.logout()


def remembered(client: imaplib.IMAP4, folder: str) -> tuple[int, int, list[tuple[int, frozenset[str], str]]]:
    """UIDVALIDITY, UIDNEXT, and of each message UID, flags and keywords, date."""
    numbers = re.search(
        rb"UIDNEXT (\d+) UIDVALIDITY (\d+)", client.status(f'"{folder}"', "(UIDNEXT UIDVALIDITY)")[1][0]
    )
    assert numbers is not None
    assert client.select(f'"{folder}"', readonly=True)[0] == "OK"
    answers = (
        client.fetch("1:*", "(UID FLAGS INTERNALDATE)")[1] if client.untagged_responses["EXISTS"] != [b"0"] else []
    )
    messages = []
    for answer in answers:
        text = answer.decode() if isinstance(answer, bytes) else ""
        uid, flags = re.search(r"UID (\d+)", text), re.search(r"FLAGS \(([^)]*)\)", text)
        date = re.search(r'INTERNALDATE "([^"]+)"', text)
        assert uid is not None
        assert flags is not None
        assert date is not None
        messages.append((int(uid[1]), frozenset(flags[1].split()) - {"\\Recent"}, date[1].lstrip(" 0")))
    return int(numbers[2]), int(numbers[1]), messages
