"""mbsync with a Maildir of its own, and a way to see that it had nothing to do."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.interop.serving import run

_CONFIG = """
IMAPStore remote
{where}

MaildirStore local
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :remote:
Near :local:
Patterns *
Create Near
Expunge Both
CopyArrivalDate yes
SyncState *
"""


def settings(home: Path, port: int, user: str, password: str, certificate: Path | None = None, tunnel: str = "") -> str:
    """What mbsync is to do: keep a copy of everything in ``home``. ``tunnel``: a program that speaks IMAP."""
    host = "localhost" if certificate else "127.0.0.1"
    where = [f'Tunnel "{tunnel}"'] if tunnel else [f"Host {host}", f"Port {port}"]
    where += [f"User {user}", f"Pass {password}", f"SSLType {'IMAPS' if certificate else 'None'}"]
    where += [f"CertificateFile {certificate}"] if certificate else []
    return _CONFIG.format(where="\n".join(where), home=home)


class Mbsync:
    """One person's copy in ``home``."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.inbox = home / "mail" / "INBOX"
        (home / "mail").mkdir(parents=True)

    def sync(self, port: int, certificate: Path | None = None, tunnel: str = "") -> bool:
        """Synchronise; return whether anything here changed. ``tunnel``: a command that speaks IMAP, not a port."""
        before = self._state()
        program = ""
        if tunnel:
            script = self._home / "tunnel"
            script.write_text(f"#!/bin/sh\n{tunnel}\n")
            script.chmod(0o755)
            program = str(script)
        (self._home / "rc").write_text(settings(self._home, port, "user1", "pass", certificate, program))
        run(["mbsync", "-q", "-c", self._home / "rc", "-a"], self._home)
        return self._state() != before

    def forget(self, folder: str) -> None:
        """Give up the copy of a folder that is not there any more."""
        shutil.rmtree(self._home / "mail" / folder)

    def messages(self, folder: str = "INBOX") -> list[Path]:
        """The files of a folder, oldest UID first."""
        found = [p for place in ("cur", "new") for p in (self._home / "mail" / folder / place).glob("*")]
        return sorted(found, key=lambda path: int(path.name.split(",U=")[1].split(":")[0].split(",")[0]))

    def _state(self) -> dict[str, object]:
        files = [path for path in (self._home / "mail").rglob("*") if path.is_file()]
        return {str(p): p.read_bytes() if p.name == ".mbsyncstate" else p.stat().st_ino for p in files}
