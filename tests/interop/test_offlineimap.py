"""offlineimap: both directions, and a second run that finds nothing to do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mailserver import ImapConfig, ImapServer
from mailserver.store.mailbox import Append, FlagOp
from mailserver.store.model.flags import Flag
from mailserver.store.store import Store

MESSAGE = b"From: a@example.com\r\nSubject: %d\r\nMessage-ID: <%d@example.com>\r\n\r\nbody\r\n"
SETTINGS = """\
[general]
accounts = test
ui = basic
metadata = {folder}/metadata
[Account test]
localrepository = local
remoterepository = remote
[Repository local]
type = Maildir
localfolders = {folder}/local
[Repository remote]
type = IMAP
remotehost = 127.0.0.1
remoteport = {port}
remoteuser = user
remotepass = pass
ssl = no
starttls = no
auth_mechanisms = PLAIN
"""


def put(store: Store, number: int) -> None:
    inbox = store.account("user").inbox
    with inbox.receive() as incoming:
        incoming.write(MESSAGE % (number, number))
        inbox.append([Append(incoming)])


def test_offlineimap(tmp_path: Path) -> None:
    assert shutil.which("offlineimap"), "run: apt install offlineimap3"
    config = ImapConfig(
        host="127.0.0.1", port=0, ssl_port=-1, mailbox_path=str(tmp_path / "mail"), users={"user": "pass"}
    )
    with ImapServer(config) as server:
        store = server.services.store
        for number in range(3):
            put(store, number)
        settings = tmp_path / "offlineimaprc"
        settings.write_text(SETTINGS.format(folder=tmp_path, port=server.port))

        def synchronise() -> str:
            command = ["offlineimap", "-o", "-c", str(settings)]
            environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        synchronise()
        local = tmp_path / "local/INBOX"
        files = sorted([*(local / "new").iterdir(), *(local / "cur").iterdir()])
        assert len(files) == 3
        (local / "cur/100.local.host:2,S").write_bytes((MESSAGE % (9, 9)).replace(b"\r\n", b"\n"))
        store.account("user").inbox.store_flags([1], FlagOp.ADD, Flag.FLAGGED)
        synchronise()
        messages = store.account("user").inbox.snapshot().messages
        assert [m.uid for m in messages] == [1, 2, 3, 4]
        assert messages[3].flags == Flag.SEEN
        files = [*(local / "new").iterdir(), *(local / "cur").iterdir()]
        assert sum("F" in path.name.partition(":2,")[2] for path in files) == 1
        before = store.account("user").inbox.snapshot().highestmodseq
        assert "Copy message" not in synchronise()
        assert store.account("user").inbox.snapshot().highestmodseq == before
