"""One message over one connection: MAIL to the end of the data, with what the server at the other end can.

Commands go in one piece where PIPELINING is known (RFC 2920), the message by BDAT where CHUNKING is (RFC 3030). What
the server does not know is converted or refused before anything is said.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mailserver.delivery.queue.client import Broken, Client, Reply
from mailserver.delivery.target import Envelope, Recipient, Status
from mailserver.mail import headers
from mailserver.mail.addrspec import BadAddress, normal_domain, parse
from mailserver.mail.convert import Mapped, Unconvertible, convert
from mailserver.mail.lines import CrlfWriter

_CHUNK = 1 << 17
_TOGETHER = 100  # recipients said in one piece: so many replies fit into the buffers on the way
_HEADER = 1 << 20  # octets in which a header is looked for
FINAL_SECONDS = 600.0  # RFC 5321 section 4.5.3.2.6: 10 minutes for the reply to the end of the data

LOST = Status(451, "4.4.2", "The connection was lost")
NEEDS_UTF8 = Status(553, "5.6.7", "The next mail server does not know SMTPUTF8")
TOO_BIG = Status(552, "5.3.4", "Too big for the next mail server")
UNCONVERTIBLE = Status(554, "5.6.3", "The next mail server cannot take these octets, and they cannot be converted")
NO_DELIVERBY = Status(554, "5.4.7", "The next mail server does not know DELIVERBY")
NOT_IN_TIME = Status(554, "5.4.7", "The next mail server does not deliver in that time")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recipient. ``peer`` is who said it; ``dsn``: the peer reports to the sender itself.

    ``tell``: DELIVERBY wants the sender to hear that it was passed on (RFC 2852).
    """

    status: Status
    peer: str = ""
    dsn: bool = False
    tell: bool = False


