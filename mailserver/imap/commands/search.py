"""SEARCH and UID SEARCH."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailserver.imap.commands.numbers import indexes
from mailserver.imap.errors import Refused
from mailserver.imap.grammar.search import Search
from mailserver.imap.responses.sets import number_set
from mailserver.imap.responses.status import Completion, ok
from mailserver.ops import metrics
from mailserver.store import search as store_search

if TYPE_CHECKING:
    from mailserver.imap.session import Session
    from mailserver.imap.view import View


# RFC 9051 section 6.4.4
def search(session: Session, args: Search) -> Completion:
    """Find messages."""
    view = session.selected()
    began = time.perf_counter()
    resolver = store_search.Resolver(lambda numbers: indexes(view, numbers), view.is_recent)
    found = store_search.search(view.mailbox, view.messages, args.criteria.key, resolver)
    metrics.IMAP_SEARCH.observe(time.perf_counter() - began)
    numbers: list[int] = [view.messages[i].uid if args.uid else i + 1 for i in found]
    if args.returns is not None or "IMAP4REV2" in session.enabled:
        _extended(session, view, args, found, numbers)
    else:
        session.write(_plain(numbers) + b"\r\n")
    return ok("SEARCH completed")


# RFC 9051 section 7.3.4, RFC 3501 section 7.2.5: "* SEARCH" alone when nothing is found
def _plain(numbers: Sequence[int]) -> bytes:
    return b" ".join([b"* SEARCH", *[b"%d" % n for n in numbers]])


# RFC 4731 section 3.1, RFC 9051 section 7.3.4
def _extended(session: Session, view: View, args: Search, found: Sequence[int], numbers: Sequence[int]) -> None:
    returns = args.returns or frozenset({"ALL"})
    if "SAVE" in returns:
        raise Refused("SEARCH RETURN (SAVE) is not supported", b"CANNOT")
    parts = [b'* ESEARCH (TAG "' + session.tag + b'")'] + ([b"UID"] if args.uid else [])
    if numbers:
        parts += [b"MIN %d" % numbers[0]] if "MIN" in returns else []
        parts += [b"MAX %d" % numbers[-1]] if "MAX" in returns else []
        parts += [b"ALL " + number_set(numbers)] if "ALL" in returns else []
    parts += [b"COUNT %d" % len(numbers)] if "COUNT" in returns else []
    session.write(b" ".join(parts) + b"\r\n")
