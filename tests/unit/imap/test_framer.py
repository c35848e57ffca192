from __future__ import annotations

import pytest

from mailserver.imap.framer import Command, Framer, FramerLimits, Literal, LiteralAnnounced, Rejected, tag_of
from tests.unit.imap.feeding import accept, events_of, refuse, run


def L(data: bytes, binary: bool = False) -> Literal:
    return Literal(len(data), binary, data)


def commands(data: bytes, answer=accept, limits=None):
    return [e for e in events_of(data, answer, limits) if not isinstance(e, LiteralAnnounced)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a NOOP\r\n", [Command(b"a NOOP")]),
        (b"a NOOP\n", [Command(b"a NOOP")]),  # Leniency.BARE_LF
        (b"a NOOP\r\nb NOOP\r\n", [Command(b"a NOOP"), Command(b"b NOOP")]),
        (b"\r\n\n\r\na NOOP\r\n", [Command(b"a NOOP")]),  # Leniency.EMPTY_LINE
        (b"a NOOP\r\r\n", [Command(b"a NOOP\r")]),
        (b"a NO\rOP\r\n", [Command(b"a NO\rOP")]),
        (b"a X {3}\r\nabc\r\n", [Command(b"a X \0", (L(b"abc"),))]),
        (b"a X {3+}\r\nabc\r\n", [Command(b"a X \0", (L(b"abc"),))]),
        (b"a X ~{3}\r\na\0c\r\n", [Command(b"a X \0", (L(b"a\0c", True),))]),
        (b"a X ~{3+}\r\na\0c\r\n", [Command(b"a X \0", (L(b"a\0c", True),))]),
        (b"a X {0}\r\n\r\n", [Command(b"a X \0", (L(b""),))]),
        (b"a X {0}\r\n {0+}\r\n\r\n", [Command(b"a X \0 \0", (L(b""), L(b"")))]),
        (b"a X {003}\nabc {2+}\r\n\r\n y\r\n", [Command(b"a X \0 \0 y", (L(b"abc"), L(b"\r\n")))]),
        (b"a X {5}\r\nb {3}\n\r\nc NOOP\r\n", [Command(b"a X \0", (L(b"b {3}"),)), Command(b"c NOOP")]),
        (b"a X {3} \r\n", [Command(b"a X {3} ")]),
        (b"a X {+}\r\n", [Command(b"a X {+}")]),
        (b"a X {x}\r\n", [Command(b"a X {x}")]),
        (b"a X }\r\n", [Command(b"a X }")]),
        (b"{3}\r\nabc\r\n", [Command(b"\0", (L(b"abc"),))]),
    ],
)
def test_commands(data, expected):
    assert commands(data) == expected


def test_nothing_before_the_line_ends():
    assert events_of(b"a NOOP") == []
    assert events_of(b"a NOOP\r") == []


def test_the_announcement_says_all_the_session_needs():
    events = events_of(b"a APPEND {3+}\r\nBox (\\Seen) ~{5}\r\nhello\r\n")
    assert events == [
        LiteralAnnounced(3, False, False, b"a APPEND ", (), True),
        LiteralAnnounced(5, True, True, b"a APPEND \0 (\\Seen) ", (L(b"Box"),), True),
        Command(b"a APPEND \0 (\\Seen) \0", (L(b"Box"), L(b"hello", True))),
    ]


def test_a_refused_synchronizing_literal_ends_the_command():
    assert commands(b"a X {5}\r\nb NOOP\r\n", refuse) == [Command(b"b NOOP")]


def test_a_refused_non_synchronizing_literal_is_never_a_command():
    data = b"a X {9+}\r\nx LOGOUT\n rest {10+}\r\ny LOGOUT\r\n\r\nb NOOP\r\n"
    assert commands(data, refuse) == [Command(b"b NOOP")]


def test_the_rest_of_a_refused_command_ends_at_a_synchronizing_literal():
    assert commands(b"a X {3+}\r\nabc {4}\r\nb NOOP\r\n", refuse) == [Command(b"b NOOP")]


