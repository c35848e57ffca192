"""SORT and THREAD, and their UID forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mailserver.imap.commands.search import extended, find, has_numbers, highest
from mailserver.imap.errors import Invalid
from mailserver.imap.grammar.sort import Sort, Thread
from mailserver.imap.responses.status import Completion, ok
from mailserver.store.search import keys as sort_keys
from mailserver.store.search import sort as store_sort
from mailserver.store.search import thread as store_thread
from mailserver.store.search.thread import Node

if TYPE_CHECKING:
    from mailserver.imap.session import Session

ALGORITHMS = ("ORDEREDSUBJECT", "REFERENCES", "REFS")
_FLAT = 200  # levels of a thread written as parentheses; clients overflow before we do


# RFC 5256 section 3, RFC 5267 section 3.1
def sort(session: Session, args: Sort) -> Completion:
    """Find messages and say them in the order of keys."""
    view = session.selected()
    session.names_numbers = has_numbers(args.criteria.key)
    if args.criteria.modseq:
        session.enable_condstore()
    found = find(view, args.criteria.key, args.returns)
    keys = sort_keys.of(view.mailbox, [view.messages[i] for i in found])
    ordered = store_sort.sort(view.mailbox, found, keys, [(k.name, k.reverse) for k in args.keys])
    numbers: list[int] = [view.messages[i].uid if args.uid else i + 1 for i in ordered]
    if args.returns is not None:
        extended(session, view, args.returns, args.uid, ordered, numbers, modseq=args.criteria.modseq)
        return ok("SORT completed")
    modseq = b" (MODSEQ %d)" % highest(view, found) if args.criteria.modseq and found else b""
    session.write(b" ".join([b"* SORT", *[b"%d" % n for n in numbers]]) + modseq + b"\r\n")
    return ok("SORT completed")


# RFC 5256 section 3
def thread(session: Session, args: Thread) -> Completion:
    """Find messages and say them as trees."""
    if args.algorithm not in ALGORITHMS:
        raise Invalid("The threading algorithm is not known")  # RFC 5256 section 3: BAD, "arguments invalid"
    view = session.selected()
    session.names_numbers = has_numbers(args.criteria.key)
    if args.criteria.modseq:
        session.enable_condstore()
    found = find(view, args.criteria.key)
    keys = sort_keys.of(view.mailbox, [view.messages[i] for i in found])
    messages = view.messages
    number: Callable[[int], int] = (lambda i: int(messages[i].uid)) if args.uid else (lambda i: i + 1)
    roots = store_thread.thread(args.algorithm, found, keys)
    written = b"".join(_tree(root, number) for root in roots)
    session.write(b"* THREAD" + (b" " + written if written else b"") + b"\r\n")
    return ok("THREAD completed")


# RFC 5256 section 4: thread-list = "(" (thread-members / thread-nested) ")"
def _tree(root: Node, number: Callable[[int], int], level: int = 0) -> bytes:
    """A thread with its parentheses; a single child follows its parent, several get parentheses of their own."""
    words: list[bytes] = []
    node = root
    while True:
        if node.index >= 0:
            words.append(b"%d" % number(node.index))
        if len(node.children) != 1:
            break
        node = node.children[0]
    if level >= _FLAT:
        nested = b"".join(b"(%d)" % number(n.index) for n in _below(node.children))
    else:
        nested = b"".join(_tree(child, number, level + 1) for child in node.children)
    return b"(" + b" ".join(filter(None, [*words, nested])) + b")"


def _below(nodes: Sequence[Node]) -> list[Node]:
    order = list(nodes)
    for node in order:
        order.extend(node.children)
    return [n for n in order if n.index >= 0]
