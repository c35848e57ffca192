"""MAIL, RCPT and RSET."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mailserver.delivery.target import Refused, Status, new_id
from mailserver.mail.addrspec import literal_of
from mailserver.ops import metrics
from mailserver.smtp import grammar, replies
from mailserver.smtp.errors import BadCommand
from mailserver.smtp.extensions import body_parameter, understood
from mailserver.smtp.transaction import Accepted, Transaction

if TYPE_CHECKING:
    from mailserver.smtp.session import Session


# RFC 5321 section 4.1.1.2: "A MAIL command (or the obsolete SEND, SOML, or SAML commands) begins a mail transaction."
def mail(session: Session, wanted: grammar.Mail) -> Status:
    """Begin a transaction."""
    if session.transaction is not None:
        raise BadCommand(replies.NESTED_MAIL)
    _check_parameters(session, [body_parameter(wanted.body) if name == "BODY" else name for name in wanted.given])
    limit = session.context.options.max_message_size
    if wanted.size is not None and wanted.size > limit:  # RFC 1870 section 6.1
        raise Refused(replies.TOO_BIG)
    if wanted.sender is not None:
        if not wanted.sender.ascii and not wanted.smtputf8:  # RFC 6531 section 3.5
            raise Refused(replies.NEEDS_UTF8)
        _check_sender(session, wanted)
    session.context.options.defence.message(session)
    priority = _priority(session, wanted)
    session.transaction = Transaction(new_id(), wanted, release=_release(session, wanted), priority=priority or 0)
    if priority != wanted.mt_priority:
        return Status(250, "2.3.6", f"{priority} Priorities above 0 are for those who log in")
    return replies.SENDER_OK


def _check_parameters(session: Session, names: Iterable[str]) -> None:
    """RFC 5321 section 4.1.1.11: parameters of what was not announced are refused."""
    for name in names:
        if not understood(session, name):
            raise grammar.BadParameter(f"{name} is not known here")


# RFC 6710: the server may lower a priority, and says so with X.3.6; strangers get no advantage
def _priority(session: Session, wanted: grammar.Mail) -> int | None:
    priority = wanted.mt_priority
    return 0 if priority is not None and priority > 0 and not session.may_relay else priority


# RFC 4865: until when the message is held, in seconds since 1970; 0 for at once. What cannot arrive in the time that
# BY (RFC 2852) gives is refused.
def _release(session: Session, wanted: grammar.Mail) -> float:
    if wanted.holdfor is None and wanted.holduntil is None:
        return 0.0
    now = time.time()
    until = wanted.holduntil if wanted.holduntil is not None else now + (wanted.holdfor or 0)
    if until > now + session.context.options.max_hold:
        raise Refused(replies.HOLD_TOO_LONG)
    if wanted.by is not None and until >= now + wanted.by.seconds:
        raise Refused(replies.HOLD_PAST_BY)
    return until if until > now else 0.0


def _check_sender(session: Session, wanted: grammar.Mail) -> None:
    """RFC 6409 section 6.1: "enforce submission rights"."""
    context = session.context
    if not context.options.check_sender or session.user is None or wanted.sender is None:
        return
    if not context.router.owns(session.user, wanted.sender):
        raise Refused(replies.NOT_YOUR_ADDRESS)


# RFC 5321 section 4.1.1.3: "If accepted, the SMTP server returns a '250 OK' reply and stores the forward-path."
def rcpt(session: Session, wanted: grammar.Rcpt) -> Status:
    """Take a recipient: somebody here, or elsewhere if this client may send there."""
    transaction = session.transaction
    assert transaction is not None
    if transaction.body is not None:
        raise BadCommand(replies.NOT_NOW)
    _check_parameters(session, wanted.given)
    # RFC 5321 section 4.5.3.1.10: 452 and not 552
    if len(transaction.recipients) >= session.context.options.max_recipients:
        raise Refused(replies.TOO_MANY_RECIPIENTS)
    if not wanted.recipient.ascii and not transaction.mail.smtputf8:
        raise Refused(replies.NEEDS_UTF8)
    try:
        places = session.context.router.route(
            wanted.recipient,
            may_relay=session.may_relay,
            here=literal_of(session.conn.local[0]),
            notify=wanted.notify,
            orcpt=wanted.orcpt,
        )
        session.context.options.defence.recipient(session, transaction.sender, wanted.recipient)
    except Refused as error:
        transaction.refused += 1
        if not transaction.recipients:  # somebody guesses names; a big list with some that are gone does not
            session.junk()
        metrics.SMTP_REFUSED.inc(protocol=session.protocol, reason=error.status.enhanced)
        session.log.info(
            "recipient-refused", session.conn, sender=transaction.sender, rcpt=wanted.recipient, reply=error.status
        )
        raise
    transaction.recipients.append(Accepted(wanted.recipient, places))
    return replies.RECIPIENT_OK


# RFC 5321 section 4.1.1.5: "the current mail transaction will be aborted"
def reset(session: Session, _: None) -> Status:
    """Forget the transaction."""
    session.junk()
    session.abandon()
    return replies.RESET
