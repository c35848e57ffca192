"""One way to feed the framer and the grammar, used by every test of them: whole, octet by octet, and with a tail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mailserver.imap.framer import Command, Framer, FramerLimits, LiteralAnnounced, Rejected
from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.grammar.syntax import head

Answer = Callable[[Framer, LiteralAnnounced], None]


def accept(framer: Framer, event: LiteralAnnounced) -> None:
    if event.fits_memory:
        framer.accept_memory()
    else:
        framer.refuse()


def refuse(framer: Framer, event: LiteralAnnounced) -> None:
    framer.refuse()


def drain(framer: Framer, answer: Answer) -> Iterator[Any]:
    while (event := framer.next()) is not None:
        yield event
        if isinstance(event, LiteralAnnounced):
            answer(framer, event)
        if isinstance(event, Rejected) and event.fatal:
            return


def run(chunks: Iterable[bytes], answer: Answer = accept, limits: FramerLimits | None = None) -> list[Any]:
    """All events of these chunks."""
    framer = Framer(limits)
    events: list[Any] = []
    for chunk in chunks:
        if events and isinstance(events[-1], Rejected) and events[-1].fatal:
            break
        framer.feed(chunk)
        events += drain(framer, answer)
    return events


def octets(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def events_of(data: bytes, answer: Answer = accept, limits: FramerLimits | None = None) -> list[Any]:
    """The events, which must be the same however the octets are split, and not change when more follows."""
    whole = run([data], answer, limits)
    assert run(octets(data), answer, limits) == whole
    for cut in (1, 2, 3, 7):
        assert run([data[i : i + cut] for i in range(0, len(data), cut)], answer, limits) == whole
    tailed = run([data + b"tail"], answer, limits)
    assert tailed == whole
    return whole


def parse(data: bytes, parser: Callable[[Cursor], Any], name: str) -> Any:
    """What the parser makes of the command ``name`` with these arguments, framed in every way."""
    events = [e for e in events_of(b"t1 " + name.encode() + data + b"\r\n") if not isinstance(e, LiteralAnnounced)]
    assert len(events) == 1, events
    assert isinstance(events[0], Command), events
    cursor = Cursor.of(events[0])
    start = head(cursor)
    assert start == ("t1", name)
    return parser(cursor)
