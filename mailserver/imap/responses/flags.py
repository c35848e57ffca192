"""Flags as IMAP writes them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from mailserver.store.model.flags import SYSTEM_FLAGS
from mailserver.store.model.message import Message
from mailserver.store.model.rights import Settable

_SYSTEM = tuple(
    " ".join(name for flag, name in SYSTEM_FLAGS if bits & flag).encode() for bits in range(32)
)  # by the bits of Flag
_rendered: dict[tuple[int, frozenset[str]], bytes] = {}
_MANY = 4096


def flag_words(flags: int, keywords: frozenset[str]) -> bytes:
    """The words between the parentheses of FLAGS, without \\Recent."""
    if not keywords:
        return _SYSTEM[flags]
    found = _rendered.get((flags, keywords))
    if found is None:
        if len(_rendered) > _MANY:
            _rendered.clear()
        words = " ".join(sorted(keywords)).encode("ascii", "replace")
        found = _rendered[flags, keywords] = b" ".join(filter(None, (_SYSTEM[flags], words)))
    return found


# RFC 9051 section 9: flag-list = "(" [flag *(SP flag)] ")"
def flag_list(message: Message, recent: bool) -> bytes:
    """``(\\Seen $Junk)``; \\Recent as RFC 3501 section 2.3.2 has it."""
    words = flag_words(message.flags, message.keywords)
    if recent:
        return b"(" + words + b" \\Recent)" if words else b"(\\Recent)"
    return b"(" + words + b")"


@lru_cache(maxsize=8192)
def flags_item(flags: int, keywords: frozenset[str], recent: bool) -> bytes:
    """``FLAGS (...)`` as FETCH says it; remembered, for a mailbox has few different ones."""
    words = flag_words(flags, keywords)
    if recent:
        words += b" \\Recent" if words else b"\\Recent"
    return b"FLAGS (" + words + b")"


# RFC 9051 section 7.3.5: FLAGS response ; section 7.1: PERMANENTFLAGS
def known_flags(keywords: Iterable[str]) -> bytes:
    """The system flags and these keywords, without parentheses."""
    words = [name for _, name in SYSTEM_FLAGS] + [w for w in keywords if w]
    return " ".join(words).encode("ascii", "replace")


# RFC 4314 section 5.1.1: "MUST accurately reflect the current user's rights"
def settable_flags(settable: Settable, keywords: Iterable[str]) -> bytes:
    """Those of these flags that may be set, and ``\\*`` where new keywords may be made; without parentheses."""
    words = [name for flag, name in SYSTEM_FLAGS if settable.flags & flag]
    if settable.keywords:
        words += [*(w for w in keywords if w), "\\*"]
    return " ".join(words).encode("ascii", "replace")
