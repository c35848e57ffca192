"""LIST and LSUB."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from mailserver.imap.errors import Refused
from mailserver.imap.grammar.listing import List, Lsub
from mailserver.imap.responses.status import Completion, ok
from mailserver.store.model.message import MailboxInfo

if TYPE_CHECKING:
    from mailserver.imap.session import Session

Match = Callable[[str], bool]
_FEW_WILDCARDS = 3  # more could make a backtracking expression slow


# RFC 9051 section 6.3.9
def listing(session: Session, args: List) -> Completion:
    """List mailboxes."""
    if args.extended:
        raise Refused("Extended LIST is not supported", b"CANNOT")
    if args.patterns == (b"",):
        # RFC 9051 section 6.3.9: an empty name asks for the separator and the root of the reference
        session.write(b'* LIST (\\Noselect) "/" ""\r\n')
        return ok("LIST completed")
    matches = matcher(session, args.reference, args.patterns)
    infos = session.user_account().mailboxes()
    session.write_many([_line(session, info) for info in infos if matches(info.name)])
    return ok("LIST completed")


def _line(session: Session, info: MailboxInfo) -> bytes:
    return b"* LIST (" + attributes(info) + b') "/" ' + session.encode_name(info.name) + b"\r\n"


# RFC 9051 section 7.3.1: children always, special uses always: iOS uses them without asking
def attributes(info: MailboxInfo) -> bytes:
    """The attributes of a mailbox."""
    words = [] if info.selectable else ["\\Noselect"]
    words.append("\\HasChildren" if info.has_children else "\\HasNoChildren")
    if info.special_use and info.selectable:
        words.append(info.special_use)
    return " ".join(words).encode()


# RFC 3501 section 6.3.9
def lsub(session: Session, args: Lsub) -> Completion:
    """List subscribed names, whether their mailboxes exist or not."""
    account = session.user_account()
    subscribed = list(account.subscriptions())
    matches = matcher(session, args.reference, (args.pattern,))
    known = {info.name: info for info in account.mailboxes()}
    names = [name for name in sorted(subscribed) if matches(name)]
    # RFC 3501 section 6.3.9: "foo" with \Noselect when only "foo/bar" is subscribed and "%" would hide it
    hidden = sorted(parent for parent in parents_of(subscribed) if parent not in subscribed and matches(parent))
    with_percent = args.pattern.endswith(b"%")
    for name in names:
        info = known.get(name)
        words = attributes(info) if info is not None else b""
        session.write(b"* LSUB (" + words + b') "/" ' + session.encode_name(name) + b"\r\n")
    for name in hidden if with_percent else []:
        session.write(b'* LSUB (\\Noselect) "/" ' + session.encode_name(name) + b"\r\n")
    return ok("LSUB completed")


def parents_of(names: Iterable[str]) -> set[str]:
    """Every level above these names."""
    found: set[str] = set()
    for name in names:
        levels = name.split("/")
        found.update("/".join(levels[:i]) for i in range(1, len(levels)))
    return found


def matcher(session: Session, reference: bytes, patterns: Iterable[bytes]) -> Match:
    """Whether a name matches one of the patterns below the reference."""
    base = session.decode_name(reference)
    matches = [_matcher_of(base + session.decode_name(pattern)) for pattern in patterns]
    return matches[0] if len(matches) == 1 else lambda name: any(match(name) for match in matches)


# RFC 9051 section 6.3.9: "*" matches zero or more characters, "%" the same but no separator; INBOX in any case
@lru_cache(maxsize=256)
def _matcher_of(pattern: str) -> Match:
    pattern = re.sub(r"[*%]*\*[*%]*", "*", pattern)  # "%*" and "**" say what "*" says
    pattern = re.sub(r"%+", "%", pattern)
    if pattern[:5].upper() == "INBOX" and (len(pattern) == 5 or pattern[5] in "/*%"):
        pattern = "INBOX" + pattern[5:]
    if len(re.findall(r"[*%]", pattern)) > _FEW_WILDCARDS:
        return lambda name: _match_slowly(pattern, name)
    parts = {"*": ".*", "%": "[^/]*"}
    expression = re.compile("".join(parts.get(c) or re.escape(c) for c in pattern), re.DOTALL)
    return lambda name: expression.fullmatch(name) is not None


def _match_slowly(pattern: str, name: str) -> bool:
    """The same without backtracking: time grows with pattern times name, whatever a client thinks of."""
    places = {0}  # how much of the pattern may have been used up
    for c in [*name, ""]:
        for i in sorted(places):
            while i < len(pattern) and pattern[i] in "*%":
                i += 1
                places.add(i)
        if not c:
            return len(pattern) in places
        places = {
            i if pattern[i] in "*%" else i + 1
            for i in places
            if i < len(pattern) and (pattern[i] == "*" or (pattern[i] == "%" and c != "/") or pattern[i] == c)
        }
    return False
