"""IDLE."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from mailserver.imap import news, places
from mailserver.imap.errors import Invalid
from mailserver.imap.grammar.anystate import NoArguments
from mailserver.imap.grammar.idle import is_done
from mailserver.imap.responses import status
from mailserver.imap.responses.status import Completion, ok
from mailserver.net.connection import TimedOut
from mailserver.net.waiter import Wake, Waker
from mailserver.ops import metrics
from mailserver.store.errors import StoreError

if TYPE_CHECKING:
    from mailserver.imap.session import Session


# RFC 9051 section 6.3.13, RFC 2177 section 3
def idle(session: Session, args: NoArguments) -> Completion:
    """Tell about changes at once, until the client says DONE or something else."""
    waker = Waker()
    with contextlib.ExitStack() as stack:
        if session.view is not None:
            stack.enter_context(session.view.mailbox.subscribe_changes(waker.wake))
        session.write(status.go_ahead(b"idling"))
        metrics.IMAP_IDLE.inc()
        stack.callback(metrics.IMAP_IDLE.inc, -1)
        _wait_for_done(session, waker)
    return ok("IDLE completed")


def _wait_for_done(session: Session, waker: Waker) -> None:
    deadline = time.monotonic() + session.config.idle_timeout_seconds
    notify = session.config.idle_notify_seconds or session.config.idle_timeout_seconds
    _tell(session)
    while (line := session.next_line()) is None:
        session.flush()
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimedOut
        wake = session.conn.wait(min(left, notify), waker)
        if wake is Wake.READABLE:
            session.feed()
        elif wake is Wake.WOKEN:
            _tell(session)
        elif time.monotonic() < deadline:
            # silence behind a NAT looks like death to both sides: a word now and then keeps the way open
            session.write(status.line(b"*", b"OK", "Still here"))
    if not is_done(line):
        raise Invalid("Expected DONE")


def _tell(session: Session) -> None:
    view = session.view
    if view is None or (view.outdated() and not places.renew(session, view)):
        return
    try:
        news.tell(session, view.mailbox.snapshot(), expunge=True)
    except StoreError as error:
        session.lost_mailbox(error)