def test_a_huge_refused_literal_is_fatal():
    limits = FramerLimits(skip=100)
    assert commands(b"a X {100+}\r\n" + b"z" * 100 + b"\r\nb Y {101+}\r\nc NOOP\r\n", refuse, limits) == [
        Rejected("b", "The refused literal is too large to be skipped", fatal=True)
    ]


@pytest.mark.parametrize("digits", [b"9223372036854775808", b"9" * 30, b"9" * 5000])
def test_a_literal_of_more_than_63_bits(digits):
    assert commands(b"a X {" + digits + b"}\r\nb NOOP\r\n") == [
        Rejected("a", "The literal is too large"),
        Command(b"b NOOP"),
    ]
    [event] = commands(b"a X {" + digits + b"+}\r\nb NOOP\r\n")
    assert event.fatal


def test_a_line_at_its_limit():
    limits = FramerLimits(line=10)
    for end in (b"\r\n", b"\n"):
        assert commands(b"a 34567890" + end, limits=limits) == [Command(b"a 34567890")]
        assert commands(b"a 345678901" + end + b"b N" + end, limits=limits) == [
            Rejected("a", "The line is too long"),
            Command(b"b N"),
        ]


def test_a_long_line_that_announces_a_literal():
    limits = FramerLimits(line=10)
    assert commands(b"a " + b"x" * 300 + b" {9+}\r\nb LOGOUT\n\r\nc N\r\n", limits=limits) == [
        Rejected("a", "The line is too long"),
        Command(b"c N"),
    ]
    assert commands(b"a " + b"x" * 300 + b" {9}\r\nc N\r\n", limits=limits)[1] == Command(b"c N")
    [event] = commands(b"a {" + b"0" * 300 + b"9+}\r\nb LOGOUT\n\r\nc N\r\n", limits=limits)
    assert event.fatal


def test_a_long_line_behind_a_literal_keeps_the_tag():
    limits = FramerLimits(line=20)
    assert commands(b"tag X {3}\r\nabc" + b"y" * 50 + b"\r\n", limits=limits) == [
        Rejected("tag", "The line is too long")
    ]


def test_too_many_literals():
    limits = FramerLimits(literals=2)
    data = b"a X {1+}\r\na {1+}\r\nb {1+}\r\nc\r\nb N\r\n"
    assert commands(data, limits=limits) == [Rejected("a", "Too many literals in one command"), Command(b"b N")]
    data = b"a X {1+}\r\na {1+}\r\nb {1}\r\nb N\r\n"
    assert commands(data, limits=limits) == [Rejected("a", "Too many literals in one command"), Command(b"b N")]


def test_a_command_that_is_too_long():
    limits = FramerLimits(line=50, command=60)
    data = b"a " + b"x" * 40 + b" {1+}\r\na" + b"y" * 40 + b"\r\nb N\r\n"
    assert commands(data, limits=limits) == [Rejected("a", "The command is too long"), Command(b"b N")]


def test_memory_is_only_for_what_fits():
    framer = Framer(FramerLimits(literal=10))
    framer.feed(b"a X {11}\r\n")
    event = framer.next()
    assert isinstance(event, LiteralAnnounced)
    assert not event.fits_memory
    with pytest.raises(ValueError, match="11 octets"):
        framer.accept_memory()
    framer.refuse()
    assert framer.next() is None


def test_nul_is_refused():
    assert commands(b"a X\0Y\r\nb N\r\n") == [Rejected("a", "A command holds no NUL"), Command(b"b N")]
    assert commands(b"a \0 {3+}\r\nabc\r\nb N\r\n") == [Rejected("a", "A command holds no NUL"), Command(b"b N")]