class Transfer:
    """See the module. ``answered``: the server has replied to something of this message; ``sent``: it may have it."""

    def __init__(
        self, client: Client, envelope: Envelope, path: str, size: int, recipients: Sequence[Recipient]
    ) -> None:
        self._client = client
        self._envelope = envelope
        self._path = path
        self._size = size
        self._recipients = recipients
        self._features = client.features
        self._dsn = "DSN" in client.features
        self._utf8 = envelope.utf8 or not all(a.isascii() for a in (envelope.sender, *(r.address for r in recipients)))
        self._ascii_domains = False
        self.answered = False
        self.sent = False
        self.clean = True  # no transaction is left open

    def run(self) -> list[Outcome]:
        """Return the outcomes, in order. Raises `Broken` when the connection ends before the server has decided."""
        refused = self._cannot()
        if refused is not None:
            return [Outcome(refused, self._client.host)] * len(self._recipients)
        converted = ""
        try:
            target = self._conversion()
            if target:
                converted = f"{self._path}.{target.decode()}-{id(self)}"
                self._convert(converted, target)
            return [self._outcome(status) for status in self._batches()]
        except Unconvertible:
            return [Outcome(UNCONVERTIBLE, self._client.host)] * len(self._recipients)
        finally:
            if converted:
                os.unlink(converted)

    def _outcome(self, status: Status) -> Outcome:
        envelope = self._envelope
        known = "DELIVERBY" in self._features
        tell = status.ok and bool(envelope.by_mode) and (envelope.by_trace or not known)
        return Outcome(status, self._client.host, self._dsn, tell)

    # -- what the server cannot

    def _cannot(self) -> Status | None:
        if self._utf8 and "SMTPUTF8" not in self._features and not self._downgraded():
            return NEEDS_UTF8
        limit = self._features.get("SIZE", "")
        if limit.isdigit() and 0 < int(limit) < self._size:  # RFC 1870 section 6: 0 is no limit
            return TOO_BIG
        return self._late()

    # RFC 6531 section 3.2: a message may go to a server without SMTPUTF8 when nothing of it needs that: domains have
    # another spelling (RFC 5891 section 4.4), local parts and header fields have none
    def _downgraded(self) -> bool:
        try:
            addresses = [self._envelope.sender, *(r.address for r in self._recipients)]
            parsed = [parse(address) for address in addresses if address]
        except BadAddress:
            return False
        if not all(one.local.isascii() and normal_domain(one.domain).isascii() for one in parsed):
            return False
        with open(self._path, "rb") as file:
            if not headers.split(file.read(_HEADER))[0].isascii():
                return False
        self._utf8, self._ascii_domains = False, True
        return True

    # RFC 2852: with R the message may go only to a server that keeps the promise, and has the time for it
    def _late(self) -> Status | None:
        if self._envelope.by_mode != "R":
            return None
        if "DELIVERBY" not in self._features:
            return NO_DELIVERBY
        least = self._features["DELIVERBY"].split(",")[0]
        return NOT_IN_TIME if self._time_left() < max(1, int(least) if least.isdigit() else 0) else None

    def _time_left(self) -> int:
        return int(self._envelope.by - time.time())

    # RFC 6152 section 3: without 8BITMIME the message is converted or comes back; RFC 3030 section 3 for binary
    def _conversion(self) -> bytes:
        eight = "8BITMIME" in self._features
        if self._envelope.binary:
            if self._chunking and "BINARYMIME" in self._features:
                return b""
            return b"8bit" if eight else b"7bit"
        return b"7bit" if self._envelope.body == "8BITMIME" and not eight else b""

    # What goes out has no line that ends with LF alone, wherever it stood: a server that takes "LF.LF" for the end of
    # the data would take the rest for commands.
    def _convert(self, path: str, target: bytes) -> None:
        lines = CrlfWriter()
        with open(self._path, "rb") as source, open(path, "wb") as file:
            if os.fstat(source.fileno()).st_size:
                with Mapped(source.fileno(), 0, access=1) as octets:
                    for piece in convert(octets, target):  # type: ignore[arg-type]  # it can what is asked of it
                        file.write(lines.convert(piece))
            self._size = file.tell()
        self._path = path
        self._envelope = replace(self._envelope, body="8BITMIME" if target == b"8bit" else "")

    # -- what is said

    @property
    def _chunking(self) -> bool:
        return "CHUNKING" in self._features

    # RFC 9422: LIMITS RCPTMAX: so many recipients in one transaction
    def _batches(self) -> list[Status]:
        limit = limits_of(self._features).get("RCPTMAX", 0) or len(self._recipients)
        statuses: list[Status] = []
        for start in range(0, len(self._recipients), limit):
            if not self.clean:
                self.reset()
            batch = self._recipients[start : start + limit]
            try:
                statuses += self._transaction(batch)
            except Broken:
                if not statuses:
                    raise
                return statuses + [LOST] * (len(self._recipients) - len(statuses))
        return statuses

    def reset(self) -> None:
        """Leave a transaction that came to nothing. Raises `Broken`."""
        self._client.say("RSET")
        self.clean = True

    def _transaction(self, recipients: Sequence[Recipient]) -> list[Status]:
        mail = f"MAIL FROM:<{self._address(self._envelope.sender)}>{self._mail_parameters()}"
        rcpts = [f"RCPT TO:<{self._address(r.address)}>{self._rcpt_parameters(r)}" for r in recipients]
        pipelining = "PIPELINING" in self._features
        last = "DATA" if pipelining and not self._chunking else ""
        self.clean = False
        replies = self._say_all([mail, *rcpts, *([last] if last else [])], together=pipelining)
        ready = replies.pop() if last else None
        first, statuses = replies[0].status, [reply.status for reply in replies[1:]]
        if not first.ok:
            self._decline(ready)
            return [first] * len(recipients)
        if not any(status.ok for status in statuses):
            self._decline(ready)
            return statuses
        final = self._message(ready)
        self.clean = final.code != 421
        return [final if status.ok else status for status in statuses]

    def _say_all(self, lines: Sequence[str], *, together: bool) -> list[Reply]:
        replies: list[Reply] = []
        step = _TOGETHER if together else 1
        for start in range(0, len(lines), step):
            piece = lines[start : start + step]
            self._client.send("".join(f"{line}\r\n" for line in piece).encode())
            for _ in piece:
                replies.append(self._client.reply())
                self.answered = True
                if replies[-1].code == 421:  # RFC 5321 section 3.8: it hangs up, and answers nothing more
                    replies += [replies[-1]] * (len(lines) - len(replies))
                    return replies
            if not together and start == 0 and replies[0].code >= 400:
                return replies  # MAIL was refused: nothing more to ask
        return replies

    # RFC 2920 section 3.1: "If none of the RCPT TO commands were accepted [and] the DATA command gets a 354, the client
    # SHOULD send a single dot"
    def _decline(self, ready: Reply | None) -> None:
        if ready is not None and ready.code == 354:
            self._client.say(".")
            self.clean = True

    def _message(self, ready: Reply | None) -> Status:
        client = self._client
        self.sent = True
        try:
            if self._chunking:
                client.send(f"BDAT {self._size} LAST\r\n".encode())
                client.send_file(self._path)
                return client.reply(FINAL_SECONDS).status
            ready = ready or client.say("DATA")
            if ready.code != 354:
                return ready.status if not ready.status.ok else LOST
            for piece in stuffed(self._path):
                client.send(piece)
        except Broken:
            return self._last_word()
        return client.reply(FINAL_SECONDS).status

    def _last_word(self) -> Status:
        """The server stopped taking octets: perhaps it says why."""
        reply = self._client.reply(5.0)
        if reply.code < 400:
            raise Broken("the server stopped taking octets")
        return reply.status

    def _address(self, address: str) -> str:
        if not self._ascii_domains or not address:
            return address
        parsed = parse(address)
        return str(parsed.with_domain(normal_domain(parsed.domain)))

    def _mail_parameters(self) -> str:
        envelope, features = self._envelope, self._features
        words = [f"SIZE={self._size}"] if "SIZE" in features else []
        if envelope.binary:
            words.append("BODY=BINARYMIME")
        elif envelope.body == "8BITMIME" and "8BITMIME" in features:
            words.append("BODY=8BITMIME")
        if self._utf8:
            words.append("SMTPUTF8")
        if self._dsn and envelope.ret:
            words.append(f"RET={envelope.ret}")
        if self._dsn and envelope.envid:
            words.append(f"ENVID={_xtext(envelope.envid)}")
        if envelope.tls == "required" and "REQUIRETLS" in features:
            words.append("REQUIRETLS")
        if envelope.by_mode and "DELIVERBY" in features:
            words.append(f"BY={self._time_left()};{envelope.by_mode}{'T' if envelope.by_trace else ''}")
        if envelope.priority and "MT-PRIORITY" in features:
            words.append(f"MT-PRIORITY={envelope.priority}")
        return "".join(f" {word}" for word in words)

    # RFC 3461 section 5.2.1: parameters go along to a server that knows them
    def _rcpt_parameters(self, recipient: Recipient) -> str:
        if not self._dsn:
            return ""
        words = f" NOTIFY={recipient.notify}" if recipient.notify else ""
        kind, _, text = recipient.orcpt.partition(";")
        return words + (f" ORCPT={kind};{_xtext(text)}" if text and text.isascii() else "")


def limits_of(features: dict[str, str]) -> dict[str, int]:
    """Return the numbers of LIMITS (RFC 9422): RCPTMAX, MAILMAX and what else is said."""
    pairs = [word.partition("=") for word in features.get("LIMITS", "").split()]
    return {name.upper(): int(value) for name, _, value in pairs if value.isdigit() and len(value) < 10}


# RFC 5321 section 4.5.2: a period at the beginning of a line is doubled
def stuffed(path: str) -> Iterator[bytes]:
    """Yield the octets of a file as DATA wants them, the end included. The file's lines end with CRLF."""
    last = b"\r\n"
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            out = data.replace(b"\r\n.", b"\r\n..")
            if last == b"\r\n" and data.startswith(b"."):
                out = b"." + out
            elif last.endswith(b"\r") and data.startswith(b"\n."):
                out = b"\n." + out[1:]
            yield out
            last = (last + data[-2:])[-2:]
    yield b".\r\n" if last == b"\r\n" else b"\r\n.\r\n"


# RFC 3461 section 4: xtext; what is not ASCII becomes octets of UTF-8
def _xtext(text: str) -> str:
    return "".join(chr(o) if 33 <= o <= 126 and o not in b"+=" else f"+{o:02X}" for o in text.encode())
