"""Clients for hours of mixed use: each call is one visit of one user with one program."""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import random
import smtplib
from collections.abc import Mapping
from pathlib import Path

from imapclient import IMAPClient

from tests.interop import mbsync
from tests.interop.serving import run

PASSWORD = "secret"


def message(rng: random.Random) -> bytes:
    """A letter, small or bigger, with an attachment now and then."""
    head = f"From: a@example.net\r\nSubject: letter {rng.randrange(1 << 32):x}\r\nMessage-ID: <{rng.random()}@x>\r\n"
    text = ("words of letter, line after line\r\n" * rng.choice((1, 20, 500))).encode()
    if rng.random() < 0.3:
        kind = 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\n'
        return (head + kind).encode() + text + b"--b\r\nContent-Type: image/png\r\n\r\n" + text + b"--b--\r\n"
    return head.encode() + b"\r\n" + text


class Visits:
    """Ports, and a home for each user's copies."""

    def __init__(self, ports: Mapping[str, int], homes: Path) -> None:
        self.ports = ports
        self.homes = homes

    def home(self, user: str, program: str) -> Path:
        """A directory of one program of one user."""
        home = self.homes / f"{user}-{program}"
        home.mkdir(parents=True, exist_ok=True)
        return home

    def smtplib(self, user: str, rng: random.Random) -> None:
        """A server that delivers some letters."""
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], "client.example.net", timeout=60) as client:
            for _ in range(rng.randint(1, 5)):
                client.sendmail("a@example.net", [f"{user}@example.com"], message(rng))

    def lmtp(self, user: str, rng: random.Random) -> None:
        """A neighbour that delivers one."""
        with smtplib.LMTP("127.0.0.1", self.ports["lmtp"], "client.example.net", timeout=60) as client:
            client.sendmail("a@example.net", [f"{user}@example.com"], message(rng))

    def swaks(self, user: str, rng: random.Random) -> None:
        """A letter by swaks."""
        words = ["--from", "a@example.net", "--to", f"{user}@example.com", "--helo", "client.example.net"]
        port = str(self.ports["smtp"])
        run(["swaks", "--server", "127.0.0.1", "--port", port, *words, "--silent"], self.home(user, "swaks"))

    def imaplib(self, user: str, rng: random.Random) -> None:
        """Reads, marks, searches, copies, tidies up."""
        with imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=60) as client:
            client.login(user, PASSWORD)
            client.select("INBOX")
            client.append("INBOX", "(\\Seen)", None, message(rng))  # type: ignore[arg-type]
            found = client.uid("SEARCH", "ALL")[1][0].split()
            client.uid("SEARCH", "SUBJECT", '"letter"')
            for number in rng.sample(found, min(3, len(found))):
                client.uid("FETCH", number, "(FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[])")
                client.uid("STORE", number, "+FLAGS", f"(\\Flagged k{rng.randrange(5)})")
                client.uid("COPY", number, rng.choice(("Archive", "Trash")))
            for box in ("INBOX", "Archive", "Trash"):
                self._tidy(client, box)

    def _tidy(self, client: imaplib.IMAP4, box: str) -> None:
        """Nobody keeps more than some dozens."""
        count = int(client.select(box)[1][0] or b"0")
        if count > 40:
            oldest = client.uid("SEARCH", "ALL")[1][0].split()[:-30]
            if oldest:
                client.uid("STORE", b",".join(oldest).decode(), "+FLAGS.SILENT", "(\\Deleted)")
            client.expunge()

    def imapclient(self, user: str, rng: random.Random) -> None:
        """Waits for mail; makes, renames and removes folders."""
        with IMAPClient("127.0.0.1", self.ports["imap"], ssl=False, timeout=60) as client:
            client.login(user, PASSWORD)
            client.select_folder("INBOX")
            client.idle()
            client.idle_check(timeout=rng.random())
            client.idle_done()
            name = f"Folder{rng.randrange(1 << 30)}"
            client.create_folder(name)
            client.append(name, message(rng))
            client.rename_folder(name, name + "b")
            client.select_folder(name + "b")
            client.fetch(client.search(), ["FLAGS", "RFC822.SIZE"])
            client.close_folder()
            client.delete_folder(name + "b")

    def poplib(self, user: str, rng: random.Random) -> None:
        """Takes some away; another visit may be there already."""
        client = poplib.POP3("127.0.0.1", self.ports["pop3"], timeout=60)
        try:
            client.user(user)
            client.pass_(PASSWORD)
            for number in range(1, min(client.stat()[0], 10) + 1):
                client.retr(number)
                if rng.random() < 0.7:
                    client.dele(number)
        except poplib.error_proto as error:
            if "IN-USE" not in str(error) and "expunged" not in str(error):
                raise
        with contextlib.suppress(poplib.error_proto, OSError):
            client.quit()
        client.close()

    def mbsync(self, user: str, rng: random.Random) -> None:
        """Keeps a copy; 1: another client took a message away meanwhile."""
        home = self.home(user, "mbsync")
        (home / "mail").mkdir(exist_ok=True)
        (home / "rc").write_text(mbsync.settings(home, self.ports["imap"], user, PASSWORD))
        run(["mbsync", "-q", "-c", home / "rc", "-a"], home, accept=(0, 1))

    def fetchmail(self, user: str, rng: random.Random) -> None:
        """Brings everything home; 1: nothing new, 4 and 9: another visit was there."""
        home = self.home(user, "fetchmail")
        account = f"user {user} password {PASSWORD}"
        poll = f"poll 127.0.0.1 protocol pop3 port {self.ports['pop3']} uidl {account}"
        (home / "rc").write_text(f'{poll} no rewrite fetchall mda "cat >> {home}/fetched"\n')
        (home / "rc").chmod(0o600)
        words = ["--fetchmailrc", home / "rc", "--invisible", "--sslproto", "", "--silent"]
        run(["fetchmail", *words], home, accept=(0, 1, 3, 4, 9, 13), environment={"FETCHMAILHOME": str(home)})
        (home / "fetched").unlink(missing_ok=True)
