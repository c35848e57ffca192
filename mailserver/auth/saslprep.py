"""SASLprep: one spelling for user names and passwords, whatever keyboard they were typed on. RFC 4013.

A profile of stringprep (RFC 3454) over Unicode 3.2, for which the standard library has the tables.
"""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (  # RFC 4013 section 2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class Prohibited(ValueError):
    """The text has a character, or an order of them, that names and passwords may not have."""


def prepare(text: str, *, stored: bool = False) -> str:
    """Return the prepared form. Raises `Prohibited`.

    ``stored``: the text is a stored string and no query, so that characters Unicode 3.2 does not know are refused
    (RFC 3454 section 7).
    """
    if text.isascii() and text.isprintable():
        return text
    # RFC 4013 section 2.1: non-ASCII space to SPACE, what is commonly mapped to nothing to nothing
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)  # RFC 4013 section 2.2
    for c in prepared:
        if any(prohibited(c) for prohibited in _PROHIBITED):
            raise Prohibited("prohibited character")
        if stored and stringprep.in_table_a1(c):
            raise Prohibited("unassigned character")
    _check_directions(prepared)
    return prepared


def spellings(octets: bytes, *, stored: bool = False) -> list[bytes]:
    """Return the octets under which a password may be known: prepared, then as they came if that is something else.

    Passwords that were stored before anybody prepared them, in whatever charset, stay good.
    """
    try:
        prepared = prepare(octets.decode(), stored=stored).encode()
    except ValueError:  # not UTF-8, or Prohibited
        return [octets]
    return [prepared, octets] if prepared and prepared != octets else [octets]


# RFC 3454 section 6: a string with a character of the right-to-left kind has none of the other kind, and begins and
# ends with one
def _check_directions(text: str) -> None:
    if not any(map(stringprep.in_table_d1, text)):
        return
    if any(map(stringprep.in_table_d2, text)):
        raise Prohibited("both directions")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise Prohibited("a right-to-left text begins and ends with such a character")
