"""What is accepted although the RFC does not have it, because real clients send it. Each by name, in one place.

The code that is lenient names the member in a comment, so that a search finds it.
"""

from __future__ import annotations

from enum import Enum


class Leniency(Enum):
    """A name, and what is accepted under it."""

    EMPTY_LINE = "an empty line before a command is ignored: Apple Mail sends one after IDLE"
    BARE_LF = "LF alone ends a line"
    TRAILING_SPACES = "spaces at the end of a command are ignored"
    FLAGS_WITHOUT_PARENTHESES = "STORE 1 +FLAGS \\Seen \\Deleted, which RFC 9051 has, and one flag in APPEND likewise"
    RECENT_IN_FLAGS = "\\Recent in STORE and APPEND is dropped: a client copies the flags that FETCH gave it"
    CHANGEDSINCE_ZERO = "FETCH ... (CHANGEDSINCE 0): Apple Mail; RFC 7162 wants at least 1"
    MODSEQ_ZERO_IN_QRESYNC = "QRESYNC with modification sequence 0: a client that never knew one"
    PARTIAL_ZERO = "BODY[...]<0.0> asks for no octets; RFC 9051 wants at least one"
    DATE_TIME_SHORT_DAY = "a date-time with a day of one digit and no space before it"
    DATE_FOUR_FORMS = "a date in SEARCH with or without quotes, the day with one digit, two, or a space and one"
    CHARSET_ASCII_IS_UTF8 = (
        "SEARCH CHARSET US-ASCII with octets above 127: read as UTF-8; imap-tools always says US-ASCII"
    )
    NO_CHARSET_IS_UTF8 = "SEARCH without CHARSET and octets above 127: read as UTF-8, else as ISO-8859-1"
    CHARSET_WITH_UTF8_ACCEPT = "SEARCH CHARSET after ENABLE UTF8=ACCEPT; RFC 6855 section 3 would have BAD"
    EIGHT_BIT_IN_QUOTED = "octets above 127 in a quoted string, whether or not UTF8=ACCEPT was enabled"
    LITERAL_FOR_ATOM = "a header field name, charset or search needle may be any string"
    STATUS_WITHOUT_PARENTHESES = "STATUS box MESSAGES with a single item"
    LITERAL8_ANYWHERE = "~{n} where {n} is meant"
