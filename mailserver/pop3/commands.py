"""What the commands do once somebody has logged in, and those that need no login."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailserver.net.connection import ConnectionLost
from mailserver.ops import metrics
from mailserver.pop3 import parse, stream
from mailserver.pop3.errors import Refused
from mailserver.store.content import Content
from mailserver.store.errors import StoreError

if TYPE_CHECKING:
    from mailserver.pop3.session import Session

_WHOLE = 1 << 18  # octets of a message that is sent in one piece
_HEADER = 1 << 16  # octets looked at to find UTF-8 in a header
_LANGUAGES = {"*", "en", "i-default"}


# RFC 1939 section 5: STAT: "+OK" SP number of messages SP size of the maildrop in octets
def stat(session: Session, _: None) -> None:
    """Count the maildrop."""
    items = session.maildrop.items()
    session.ok(f"{len(items)} {sum(item.size for item in items)}")


# RFC 1939 section 5: LIST [msg]: "scan listing"
def listing(session: Session, number: int | None) -> None:
    """List sizes."""
    if number is not None:
        item = session.maildrop.item(number)
        session.ok(f"{item.number} {item.size}")
        return
    items = session.maildrop.items()
    head = f"+OK {len(items)} messages ({sum(item.size for item in items)} octets)\r\n"
    session.conn.send((head + "".join([f"{item.number} {item.size}\r\n" for item in items]) + ".\r\n").encode())


# RFC 1939 section 7: UIDL [msg]: "unique-id listing"
def uidl(session: Session, number: int | None) -> None:
    """List unique-ids."""
    if number is not None:
        item = session.maildrop.item(number)
        session.ok(f"{item.number} {item.uidl}")
        return
    lines = [f"{item.number} {item.uidl}\r\n" for item in session.maildrop.items()]
    session.conn.send(("+OK Unique-ID listing follows\r\n" + "".join(lines) + ".\r\n").encode())


# RFC 1939 section 5: RETR msg
def retrieve(session: Session, number: int) -> None:
    """Send a message."""
    with session.maildrop.open(session.maildrop.item(number)) as file:
        _check_utf8(session, file)
        if file.size <= _WHOLE:
            session.conn.send(b"".join([b"+OK %d octets\r\n" % file.size, *stream.stuffed([file.read()])]))
        else:
            session.conn.send(b"+OK %d octets\r\n" % file.size)
            _send(session, stream.stuffed(file.chunks()))
    session.maildrop.retrieve(number)
    metrics.POP3_RETRIEVED.inc()


# RFC 1939 section 7: TOP msg n
def top(session: Session, wanted: parse.Top) -> None:
    """Send the header and some lines of the body."""
    with session.maildrop.open(session.maildrop.item(wanted.number)) as file:
        _check_utf8(session, file)
        session.conn.send(b"+OK Top of message follows\r\n")
        _send(session, stream.stuffed(stream.top(file.chunks(), wanted.lines)))


def _send(session: Session, chunks: Iterator[bytes]) -> None:
    """Send a multi-line response; once it has begun, nothing but the end of the connection can say that it failed."""
    try:
        for chunk in chunks:
            session.conn.send(chunk)
    except (OSError, StoreError) as error:
        raise ConnectionLost(f"the message could not be read: {error}") from error


# RFC 6856 section 2.1: "If a client requests a UTF-8 message when UTF-8 mode is not enabled, the server MUST either
# send the client a surrogate message [...] or fail the request with an -ERR response." We do so only when told to:
# messages with raw 8-bit headers are older than this rule, and a client that cannot fetch one is stuck at it.
def _check_utf8(session: Session, file: Content) -> None:
    if session.utf8 or not session.context.options.strict_utf8:
        return
    header = b"".join(stream.top([file.read_range(0, _HEADER)], 0))
    if not header.isascii():
        raise Refused("The message needs UTF8", "UTF8")


# RFC 1939 section 5: DELE msg
def delete(session: Session, number: int) -> None:
    """Mark a message as deleted."""
    session.maildrop.delete(number)
    session.ok("Message deleted")


# RFC 1939 section 5: RSET
def reset(session: Session, _: None) -> None:
    """Unmark all messages."""
    session.maildrop.reset()
    session.ok("Maildrop has been reset")


# RFC 1939 section 5: NOOP
def noop(session: Session, _: None) -> None:
    """Do nothing."""
    session.conn.send(b"+OK\r\n")


# RFC 1939 section 6: "the POP3 session enters the UPDATE state"; section 4: QUIT before login ends without it
def leave(session: Session, _: None) -> None:
    """Remove what is marked as deleted, if somebody is logged in, and end the session."""
    session.done = True
    if not session.logged_in:
        session.ok("POP3 server signing off")
        return
    drop = session.maildrop
    count = drop.update(delete=session.context.options.delete_on_quit)
    drop.close()  # before the answer: the client may come back at once
    if count:
        metrics.POP3_DELETED.inc(count)
    session.ok(f"POP3 server signing off ({count} messages deleted)")


# RFC 2449 section 5: CAPA
def capabilities(session: Session, _: None) -> None:
    """List what this server can."""
    from mailserver.pop3.table import announced  # the table names this function

    lines = "".join([f"{line}\r\n" for line in announced(session)])
    session.conn.send(f"+OK Capability list follows\r\n{lines}.\r\n".encode())


# RFC 6856 section 2.1: UTF8
def utf8(session: Session, _: None) -> None:
    """Send messages with UTF-8 headers as they are."""
    session.utf8 = True
    session.ok("UTF8 enabled")


# RFC 6856 section 3.2: LANG [language-range]
def language(session: Session, wanted: str | None) -> None:
    """Choose among the languages of our texts: there is English."""
    if wanted is None:
        session.conn.send(b"+OK Language listing follows:\r\nen English\r\n.\r\n")
    elif wanted.lower() in _LANGUAGES or wanted.lower().startswith("en-"):
        session.ok("en Language is English")
    else:
        raise Refused(f"Invalid language {wanted[:40]}")
