"""The mail server as a process of its own, for tests that kill it, starve it, or want several workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
USERS = ("alice", "bob")
_PORTS = "host = '127.0.0.1'\nport = 0\nssl_port = -1\n"


def receiving(folder: Path, queue: str = "") -> dict[str, str]:
    """Settings for a server of example.com that takes mail for everywhere; ``queue``: further lines of that section."""
    return {
        "": "domains = ['example.com']",
        "smtp": "trusted_networks = ['127.0.0.0/8']",
        "submission": "port = -1\nssl_port = -1",
        "queue": f"path = '{folder / 'queue'}'\n{queue}",
    }


class Program:
    """``python -m mailserver`` with its files below ``folder``; users alice and bob, password ``secret``.

    ``extra``: further text of the settings. ``protocols`` may also name submission and lmtp. ``settings``: more
    lines for sections, by name, "" for those before the first.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 1,
        durability: str = "relaxed",
        mailbox_format: str = "maildir",
        wrapper: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        protocols: Sequence[str] = ("imap", "pop3"),
        mail: Path | None = None,
        extra: str = "",
        users: Sequence[str] = USERS,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.mail = mail or folder / "mail"
        self.log = folder / "log"
        (folder / "users").write_text("".join(f"{user}:{{PLAIN}}secret\n" for user in users))
        format, _, layout = mailbox_format.partition("-")  # mbox-fs: nested mboxes
        lines = f"format = '{format}'\nlayout = '{layout or 'maildir++'}'\n"
        sections = {
            "": "hostname = 'mail.example.com'\n",
            "storage": f"mailbox_path = '{self.mail}'\ndurability = '{durability}'\n" + lines,
            "server": f"workers = {workers}\ngrace_seconds = 2\n",
            "http": "port = -1\n",
            "limits": "max_connections_per_address = 0\n",
            **dict.fromkeys(protocols, _PORTS),
        }
        for name, lines in (settings or {}).items():
            sections[name] = sections.get(name, "") + lines + "\n"
        (folder / "m.toml").write_text(
            "".join((f"[{name}]\n" if name else "") + lines for name, lines in sections.items()) + extra
        )
        self._wrapper = list(wrapper)
        self._environment = environment
        self._protocols = [f"--{name}" for name in protocols if name in ("imap", "pop3", "smtp")]
        self.start()

    def start(self) -> None:
        """Start it (again) and wait until it takes connections."""
        reader, writer = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self._wrapper,
                    sys.executable,
                    "-m",
                    "mailserver",
                    *self._protocols,
                    "--config",
                    str(self.folder / "m.toml"),
                    "--ready-fd",
                    str(writer),
                ],
                pass_fds=[writer],
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **(self._environment or {})},
                start_new_session=True,
            )
        os.close(writer)
        with os.fdopen(reader) as ready:
            text = ready.readline()  # not to its end: a wrapper may keep the descriptor
        assert text, self.log.read_text()
        self.ports: dict[str, int] = json.loads(text)

    def kill(self) -> None:
        """SIGKILL for it and all its workers, at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def workers(self) -> list[int]:
        """The processes that serve: its children, or itself when it has none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children] or [self.process.pid]

    def kill_one(self, number: int) -> None:
        """SIGKILL for one worker; the supervisor starts another one."""
        workers = self.workers()
        os.kill(workers[number % len(workers)], signal.SIGKILL)

    def stop(self) -> None:
        """An orderly end."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is not None and self.process.poll() is None:
            self.kill()
        self.stop()
        text = self.log.read_text()
        assert "event=fault" not in text, text
        assert "Traceback" not in text, text
