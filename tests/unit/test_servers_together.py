"""The real servers on one store, spoken to by the standard library's clients."""

from __future__ import annotations

import imaplib
import poplib

from mailserver.app import App


def test_what_imap_appends_pop3_retrieves(server: App) -> None:
    imap = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=10)
    assert imap.login("alice", "secret")[0] == "OK"
    assert imap.append("INBOX", "", "", b"Subject: hello\r\n\r\nbody\r\n")[0] == "OK"
    assert imap.select("INBOX") == ("OK", [b"1"])
    assert b"Subject: hello" in imap.fetch("1", "BODY[HEADER]")[1][0][1]
    imap.logout()
    pop3 = poplib.POP3("127.0.0.1", server.ports["pop3"], timeout=10)
    pop3.user("alice")
    pop3.pass_("secret")
    assert pop3.retr(1)[1] == [b"Subject: hello", b"", b"body"]
    pop3.quit()
