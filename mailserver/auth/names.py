"""User names: the one spelling under which a user's mail is kept, and what is no name at all.

A name becomes part of a path, so a slash, a leading dot, ".." and control characters end here and never reach the
store.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_OCTETS = 255  # a file name holds no more
_FORBIDDEN = re.compile(r"[/\\:\s\x00-\x1f\x7f-\x9f\ud800-\udfff]|\.\.")


class BadName(ValueError):
    """This cannot be a user's name."""


@dataclass(frozen=True, slots=True)
class NameRules:
    """How names are spelled: in lower case; with ``default_domain`` behind those without one."""

    lowercase: bool = True
    default_domain: str = ""

    def canonical(self, name: str) -> str:
        """Return the one spelling of ``name``; raises `BadName`."""
        name = unicodedata.normalize("NFKC", name)  # as SASLprep does: RFC 4013 section 2.2
        if self.lowercase:
            name = name.lower()
        if self.default_domain and "@" not in name:
            name = f"{name}@{self.default_domain}"
        if not name or _FORBIDDEN.search(name) or name[0] in ".@~#" or not name.isprintable():
            raise BadName("not a user name")
        if len(name.encode()) > MAX_OCTETS:
            raise BadName("user name too long")
        return name
