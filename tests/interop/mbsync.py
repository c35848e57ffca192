"""mbsync with a Maildir of its own, and a way to see that it had nothing to do."""

from __future__ import annotations

from pathlib import Path

from tests.interop.serving import run

_CONFIG = """
IMAPStore remote
{where}
User user1
Pass pass
SSLType {ssl}
{certificate}

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


class Mbsync:
    """One person's copy in ``home``."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.inbox = home / "mail" / "INBOX"
        (home / "mail").mkdir(parents=True)

    def sync(self, port: int, certificate: Path | None = None, tunnel: str = "") -> bool:
        """Synchronise; return whether anything here changed. ``tunnel``: a command that speaks IMAP, not a port."""
        before = self._state()
        words = {"ssl": "IMAPS", "certificate": f"CertificateFile {certificate}"}
        if certificate is None:
            words = {"ssl": "None", "certificate": ""}
        where = f"Host {'localhost' if certificate else '127.0.0.1'}\nPort {port}"
        if tunnel:
            script = self._home / "tunnel"
            script.write_text(f"#!/bin/sh\n{tunnel}\n")
            script.chmod(0o755)
            where = f'Tunnel "{script}"'
        (self._home / "rc").write_text(_CONFIG.format(where=where, home=self._home, **words))
        run(["mbsync", "-q", "-c", self._home / "rc", "-a"], self._home)
        return self._state() != before

    def messages(self, folder: str = "INBOX") -> list[Path]:
        """The files of a folder, oldest UID first."""
        found = [p for place in ("cur", "new") for p in (self._home / "mail" / folder / place).glob("*")]
        return sorted(found, key=lambda path: int(path.name.split(",U=")[1].split(":")[0].split(",")[0]))

    def _state(self) -> dict[str, object]:
        files = [path for path in (self._home / "mail").rglob("*") if path.is_file()]
        return {str(p): p.read_bytes() if p.name == ".mbsyncstate" else p.stat().st_ino for p in files}