def test_a_sink_gets_the_octets_as_they_come():
    framer, got = Framer(), []
    framer.feed(b"a X {5}\r\n")
    framer.next()
    framer.accept_sink(got.append)
    assert framer.next() is None
    framer.feed(b"he")
    assert framer.next() is None
    framer.feed(b"llo\r\nb N\r\n")
    assert framer.next() == Command(b"a X \0", (Literal(5, False, None),))
    assert framer.next() == Command(b"b N")
    assert got == [b"he", b"llo"]


def test_a_sink_that_fails_leaves_the_framer_in_step():
    framer = Framer()

    def full(chunk: bytes) -> None:
        raise OSError("full")

    framer.feed(b"a X {8+}\r\nb LOG")
    framer.next()
    framer.accept_sink(full)
    with pytest.raises(OSError, match="full"):
        framer.next()
    framer.feed(b"OUT more\r\nc N\r\n")
    assert framer.next() == Command(b"c N")


def test_the_literal_must_be_answered():
    framer = Framer()
    framer.feed(b"a X {5}\r\n")
    framer.next()
    with pytest.raises(RuntimeError):
        framer.next()
    framer.refuse()
    with pytest.raises(RuntimeError):
        framer.refuse()


def test_take_rest():
    framer = Framer()
    framer.feed(b"a STARTTLS\r\nb LOGIN x y\r\n")
    framer.next()
    assert framer.take_rest() == b"b LOGIN x y\r\n"
    assert framer.take_rest() == b""
    assert framer.next() is None


def test_lines_of_a_continuation():
    framer = Framer()
    framer.feed(b"a IDLE\r\nDONE\r\nb X {3}\r\n")
    assert framer.next() == Command(b"a IDLE")
    assert framer.next_line() == b"DONE"
    assert framer.next_line(8) == b"b X {3}"
    assert framer.next_line() is None
    framer.feed(b"\r\n")
    assert framer.next_line() == b""
    framer.feed(b"x" * 100)
    assert framer.next_line(10) is None
    framer.feed(b"\r\na N\r\n")
    assert framer.next_line(10) == Rejected(None, "The line is too long")
    assert framer.next() == Command(b"a N")
    framer.feed(b"x" * 11 + b"\r\na N\r\n")
    assert framer.next_line(10) == Rejected(None, "The line is too long")
    assert framer.next() == Command(b"a N")


def test_memory_stays_bounded_under_garbage():
    framer = Framer(FramerLimits(line=1000))
    for _ in range(1000):
        framer.feed(b"x" * 1000)
        assert framer.next() is None
        assert len(framer._buffer) + len(framer._overlong or b"") < 3000


@pytest.mark.parametrize(
    ("line", "tag"), [(b"a1 NOOP", "a1"), (b"a1", "a1"), (b" x", None), (b"+ x", None), (b"", None)]
)
def test_tag_of(line, tag):
    assert tag_of(line) == tag


def test_the_dead_framer_keeps_nothing():
    framer = Framer(FramerLimits(skip=1))
    framer.feed(b"a X {9+}\r\n")
    framer.next()
    framer.refuse()
    assert framer.next().fatal
    framer.feed(b"x" * 1000)
    assert framer._buffer == b""
    assert framer.next().fatal
    assert framer.next_line().fatal


def test_run_keeps_order_over_many_commands():
    data = b"".join(b"%d NOOP\r\n" % i for i in range(100))
    assert [e.line for e in run([data])] == [b"%d NOOP" % i for i in range(100)]


def test_it_knows_when_only_the_end_of_a_command_is_missing() -> None:
    framer = Framer()
    framer.feed(b"a APPEND x {5}\r\n")
    assert isinstance(framer.next(), LiteralAnnounced)
    framer.accept_memory()
    assert framer.next() is None
    assert not framer.behind_literal  # the literal is to come
    framer.feed(b"hel")
    assert framer.next() is None
    assert not framer.behind_literal
    framer.feed(b"lo")
    assert framer.next() is None
    assert framer.behind_literal
    framer.feed(b"\r\n")
    assert isinstance(framer.next(), Command)
    assert framer.next() is None
    assert not framer.behind_literal
