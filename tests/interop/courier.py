"""Courier's POP3 server on a Maildir, as inetd would start it behind its login: commands in, answers out.

It cannot be installed beside Dovecot's (each is "the" pop3-server), so ``.ci/run`` unpacks the packages courier-pop and
courier-authlib, with the libraries they need, to ``courier-root/`` here.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent / "courier-root"
_PROGRAM = "usr/lib/courier/courier/courierpop3d"


def session(maildir: Path, *commands: str) -> list[str]:
    """Run a session on the Maildir; return the lines of all answers."""
    program = ROOT / _PROGRAM
    if not program.exists():
        pytest.fail(f"{program} is missing: see {__file__}, or leave tests/interop out (make test)")
    libraries = sorted({str(path.parent) for path in (ROOT / "usr").rglob("*.so.*")})
    done = subprocess.run(
        [str(program), f"./{maildir.name}"],
        input="".join(f"{command}\r\n" for command in [*commands, "QUIT"]).encode(),
        capture_output=True,
        cwd=maildir.parent,
        env={**os.environ, "AUTHENTICATED": "user1", "AUTHADDR": "user1", "LD_LIBRARY_PATH": ":".join(libraries)},
        timeout=30,
        check=False,
    )
    assert done.stdout.startswith(b"+OK"), (done.stdout, done.stderr)
    return done.stdout.decode("latin-1").split("\r\n")
