"""The fixture that other people's test suites use."""

from __future__ import annotations

import imaplib
import poplib
import smtplib

import pytest

from mailserver.testing import plugin
from mailserver.testing.server import MailServer

MESSAGE = b"From: alice@localhost\r\nTo: bob@localhost\r\nSubject: hello\r\n\r\nHello, Bob\r\n"


def test_it_is_there_with_the_package(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.get_plugin("postkeep") is plugin


def test_a_message_from_one_user_to_the_other(mail_server: MailServer) -> None:
    with smtplib.SMTP(mail_server.host, mail_server.submission_port) as smtp:
        smtp.login("alice", "secret")
        smtp.sendmail("alice@localhost", ["bob@localhost"], MESSAGE)
    (message,) = mail_server.messages("bob")
    assert message.endswith(MESSAGE.partition(b"\r\n\r\n")[2])
    with imaplib.IMAP4(mail_server.host, mail_server.imap_port) as imap:
        imap.login("bob", "secret")
        assert imap.select() == ("OK", [b"1"])
    pop3 = poplib.POP3(mail_server.host, mail_server.pop3_port)
    pop3.user("bob")
    pop3.pass_("secret")
    assert pop3.stat() == (1, len(message))
    pop3.quit()


def test_a_message_from_outside(mail_server: MailServer) -> None:
    with smtplib.SMTP(mail_server.host, mail_server.smtp_port) as smtp:
        smtp.sendmail("somebody@example.net", ["alice@example.com"], MESSAGE)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail("somebody@example.net", ["alice@example.net"], MESSAGE)
    assert len(mail_server.messages("alice")) == 1


def test_a_mailbox_that_is_filled_beforehand(mail_server: MailServer) -> None:
    assert mail_server.deliver("alice", MESSAGE, "Lists/python") == 1
    assert mail_server.messages("alice", "Lists/python") == [MESSAGE]
