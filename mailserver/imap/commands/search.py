"""SEARCH and UID SEARCH."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mailserver.imap.grammar.search import Returns, Search
from mailserver.imap.responses.sets import number_set
from mailserver.imap.responses.status import Completion, ok
from mailserver.ops import metrics
from mailserver.store.errors import StoreError
from mailserver.store.model import search as criteria
from mailserver.store.model.search import Criterion
from mailserver.store.search import matching as store_search

if TYPE_CHECKING:
    from mailserver.imap.session import Session
    from mailserver.imap.view import View


_ALL = Returns(frozenset({"ALL"}))


# RFC 9051 section 6.4.4
def search(session: Session, args: Search) -> Completion:
    """Find messages."""
    view = session.selected()
    began = time.perf_counter()
    session.names_numbers = has_numbers(args.criteria.key)
    if args.criteria.modseq:
        session.enable_condstore()
    found = find(view, args.criteria.key, args.returns)
    metrics.IMAP_SEARCH.observe(time.perf_counter() - began)
    numbers: list[int] = [view.messages[i].uid if args.uid else i + 1 for i in found]
    if args.returns is not None or "IMAP4REV2" in session.enabled:
        returns = args.returns or _ALL
        extended(session, view, returns, args.uid, found, numbers, modseq=args.criteria.modseq)
    else:
        modseq = b" (MODSEQ %d)" % highest(view, found) if args.criteria.modseq and found else b""
        session.write(_plain(numbers) + modseq + b"\r\n")
    return ok("SEARCH completed")


def find(view: View, key: Criterion, returns: Returns | None = None) -> list[int]:
    """Indexes of the messages that match."""
    resolver = store_search.Resolver(view.resolve_leniently, view.is_recent)
    try:
        return store_search.search(view.mailbox, view.messages, key, resolver)
    except StoreError:
        # RFC 5182 section 2.1: a SEARCH with SAVE that ends with NO empties the variable, one with BAD leaves it
        if returns is not None and "SAVE" in returns:
            view.saved = []
        raise


# RFC 7162 section 3.2.10.2: no VANISHED during a UID SEARCH command that contains message numbers; nor EXPUNGE
def has_numbers(key: Criterion) -> bool:
    """Whether sequence numbers stand somewhere in the criteria."""
    match key:
        case criteria.NumberSet():
            return not key.uid and not key.saved
        case criteria.Not():
            return has_numbers(key.key)
        case criteria.Or():
            return has_numbers(key.left) or has_numbers(key.right)
        case criteria.And():
            return any(has_numbers(k) for k in key.keys)
    return False


def highest(view: View, found: Sequence[int]) -> int:
    """The highest MODSEQ of the messages at these indexes."""
    return max(view.messages[i].modseq for i in found)


# RFC 9051 section 7.3.4, RFC 3501 section 7.2.5: "* SEARCH" alone when nothing is found
def _plain(numbers: Sequence[int]) -> bytes:
    return b" ".join([b"* SEARCH", *[b"%d" % n for n in numbers]])


# RFC 4731 section 3.1, RFC 9051 section 7.3.4
def extended(
    session: Session,
    view: View,
    returns: Returns,
    uid: bool,
    found: Sequence[int],
    numbers: Sequence[int],
    *,
    modseq: bool,
) -> None:
    """Write ESEARCH for messages at the indexes ``found``, which the client calls ``numbers``; keep them for ``$``."""
    if "SAVE" in returns:
        view.saved = [view.messages[i].uid for i in _kept(returns, found)]
        if returns.words == {"SAVE"}:
            return  # RFC 5182 section 2.1: nothing is said when only SAVE was asked
    parts = [b'* ESEARCH (TAG "' + session.tag + b'")'] + ([b"UID"] if uid else [])
    if numbers:
        parts += [b"MIN %d" % numbers[0]] if "MIN" in returns else []
        parts += [b"MAX %d" % numbers[-1]] if "MAX" in returns else []
        parts += [b"ALL " + number_set(numbers)] if "ALL" in returns else []
    if returns.window is not None:
        part = number_set(returns.window.of(numbers)) or b"NIL"
        parts.append(b"PARTIAL (" + returns.window.label + b" " + part + b")")
    parts += [b"COUNT %d" % len(numbers)] if "COUNT" in returns else []
    if modseq and found:
        # RFC 7162 section 3.1.10: of the messages returned
        parts.append(b"MODSEQ %d" % highest(view, _kept(returns, found)))
    session.write(b" ".join(parts) + b"\r\n")


# RFC 5182 section 2.1: with MIN or MAX, and neither ALL nor COUNT, only those are meant
# RFC 9394 section 3.2: with PARTIAL, and not COUNT, its part, and with them those
def _kept(returns: Returns, found: Sequence[int]) -> Sequence[int]:
    if returns.words & {"ALL", "COUNT"} or not returns.words & {"MIN", "MAX", "PARTIAL"}:
        return found
    first = found[:1] if "MIN" in returns else []
    last = found[-1:] if "MAX" in returns else []
    part = returns.window.of(found) if returns.window is not None else []
    return list(dict.fromkeys([*first, *part, *last]))
