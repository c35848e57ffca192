"""Clients of SMTP, LMTP and POP3 that write down what the server promised them."""

from __future__ import annotations

import poplib
import random
import smtplib
from collections.abc import Iterator, Sequence

from tests.concurrency.model import Model, message
from tests.concurrency.wire import Closed
from tests.crash.ledger import Ledger, Promise, new_token

_DOWN = (Closed, OSError, EOFError, poplib.error_proto, smtplib.SMTPException)
_LOCAL = ("carol", "dave")


def deliver(client: smtplib.LMTP, users: Sequence[str], octets: bytes) -> Iterator[str]:
    """Each user, as soon as the server has answered that the message is in that user's mailbox."""
    client.mail("sender@example.net")
    for user in users:
        client.rcpt(f"{user}@example.com")
    client.putcmd("data")
    assert client.getreply()[0] == 354
    client.send(octets + b".\r\n")
    for user in users:
        code, text = client.getreply()
        assert code == 250, text
        yield user


class SmtpClient:
    """Sends mail to carol, to carol and dave, to somebody elsewhere, and to here and there at once."""

    def __init__(self, port: int, ledger: Ledger, seed: int) -> None:
        self.port, self.ledger = port, ledger
        self.rng = random.Random(f"{seed}/smtp")

    def run(self) -> None:
        try:
            with smtplib.SMTP("127.0.0.1", self.port, "client.example.net", timeout=60) as client:
                while self.ledger.going:
                    self._send(client)
        except _DOWN:
            pass

    def _send(self, client: smtplib.SMTP) -> None:
        users = self.rng.choice((_LOCAL[:1], _LOCAL, (), _LOCAL))
        far = self.rng.random() < 0.4 or not users
        token = new_token("s")
        octets = message(token, self.rng.choice((0, 500, 30_000)))
        addresses = [f"{user}@example.com" for user in users] + (["x@elsewhere.example"] if far else [])
        refused = client.sendmail("sender@example.net", addresses, octets)
        assert not refused, refused
        for user in users:
            self.ledger.delivered[user, token] = octets
        self.ledger.did("SMTP" if users else "queue")
        if far:
            self.ledger.queued.add(token)


class LmtpClient:
    """Delivers to carol and dave; each has an answer of their own."""

    def __init__(self, port: int, ledger: Ledger, seed: int) -> None:
        self.port, self.ledger = port, ledger
        self.rng = random.Random(f"{seed}/lmtp")

    def run(self) -> None:
        try:
            with smtplib.LMTP("127.0.0.1", self.port, "client.example.net", timeout=60) as client:
                client.ehlo_or_helo_if_needed()
                while self.ledger.going:
                    token = new_token("l")
                    octets = message(token, self.rng.choice((0, 5000)))
                    for user in deliver(client, _LOCAL, octets):
                        self.ledger.delivered[user, token] = octets
                        self.ledger.did("LMTP")
        except _DOWN:
            pass


class PopClient:
    """Reads bob's maildrop, deletes some of it, and believes it to be gone after QUIT's +OK."""

    def __init__(self, port: int, imap: int, ledger: Ledger, seed: int) -> None:
        self.port, self.imap, self.ledger = port, imap, ledger
        self.rng = random.Random(f"{seed}/pop")

    def run(self) -> None:
        try:
            while self.ledger.going:
                self._fill()
                self._drain()
        except _DOWN:
            pass

    def _fill(self) -> None:
        with Model(self.imap, user="bob") as model:
            for _ in range(3):
                token = new_token("p")
                uid = int(model.require("APPEND INBOX {}", message(token)).code.split(" ")[2])
                self.ledger.promised("bob", uid, Promise(token, message(token)), "APPEND")

    def _drain(self) -> None:
        pop = poplib.POP3("127.0.0.1", self.port, timeout=60)
        try:
            pop.user("bob")
            pop.pass_("secret")
            doomed = []
            for line in pop.uidl()[1]:
                number, uidl = line.split(b" ")
                if self.rng.random() < 0.5:
                    pop.dele(int(number))
                    doomed.append(("bob", int(uidl[:8], 16)))
            self.ledger.unsure.update(doomed)
            pop.quit()
            for one in doomed:
                self.ledger.messages.pop(one, None)
                self.ledger.unsure.discard(one)
            self.ledger.did("QUIT")
        finally:
            pop.close()
