"""DATA and BDAT: the message itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mailserver.delivery.target import Delivery, Recipient, Refused, Status
from mailserver.delivery.webhook import Receipt
from mailserver.net.connection import TimedOut
from mailserver.ops import metrics
from mailserver.smtp import grammar, replies, trace
from mailserver.smtp.data import DotReader
from mailserver.smtp.errors import BadCommand
from mailserver.smtp.head import Header, authors
from mailserver.smtp.trace import Trace
from mailserver.smtp.transaction import Body, Transaction

if TYPE_CHECKING:
    from mailserver.smtp.session import Session


# RFC 5321 section 4.1.1.4: "If there was no MAIL, or no RCPT, command, or all such commands were rejected, the server
# MAY return a 'command out of sequence' (503) or 'no valid recipients' (554) reply in response to the DATA command."
# RFC 2033 section 4.2: LMTP "MUST" say 503.
def data(session: Session, _: None) -> None:
    """Take a message up to CRLF.CRLF and deliver it."""
    transaction = session.transaction
    assert transaction is not None
    if transaction.body is not None:
        raise BadCommand(replies.CHUNKS_BEGUN)
    if transaction.mail.body == "BINARYMIME":  # RFC 3030 section 3: "a 503 [...] MUST be sent", and then RSET
        transaction.failed = True
        raise BadCommand(replies.DATA_IS_BINARY)
    if not transaction.recipients:
        if transaction.refused and not session.context.flavour.lmtp:
            raise Refused(replies.NO_RECIPIENTS)
        raise Refused(replies.RCPT_FIRST)
    body = _begin(session, transaction)
    session.reply(replies.GO_ON)
    session.flush()
    try:
        _receive(session, transaction, body)
    except BaseException:
        body.abort()
        raise
    _conclude(session, transaction, body)


def _receive(session: Session, transaction: Transaction, body: Body) -> None:
    reader = DotReader()
    while not reader.done:
        body.write(reader.feed(_octets(session, transaction)))
    session.conn.push_back(reader.rest)


def _octets(session: Session, transaction: Transaction | None) -> bytes:
    """Return the next octets of a message; all of them together have one deadline. Raises `TimedOut`."""
    conn, options = session.conn, session.context.options
    if not options.max_transfer or transaction is None:
        return conn.receive()
    if not transaction.deadline:
        transaction.deadline = time.monotonic() + options.max_transfer
    left = transaction.deadline - time.monotonic()
    if left <= 0:
        raise TimedOut
    conn.timeout = min(left, options.timeout)
    return conn.receive()


# RFC 3030 section 2: "The message data is sent immediately after the trailing <CR> <LF> of the BDAT command line."
# It is read whatever is wrong, so that both sides stay in step.
def bdat(session: Session, wanted: grammar.Chunk) -> None:
    """Take a chunk; with LAST, deliver."""
    transaction = session.transaction
    problem = _chunk_problem(session, transaction)
    body = transaction.body if transaction is not None else None
    if problem is None and body is None:
        assert transaction is not None
        body = transaction.body = _begin(session, transaction)
    if body is not None and wanted.size + body.size > session.context.options.max_message_size:
        body.refuse(Refused(replies.TOO_BIG))
    _receive_chunk(session, wanted.size, transaction, body if problem is None else None)
    session.conn.timeout = session.context.options.timeout
    if problem is not None:
        raise problem
    assert transaction is not None
    assert body is not None
    if wanted.last:
        _conclude(session, transaction, body)
    elif body.problem is not None:
        transaction.failed = True
        raise body.problem
    else:
        session.reply(Status(250, "2.0.0", f"{wanted.size} octets received"))


def _chunk_problem(session: Session, transaction: Transaction | None) -> Exception | None:
    if transaction is None:
        return Refused(session.needs_hello or replies.MAIL_FIRST)
    if transaction.failed:
        return BadCommand(replies.BDAT_FAILED)
    if not transaction.recipients:
        lenient = transaction.refused and not session.context.flavour.lmtp
        return Refused(replies.NO_RECIPIENTS if lenient else replies.RCPT_FIRST)
    return None


def _receive_chunk(session: Session, size: int, transaction: Transaction | None, body: Body | None) -> None:
    conn = session.conn
    left = size
    while left:
        if not conn.buffered:
            session.flush()  # the client may want the answers to what it sent before
        octets = _octets(session, transaction)
        if len(octets) > left:
            conn.push_back(octets[left:])
            octets = octets[:left]
        left -= len(octets)
        if body is not None:
            body.write(octets)


def _begin(session: Session, transaction: Transaction) -> Body:
    options = session.context.options

    def open_delivery(header: Header) -> Delivery:
        _check_from(session, header)
        delivery = session.context.router.start(
            transaction.envelope(session.user or "", header, per_recipient=session.context.flavour.lmtp)
        )
        try:
            for accepted in transaction.recipients:
                for place in accepted.places:
                    delivery.recipient(place)
        except BaseException:
            delivery.abort()
            raise
        return delivery

    return Body(
        open_delivery,
        lambda header: _trace(session, transaction, header),
        max_size=options.max_message_size,
        max_hops=options.max_hops,
        refuse_bare=options.refuse_bare_newline and transaction.mail.body != "BINARYMIME",
    )


# RFC 6409 section 6.1: "enforce submission rights": whose address stands in From: must be the user's own
def _check_from(session: Session, header: Header) -> None:
    context = session.context
    if not context.options.check_from or session.user is None:
        return
    for author in authors(header.octets):
        if not context.router.owns(session.user, author):
            raise Refused(replies.NOT_YOUR_FROM)


def _trace(session: Session, transaction: Transaction, header: Header) -> bytes:
    context, conn, mail = session.context, session.conn, transaction.mail
    hello = session.hello or "unknown"
    if not mail.smtputf8:  # RFC 6531 section 3.7.3: only then may trace fields hold UTF-8
        hello = hello.encode("ascii", "replace").decode()
    name = trace.protocol_name(
        lmtp=context.flavour.lmtp,
        extended=session.extended,
        utf8=mail.smtputf8,
        tls=conn.tls,
        authenticated=session.user is not None,
    )
    # RFC 5321 section 7.2: with several recipients the field would tell each of the others
    only = str(transaction.recipients[0].address) if len(transaction.recipients) == 1 else ""
    tls = f"using {conn.tls_version} with cipher {conn.cipher}" if conn.tls else ""
    priority = transaction.priority if mail.mt_priority is not None else None
    lines = trace.received(Trace(hello, conn.peer[0], context.hostname, name, transaction.id, only, tls, priority))
    if context.flavour.completes:
        lines += b"" if header.has_date else trace.date_field()
        lines += b"" if header.has_message_id else trace.message_id_field(context.hostname)
    return lines


def _conclude(session: Session, transaction: Transaction, body: Body) -> None:
    """Deliver, answer, log: the transaction is over in any case."""
    session.transaction = None
    session.conn.timeout = session.context.options.timeout
    try:
        failed = body.finish()
    except Exception as error:
        status = session.describe(error)
        _log(session, transaction, body.size, status)
        if session.context.flavour.lmtp:  # RFC 2033 section 4.2: one reply for each recipient, also when all failed
            for _ in transaction.recipients[1:]:
                session.reply(status)
        raise Refused(status) from error
    statuses = [_status(transaction, accepted.places, failed) for accepted in transaction.recipients]
    if session.context.flavour.lmtp:
        for status in statuses:
            session.reply(status)
    else:
        session.reply(_worst(statuses))
    if any(status.ok for status in statuses):
        session.useful()
        metrics.SMTP_ACCEPTED.inc(protocol=session.protocol)
        metrics.SMTP_OCTETS.inc(body.size, protocol=session.protocol)
        _tell(session, transaction, body.size, statuses)
    _log(session, transaction, body.size, _worst(statuses))


def _tell(session: Session, transaction: Transaction, size: int, statuses: list[Status]) -> None:
    """Tell the webhook of those who have the message; the client hears first."""
    webhook = session.context.webhook
    if webhook is None:
        return
    session.flush()
    pairs = zip(transaction.recipients, statuses, strict=True)
    names = [str(accepted.address) for accepted, status in pairs if status.ok]
    where = session.conn.peer[0]
    webhook.tell(Receipt(transaction.id, transaction.sender, names, size, time.time(), where))


def _status(transaction: Transaction, places: list[Recipient], failed: dict[Recipient, Status]) -> Status:
    keys = {recipient.key: status for recipient, status in failed.items()}
    bad = [keys[place.key] for place in places if place.key in keys]
    return _worst(bad) if bad else Status(250, "2.0.0", f"OK id={transaction.id}")


def _worst(statuses: list[Status]) -> Status:
    """One reply for all: if any copy may still arrive, the client keeps the message and comes again."""
    return next((s for s in statuses if s.temporary), next((s for s in statuses if not s.ok), statuses[0]))


def _log(session: Session, transaction: Transaction, size: int, status: Status) -> None:
    names = ",".join(str(accepted.address) for accepted in transaction.recipients[:20])
    session.log.info(
        "message",
        session.conn,
        id=transaction.id,
        user=session.user,
        sender=f"<{transaction.sender}>",
        rcpts=len(transaction.recipients),
        to=names,
        size=size,
        reply=status,
    )
