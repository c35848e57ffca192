"""The From_ line that stands before each message: ``From sender Www Mmm dd hh:mm:ss yyyy``.

Only a line with a date is one. The forms are those that Dovecot takes: without seconds, with the zone (a name, or
``+hhmm``) before or behind the year, with anything behind it (``remote from host``); and the date as in header fields,
``Www, dd Mmm yyyy hh:mm:ss``.
"""

from __future__ import annotations

import calendar
import re
import time

START = b"From "
LONGEST = 1000  # octets of a line that are looked at; a real one has less than a hundred

_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MONTH = {name: number for number, name in enumerate(_MONTHS, 1)}
_DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SENDER = rb'From (?:"[^"\r\n]*")?[^ \r\n]* +'
_MONTH_OF = rb"(" + b"|".join(_MONTHS) + rb")"
_LINE = re.compile(
    _SENDER + rb"[^ \r\n]{3} " + _MONTH_OF + rb" {1,2}(\d{1,2}) (\d{2}):(\d{2})(?::(\d{2}))?"
    rb"( (?:[A-Za-z][^ \r\n]*|[+-]\d{4}))? (\d{4})(?: ([+-]\d{4}))?",
    re.I,
)
_LIKE_A_FIELD = re.compile(
    _SENDER + rb"[^ \r\n]{3}, (\d{1,2}) " + _MONTH_OF + rb" (\d{4}) (\d{2}):(\d{2}):(\d{2})(?: ([+-]\d{4}))?", re.I
)
_OFFSET = re.compile(rb"([+-])(\d{2})(\d{2})")
_NOT_IN_SENDER = re.compile(rb"[^\x21-\x7e]")
_FIRST, _LAST = -62135510400, 253402214400  # the years 1 to 9999


def date(line: bytes) -> int | None:
    """Seconds since 1970 that a From_ line names, in local time where it names no ``+hhmm``; None: it is none."""
    found = _LINE.match(line)
    if found is not None:
        month, day, hour, minute, second, before, year, behind = found.groups()
    else:
        found = _LIKE_A_FIELD.match(line)
        if found is None:
            return None
        (day, month, year, hour, minute, second, behind), before = found.groups(), b""
    parts = (int(year), _MONTH[month.lower()], int(day) or 1, int(hour), int(minute), int(second or b"0"))
    offset = _OFFSET.fullmatch(behind or (before or b"").strip())
    try:
        if offset is None:
            return int(time.mktime((*parts, 0, 0, -1)))
        seconds = int(offset[2]) * 3600 + int(offset[3]) * 60
        return calendar.timegm((*parts, 0, 0, 0)) + (seconds if offset[1] == b"-" else -seconds)
    except (OverflowError, ValueError):
        return 0  # a From_ line all the same, of no moment that can be told


def is_foreign(start: bytes) -> bool:
    """Whether a file that begins so is no mbox; an empty one may become one.

    So may one that ends within its first From_ line: whoever wrote it did not come further, and the next message stands
    behind it on a line of its own.
    """
    while start and date(start) is None:
        line, line_end, start = start.partition(b"\n")
        begun = line != b"" and START.startswith(line[: len(START)])
        if not begun or (line_end and not start):
            return True
    return False


def make(sender: bytes, seconds: int) -> bytes:
    """A From_ line without its line end. ``sender`` may be empty or odd: what cannot stand there is left out.

    The time is local and without zone, as other programs write it; where that does not say which moment is meant
    (the hour that summer time repeats), the zone stands behind it.
    """
    seconds = max(_FIRST, min(seconds, _LAST))
    moment = time.localtime(seconds)
    text = (
        f"{_DAY_NAMES[moment.tm_wday]} {_MONTH_NAMES[moment.tm_mon - 1]} {moment.tm_mday:2d} "
        f"{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d} {moment.tm_year:04d}"
    )
    line = START + (_NOT_IN_SENDER.sub(b"", sender[:320]).replace(b'"', b"") or b"MAILER-DAEMON") + b" " + text.encode()
    if date(line) != seconds:
        minutes = abs(moment.tm_gmtoff) // 60
        line += f" {'-' if moment.tm_gmtoff < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}".encode()
    return line
