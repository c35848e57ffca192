"""When each defence is asked, whom it concerns, and what it answers.

Nothing here concerns who has logged in or comes from a trusted network, and mail for postmaster and abuse always passes
(RFC 5321 section 4.5.1): somebody must be able to tell us that a defence is wrong. What looks at the sender is asked at
RCPT and not before, so that the log says for whom the mail was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailserver.delivery.router import ALWAYS_HERE
from mailserver.delivery.target import Refused, Status
from mailserver.mail.addrspec import Address, is_host, literal_of, normal_domain
from mailserver.net.connection import Connection, TimedOut
from mailserver.net.limits import address_group
from mailserver.smtp.defence.dnsbl import Blocklists
from mailserver.smtp.defence.greylist import Greylist

if TYPE_CHECKING:
    from mailserver.smtp.session import Session

Count = Callable[[str, int], bool]  # name and cap: counts one, False when that would be too many

TOO_MANY_CONNECTIONS = Status(421, "4.7.0", "Too many connections from your address, come again in a minute")
TOO_MANY_MESSAGES = Status(450, "4.7.1", "Too many messages from your address, come again in a minute")
USER_MESSAGES = Status(450, "4.7.1", "You have sent as many messages as you may within an hour")
USER_RECIPIENTS = Status(450, "4.7.1", "You have written to as many recipients as you may within an hour")
EARLY = Status(554, "5.5.0", "You talked before the greeting")  # RFC 5321 section 4.3.1: "SHOULD wait"
FORGED_NAME = Status(550, "5.7.1", "You greeted with a name of this server")
NO_NAME = Status(550, "5.7.1", "You greeted with what is no full name of a host")


@dataclass(frozen=True, slots=True)
class Defence:
    """What is asked. 0, "off" and None ask nothing. ``per_minute`` and ``per_hour`` count over all workers."""

    per_minute: Count = lambda name, cap: True
    per_hour: Count = lambda name, cap: True
    connections: int = 0  # of an address, a minute
    messages: int = 0  # of an address, a minute
    user_messages: int = 0  # an hour
    user_recipients: int = 0  # an hour
    greeting_delay: float = 0.0
    hello: str = "off"
    blocklists: Blocklists | None = None
    greylist: Greylist | None = None
    tarpit: float = 0.0

    def connected(self, session: Session) -> Status | None:
        """A client has come; return why it must go."""
        if session.may_relay or session.conn.peer[0] == "unix":
            return None
        group = address_group(session.conn.peer[0])
        if not self.per_minute(f"connection {group}", self.connections):
            return TOO_MANY_CONNECTIONS
        if self.greeting_delay and _speaks_within(session.conn, self.greeting_delay):
            return EARLY
        return None

    def message(self, session: Session) -> None:
        """MAIL. Raises `Refused`."""
        if session.user is not None:
            if not self.per_hour(f"message {session.user}", self.user_messages):
                raise Refused(USER_MESSAGES)
        elif not session.may_relay and not self.per_minute(
            f"message {address_group(session.conn.peer[0])}", self.messages
        ):
            raise Refused(TOO_MANY_MESSAGES)

    def recipient(self, session: Session, sender: str, recipient: Address) -> None:
        """RCPT, for somebody who can have mail. Raises `Refused`."""
        if session.user is not None:
            if not self.per_hour(f"recipient {session.user}", self.user_recipients):
                raise Refused(USER_RECIPIENTS)
            return
        if session.may_relay or session.conn.peer[0] == "unix" or recipient.local.lower() in ALWAYS_HERE:
            return
        for check in (self._hello, self._listed):
            refused = check(session)
            if refused is not None:
                raise Refused(refused)
        self._wait(session, sender, recipient)

    # RFC 5321 section 4.1.4: a name that is not true "MUST NOT" be a reason; but nobody else has a name of ours
    def _hello(self, session: Session) -> Status | None:
        if self.hello == "off":
            return None
        name = normal_domain(session.hello or "")
        ours = (normal_domain(session.context.hostname), literal_of(session.conn.local[0]), session.conn.local[0])
        if name in ours:
            return FORGED_NAME
        full = is_host(session.hello or "") and ("." in name or name.startswith("["))
        return NO_NAME if self.hello == "strict" and not full else None

    def _listed(self, session: Session) -> Status | None:
        if self.blocklists is None:
            return None
        if session.listed is None:
            session.listed = self.blocklists.listed(session.conn.peer[0])
        zone = session.listed
        return Status(550, "5.7.1", f"{session.conn.peer[0]} is listed by {zone}") if zone else None

    def _wait(self, session: Session, sender: str, recipient: Address) -> None:
        if self.greylist is None:
            return
        seconds = self.greylist.wait(session.conn.peer[0], sender, str(recipient))
        if seconds:
            raise Refused(Status(450, "4.7.1", f"Not known here yet, come again in {int(seconds + 0.999)} seconds"))

    def slows(self, session: Session) -> float:
        """Return the seconds to wait before an answer that is a refusal; the first few mistakes cost nothing."""
        return 0.0 if session.may_relay or session.errors <= FREE_ERRORS else self.tarpit


def _speaks_within(conn: Connection, seconds: float) -> bool:
    """Wait so long; say whether the client sent something meanwhile. What it sent is kept."""
    before, conn.timeout = conn.timeout, seconds
    try:
        conn.push_back(conn.receive())
    except TimedOut:
        return False
    finally:
        conn.timeout = before
    return True


FREE_ERRORS = 3  # refusals without the tar pit: everybody mistypes an address
