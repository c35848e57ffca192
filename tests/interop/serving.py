"""This server over a directory of Maildirs, for the programs of others; and those programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mailserver.app import PROTOCOLS, App
from mailserver.config.schema import (
    AuthConfig,
    HttpConfig,
    ImapConfig,
    LmtpConfig,
    Pop3Config,
    QueueConfig,
    ServerConfig,
    Settings,
    SmtpConfig,
    StorageConfig,
    SubmissionConfig,
    TlsConfig,
)

PASSWORD = "pass"


def serve(
    mail: Path,
    users: Sequence[str] = ("user1", "user2"),
    certificate: tuple[Path, Path] | None = None,
    pop3: Mapping[str, Any] | None = None,
    storage: Mapping[str, Any] | None = None,
    users_file: Path | None = None,
) -> App:
    """An App, not yet started, of IMAP, POP3, SMTP and LMTP on free ports of loopback; TLS ports with a certificate.

    ``pop3``, ``storage``: settings of these sections. ``users_file``: who has which password, instead of ``users``.
    """
    ports = {"host": "127.0.0.1", "port": 0, "ssl_port": 0 if certificate else -1}
    tls = TlsConfig(certificate=str(certificate[0]), private_key=str(certificate[1])) if certificate else TlsConfig()
    settings = Settings(
        hostname="mail.example.com",
        domains=("example.com",),
        storage=StorageConfig(**{"mailbox_path": str(mail), "durability": "relaxed", **(storage or {})}),
        auth=AuthConfig(users_file=str(users_file), allow_weak_schemes=True) if users_file else AuthConfig(),
        tls=tls,
        imap=ImapConfig(**ports),
        pop3=Pop3Config(**ports, **(pop3 or {})),
        smtp=SmtpConfig(host="127.0.0.1", port=0),
        lmtp=LmtpConfig(host="127.0.0.1", port=0),
        http=HttpConfig(port=-1),
        submission=SubmissionConfig(port=-1, ssl_port=-1),
        queue=QueueConfig(path=str(mail.parent / "queue")),
        server=ServerConfig(grace_seconds=2, log_level="error"),
    )
    return App(settings, PROTOCOLS, users=None if users_file else dict.fromkeys(users, PASSWORD))


def program(name: str) -> str:
    """The path of a program these tests need; the test fails without it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install it, or leave tests/interop out (make test)")
    return found


def run(
    arguments: Sequence[str | Path],
    home: Path,
    octets: bytes | None = None,
    accept: Sequence[int] = (0,),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program with a home directory of its own, which holds nothing of the person who tests."""
    variables = {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", **(environment or {})}
    done = subprocess.run(
        [program(str(arguments[0])), *map(str, arguments[1:])],
        input=octets,
        stdin=None if octets is not None else subprocess.DEVNULL,
        capture_output=True,
        env=variables,
        cwd=home,
        timeout=180,  # some sync each of hundreds of messages, on a disk that others use too
        check=False,
    )
    assert done.returncode in accept, (arguments, done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    return done
