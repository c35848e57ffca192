"""imapflow, the IMAP library of Node.js programs, with QRESYNC."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from mailserver import ImapConfig, ImapServer

NODE = Path(__file__).parent / "node"


def test_imapflow(tmp_path: Path) -> None:
    assert (NODE / "node_modules/imapflow").exists(), f"run: npm install --prefix {NODE}"
    config = ImapConfig(host="127.0.0.1", port=0, ssl_port=-1, mailbox_path=str(tmp_path), users={"user": "pass"})
    with ImapServer(config) as server:
        command = ["node", str(NODE / "talk.js"), str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert ["Sent", "\\Sent"] in said["folders"]
    assert said["told"]["exists"] == [1]
    assert said["source"].endswith("Hello Bob\r\n")
    assert (said["subject"], said["found"]) == ("Hello", [1])
    assert any({"\\Flagged", "\\Seen", "Work"} <= set(flags) for _, flags in said["told"]["flags"])
    assert said["moved"] == [[1, 1]]
    assert (said["status"]["messages"], said["status"]["unseen"], said["status"]["uidNext"]) == (1, 0, 2)
