"""A Dovecot of its own for a test: started in a temporary directory on free loopback ports, stopped at the end.

    with Dovecot() as d:
        imaplib.IMAP4("127.0.0.1", d.imap_port).login("user1", "pass")

``d.mail_root / "user1"`` is that user's Maildir. Dovecot gives the mail its own user, hence it must be started by
root; without it the test fails.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import pytest

_PROGRAM = "/usr/sbin/dovecot"

_CONFIG = """
protocols = imap pop3
listen = 127.0.0.1
base_dir = {base}/run
state_dir = {base}/state
log_path = {base}/dovecot.log
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
mail_location = maildir:{base}/mail/%u{layout}
mail_max_userip_connections = 1000
default_process_limit = 100
default_client_limit = 1000
first_valid_uid = 1
first_valid_gid = 1
{extra}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {base}/users
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={base}/home/%u
}}
namespace inbox {{
  inbox = yes
  separator = {separator}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap_port}
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3_port}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""


def available() -> str:
    """Return why no Dovecot can be started here; empty when one can."""
    if not os.access(_PROGRAM, os.X_OK):
        return "Dovecot is not installed"
    if os.getuid() != 0:
        return "Dovecot must be started by root"
    return ""


def version() -> str:
    """Return the installed version, e.g. ``2.3.19.1``."""
    done = subprocess.run([_PROGRAM, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


class Dovecot:
    """A running Dovecot; ``users`` all have the password ``pass``, ``extra`` is further configuration.

    Without a ``directory`` it makes one of its own, which goes with it. pytest's does not serve: it is closed to other
    users again whenever a pytest starts, and its path is too long for sockets.
    """

    password = "pass"

    def __init__(
        self,
        directory: Path | None = None,
        users: tuple[str, ...] = ("user1", "user2"),
        extra: str = "",
        separator: str = "/",
        layout: str = "",
        passwords: Mapping[str, str] | None = None,
    ) -> None:
        """``layout``: what follows the place of the mail, ``:LAYOUT=fs``; ``passwords``: fields of the passwd-file."""
        self._own = directory is None
        self.base = directory / "dovecot" if directory else Path(tempfile.mkdtemp(prefix="dovecot"))
        self.users = users
        self.mail_root = self.base / "mail"
        self.imap_port = 0
        self.pop3_port = 0
        self._extra = extra
        self._separator = separator
        self._layout = layout
        self._passwords = passwords or {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Dovecot:
        if reason := available():
            pytest.fail(f"{reason}; leave tests/interop out (make test), or see to it")
        self._prepare()
        for _ in range(5):  # a port that was free may be taken by others before Dovecot binds it
            self.imap_port, self.pop3_port = _free_ports(2)
            if self._start():
                return self
        raise RuntimeError(f"Dovecot does not start: {self.log()[-2000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._own:
            shutil.rmtree(self.base, ignore_errors=True)

    def log(self) -> str:
        """Return what it has logged so far."""
        path = self.base / "dovecot.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def deliver(self, user: str, messages: list[bytes], folder: str = "") -> list[Path]:
        """Write messages, octets as they are, into the user's Maildir; they get UIDs in this order."""
        root = self.mail_root / user / folder
        for name in ("cur", "new", "tmp"):
            (root / name).mkdir(parents=True, exist_ok=True)
        paths = []
        for number, octets in enumerate(messages):
            path = root / "cur" / f"1500000000.M{number:08d}P1.test:2,"
            path.write_bytes(octets)
            paths.append(path)
        self.own(self.mail_root / user)
        return paths

    def own(self, path: Path) -> None:
        """Give a tree of files to the user that Dovecot reads mail as."""
        for where, _, files in os.walk(path):
            shutil.chown(where, "mail", "mail")
            for name in files:
                shutil.chown(os.path.join(where, name), "mail", "mail")

    def stop(self) -> None:
        """Stop it and wait until it has gone; idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None

    def _prepare(self) -> None:
        for name in ("run", "state", "mail", "home"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        fields = {user: self._passwords.get(user, f"{{PLAIN}}{self.password}") for user in self.users}
        (self.base / "users").write_text("".join(f"{user}:{field}::::::\n" for user, field in fields.items()))
        shutil.chown(self.mail_root, "mail", "mail")
        shutil.chown(self.base / "home", "mail", "mail")
        if self._own:
            self.base.chmod(0o755)

    def _start(self) -> bool:
        config = self.base / "dovecot.conf"
        config.write_text(
            _CONFIG.format(
                base=self.base,
                imap_port=self.imap_port,
                pop3_port=self.pop3_port,
                extra=self._extra,
                separator=self._separator,
                layout=self._layout,
            )
        )
        with (self.base / "dovecot.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_PROGRAM, "-F", "-c", config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process.poll() is None:
            if all(_answers(port) for port in (self.imap_port, self.pop3_port)):
                return True
            time.sleep(0.02)
        self.stop()
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False
