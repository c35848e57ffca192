"""What the commands do once somebody has logged in, and those that need no login."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mailserver.mail import headers, surrogate
from mailserver.net.connection import ConnectionLost
from mailserver.ops import metrics
from mailserver.pop3 import parse, stream
from mailserver.pop3.errors import Refused
from mailserver.store.content import Content
from mailserver.store.errors import StoreError

if TYPE_CHECKING:
    from mailserver.pop3.session import Session

_WHOLE = 1 << 18  # octets of a message that is sent in one piece
_HEADER = 1 << 20  # octets of a header that are held to find UTF-8 in it; a longer one is no mail
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
    session.say((head + "".join([f"{item.number} {item.size}\r\n" for item in items]) + ".\r\n").encode())


# RFC 1939 section 7: UIDL [msg]: "unique-id listing"
def uidl(session: Session, number: int | None) -> None:
    """List unique-ids."""
    if number is not None:
        item = session.maildrop.item(number)
        session.ok(f"{item.number} {item.uidl}")
        return
    lines = [f"{item.number} {item.uidl}\r\n" for item in session.maildrop.items()]
    session.say(("+OK Unique-ID listing follows\r\n" + "".join(lines) + ".\r\n").encode())


# RFC 1939 section 5: RETR msg
def retrieve(session: Session, number: int) -> None:
    """Send a message."""
    item = session.maildrop.item(number)
    if item.size > session.context.options.max_message_size:
        raise Refused("The message is larger than what may be fetched by POP3", "SYS/PERM")
    whole = session.maildrop.read(item) if item.size <= _WHOLE and _as_is(session) else None
    if whole is not None:
        session.say(b"".join([b"+OK %d octets\r\n" % len(whole), *stream.stuffed([whole])]))
    else:
        with session.maildrop.open(item) as file:
            size, chunks = _octets(session, file)
            session.say(b"+OK %d octets\r\n" % size)
            _send(session, stream.stuffed(chunks))
    session.maildrop.retrieve(number)
    metrics.POP3_RETRIEVED.inc()


# RFC 1939 section 7: TOP msg n
def top(session: Session, wanted: parse.Top) -> None:
    """Send the header and some lines of the body."""
    with session.maildrop.open(session.maildrop.item(wanted.number)) as file:
        _, chunks = _octets(session, file)
        session.say(b"+OK Top of message follows\r\n")
        _send(session, stream.stuffed(stream.top(chunks, wanted.lines)))


def _send(session: Session, chunks: Iterator[bytes]) -> None:
    """Send a multi-line response; once it has begun, nothing but the end of the connection can say that it failed."""
    try:
        for chunk in chunks:
            session.say(chunk)
    except (OSError, StoreError) as error:
        session.flush()
        raise ConnectionLost(f"the message could not be read: {error}") from error


def _as_is(session: Session) -> bool:
    return session.utf8 or session.context.options.utf8_headers == "as-is"


# RFC 6856 section 2.1: "If a client requests a UTF-8 message when UTF-8 mode is not enabled, the server MUST either
# send the client a surrogate message [...] or fail the request with an -ERR response." Both only when told to: raw
# 8-bit headers are older than this rule, hardly a client says UTF8 and nearly all can read them; a surrogate breaks
# signatures, and a client that cannot fetch a message is stuck at it.
def _octets(session: Session, file: Content) -> tuple[int, Iterable[bytes]]:
    """Return size and octets of what this client is sent."""
    if _as_is(session):
        return file.size, file.chunks()
    beginning = file.read_range(0, _HEADER)
    header = beginning[: headers.end_of(beginning)]
    if header.isascii():
        return file.size, file.chunks()
    if session.context.options.utf8_headers == "refuse" or len(header) == _HEADER:
        raise Refused("The message needs UTF8", "UTF8")
    made = surrogate.header(header)
    return file.size + len(made) - len(header), itertools.chain([made], file.chunks(offset=len(header)))


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
    session.say(b"+OK\r\n")


# RFC 1939 section 6: "the POP3 session enters the UPDATE state"; section 4: QUIT before login ends without it
def leave(session: Session, _: None) -> None:
    """Remove what is marked as deleted, if somebody is logged in, and end the session."""
    session.done = True
    if not session.logged_in:
        session.ok("POP3 server signing off")
        return
    drop = session.maildrop
    count = drop.update()
    drop.close()  # before the answer: the client may come back at once
    if count:
        metrics.POP3_DELETED.inc(count)
    session.ok(f"POP3 server signing off ({count} messages deleted)")


# RFC 2449 section 5: CAPA
def capabilities(session: Session, _: None) -> None:
    """List what this server can."""
    from mailserver.pop3.table import announced  # the table names this function

    lines = "".join([f"{line}\r\n" for line in announced(session)])
    session.say(f"+OK Capability list follows\r\n{lines}.\r\n".encode())


# RFC 6856 section 2.1: UTF8
def utf8(session: Session, _: None) -> None:
    """Send messages with UTF-8 headers as they are."""
    session.utf8 = True
    session.ok("UTF8 enabled")


# RFC 6856 section 3.2: LANG [language-range]
def language(session: Session, wanted: str | None) -> None:
    """Choose among the languages of our texts: there is English."""
    if wanted is None:
        session.say(b"+OK Language listing follows:\r\nen English\r\n.\r\n")
    elif wanted.lower() in _LANGUAGES or wanted.lower().startswith("en-"):
        session.ok("en Language is English")
    else:
        raise Refused(f"Invalid language {wanted[:40]}")
