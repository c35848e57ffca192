"""Dates: of the header field Date:, and IMAP's INTERNALDATE."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = {name.lower(): number for number, name in enumerate(MONTHS, 1)}

# RFC 5322 section 4.3: hours east of Greenwich; every other name means "-0000", which says UTC.
_ZONES = {"ut": 0, "gmt": 0, "edt": -4, "est": -5, "cdt": -5, "cst": -6, "mdt": -6, "mst": -7, "pdt": -7, "pst": -8}

# RFC 5322 section 3.3 with the obsolete forms of section 4.3, comments already removed.
_DATE = re.compile(
    r"\s*(?:[A-Za-z]+\s*,?\s+|[A-Za-z]+,)?(\d{1,2})[\s-]+([A-Za-z]{3})[A-Za-z]*\.?[\s-]+(\d{2,4})"
    r"(?:\s+(\d{1,2})\s*:\s*(\d{2})(?:\s*:\s*(\d{2})(?:\.\d+)?)?)?\s*(?:([+-]\d{4})|([A-Za-z]+))?",
    re.ASCII,
)
# The form of C's asctime, which some programs write: Mon Jan  2 15:04:05 2006
_ASCTIME = re.compile(r"\s*[A-Za-z]+,?\s+([A-Za-z]{3})\s+(\d{1,2})\s+(\d{1,2}):(\d{2}):(\d{2})\s+(\d{4})", re.ASCII)
# RFC 9051 section 9: date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE
_INTERNAL = re.compile(r'"?([ \d]\d)-([A-Za-z]{3})-(\d{4}) (\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})([0-5]\d)"?', re.ASCII)
_COMMENT = re.compile(r"\([^()]*\)")
_LONGEST = 1000  # octets of a Date: that are looked at; a real one has about forty


def parse(value: bytes | str) -> datetime | None:
    """Return the moment a Date: field names, aware of its zone; None when it names none.

    The day of the week is not looked at; a year of two or three digits counts as RFC 5322 section 4.3 says.
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    text = text[:_LONGEST]
    while "(" in text:
        shorter = _COMMENT.sub(" ", text)
        if shorter == text:
            break
        text = shorter
    found = _DATE.match(text)
    if found is None:
        return _parse_asctime(text)
    day, month, year, hour, minute, second, offset, zone = found.groups()
    return _moment(_year(year), month, day, hour or "0", minute or "0", second or "0", _zone(offset, zone))


def _parse_asctime(text: str) -> datetime | None:
    found = _ASCTIME.match(text)
    if found is None:
        return None
    month, day, hour, minute, second, year = found.groups()
    return _moment(int(year), month, day, hour, minute, second, UTC)


def _year(digits: str) -> int:
    year = int(digits)
    if len(digits) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(digits) == 3 else year


def _zone(offset: str | None, name: str | None) -> timezone:
    if offset is not None:
        minutes = int(offset[1:3]) * 60 + int(offset[3:5])
        if minutes >= 24 * 60:
            return UTC
        return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
    return timezone(timedelta(hours=_ZONES.get((name or "").lower(), 0)))


def _moment(year: int, month: str, day: str, hour: str, minute: str, second: str, zone: timezone) -> datetime | None:
    number = _MONTH.get(month.lower())
    if number is None:
        return None
    try:
        # A leap second is shown as the second before it, which datetime can hold.
        return datetime(year, number, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=zone)
    except ValueError:
        return None


def format_internal(seconds: int, offset_minutes: int = 0) -> str:
    """Return seconds since 1970 as a date-time with its quotes: ``" 2-Jan-2006 15:04:05 +0000"``.

    RFC 9051 section 9. Times outside the years 1 to 9999 are shown as the nearest that is within.
    """
    zone = timezone(timedelta(minutes=offset_minutes))
    moment = datetime.fromtimestamp(max(-62135510400, min(seconds, 253402214400)), zone)
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    return (
        f'"{moment.day:2d}-{MONTHS[moment.month - 1]}-{moment.year:04d}'
        f' {moment.hour:02d}:{moment.minute:02d}:{moment.second:02d} {sign}{hours:02d}{minutes:02d}"'
    )


def parse_internal(text: str | bytes) -> datetime:
    """Return the moment of a date-time, with or without its quotes; ValueError when it is none.

    RFC 9051 section 9.
    """
    if isinstance(text, bytes):
        text = text.decode("ascii")
    found = _INTERNAL.fullmatch(text)
    if found is None:
        raise ValueError("not a date-time")
    day, month, year, hour, minute, second, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    moment = _moment(int(year), month, day.strip(), hour, minute, second, timezone(-offset if sign == "-" else offset))
    if moment is None or int(second) > 60:
        raise ValueError("no such moment")
    return moment
