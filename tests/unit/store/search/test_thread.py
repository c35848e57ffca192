"""THREAD on small families of messages."""

from __future__ import annotations

from mailserver.store.model.message import Message
from mailserver.store.model.numbers import ModSeq, Uid
from mailserver.store.search.keys import Keys
from mailserver.store.search.thread import Node, thread


def keys(number: int, subject: str, own: str, references: str = "", day: int | None = None) -> Keys:
    header = f"Subject: {subject}\r\nMessage-ID: <{own}>\r\nDate: {day or number} Jan 2024 10:00:00 +0000\r\n"
    if references:
        header += "References: " + " ".join(f"<{r}>" for r in references.split()) + "\r\n"
    message = Message(Uid(number), "cur/x", 0, frozenset(), ModSeq(1), 1700000000 + number, 1, 1)
    return Keys(message, header.encode() + b"\r\n")


def shape(node: Node) -> object:
    children = [shape(child) for child in node.children]
    name = node.index if node.index >= 0 else "-"
    return (name, children) if children else name


def threads(algorithm: str, family: list[Keys]) -> list[object]:
    return [shape(root) for root in thread(algorithm, range(1, len(family) + 1), family)]


def test_references_make_a_chain() -> None:
    family = [keys(1, "x", "a"), keys(2, "Re: x", "b", "a"), keys(3, "Re: x", "c", "a b")]
    assert threads("REFERENCES", family) == [(1, [(2, [3])])]


def test_answers_to_a_missing_message_are_siblings() -> None:
    family = [keys(1, "Re: x", "b", "a"), keys(2, "Re: x", "c", "a")]
    assert threads("REFERENCES", family) == [("-", [1, 2])]
    assert threads("REFS", family) == [("-", [1, 2])]


def test_same_subject_joins_only_in_references() -> None:
    family = [keys(1, "x", "a"), keys(2, "Re: x", "b"), keys(3, "y", "c")]
    assert threads("REFERENCES", family) == [(1, [2]), 3]
    assert threads("REFS", family) == [1, 2, 3]


def test_two_originals_of_one_subject_get_a_common_place() -> None:
    family = [keys(1, "x", "a"), keys(2, "x", "b")]
    assert threads("REFERENCES", family) == [("-", [1, 2])]


def test_loops_end() -> None:
    family = [keys(1, "x", "a", "b"), keys(2, "y", "b", "a"), keys(3, "z", "c", "c")]
    assert sorted(str(t) for t in threads("REFERENCES", family))
    found: list[int] = []
    pending = list(thread("REFERENCES", [1, 2, 3], family))
    while pending:
        node = pending.pop()
        found += [node.index] if node.index >= 0 else []
        pending += node.children
    assert sorted(found) == [1, 2, 3]


def test_one_id_twice_is_two_messages() -> None:
    family = [keys(1, "x", "a"), keys(2, "y", "a")]
    assert threads("REFERENCES", family) == [1, 2]


def test_ordered_subject() -> None:
    family = [keys(1, "b", "1"), keys(2, "a", "2"), keys(3, "Re: b", "3"), keys(4, "b", "4", day=9)]
    assert threads("ORDEREDSUBJECT", family) == [(1, [3, 4]), 2]


def test_refs_are_in_the_order_of_their_newest() -> None:
    family = [keys(1, "x", "a"), keys(2, "y", "b"), keys(3, "Re: x", "c", "a")]
    assert threads("REFS", family) == [2, (1, [3])]
