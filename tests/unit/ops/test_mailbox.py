"""``mailbox convert``, while a client has the mailbox selected."""

from __future__ import annotations

import imaplib
import json
import os
from pathlib import Path

import pytest

from mailserver.__main__ import main
from mailserver.app import App
from tests.unit.store.conftest import put
from tests.unit.store.test_renumber import put_at


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "m.toml"
    path.write_text(f"[storage]\nmailbox_path = '{tmp_path}/mail'\ndurability = 'relaxed'\n")
    return str(path)


@pytest.mark.parametrize("name", ["INBOX", "Sent"])
def test_a_session_is_told(server: App, config: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    mailbox = server.services.store.account("alice").mailbox(name)
    for number in range(3):
        put(mailbox, b"Subject: %d\r\n\r\n" % number, 8)
    mailbox.expunge([2])
    for format in ("mbox", "maildir"):
        client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30)
        client.login("alice", "secret")
        client.select(name)  # twice: the messages are not recent any more
        client.select(name)
        before = client.fetch("1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[])")[1]
        validity = client.untagged_responses["UIDVALIDITY"]
        assert main(["mailbox", "convert", "alice", name, format, "--config", config, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["messages"] == 2
        client.noop()
        with pytest.raises(imaplib.IMAP4.error):  # nothing is selected any more
            client.fetch("1:*", "(UID)")
        client.untagged_responses.clear()
        assert client.select(name)[0] == "OK"
        assert client.untagged_responses["UIDVALIDITY"] == validity
        assert client.fetch("1:*", "(UID FLAGS INTERNALDATE BODY.PEEK[])")[1] == before
        client.logout()
    assert main(["mailbox", "convert", "alice", name, "maildir", "--config", config]) == 0
    assert "already" in capsys.readouterr().err


def test_what_is_refused(server: App, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    inbox = server.services.store.account("alice").inbox
    put_at(inbox, 3, 8)
    path = Path(inbox.files.path, "dovecot-uidlist")  # POP3's order is another one
    path.write_text(path.read_text().replace("\n3 ", "\n3 O2 ").replace("\n8 ", "\n8 O1 "))
    assert main(["mailbox", "convert", "alice", "INBOX", "mbox", "--config", config]) == os.EX_DATAERR
    assert "--lose-unique-ids" in capsys.readouterr().err
    assert main(["mailbox", "convert", "alice", "INBOX", "mbox", "--config", config, "--lose-unique-ids"]) == 0
    assert main(["mailbox", "convert", "alice", "none", "mbox", "--config", config]) == os.EX_TEMPFAIL
    assert main(["mailbox", "convert", "nobody", "INBOX", "mbox", "--config", config]) == os.EX_NOUSER
