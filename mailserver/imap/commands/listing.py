"""LIST, with all its options, and LSUB."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from unicodedata import normalize

from mailserver.imap import capabilities, places
from mailserver.imap.commands.acl import myrights_line
from mailserver.imap.commands.mailbox import status_line
from mailserver.imap.errors import Refused
from mailserver.imap.grammar.listing import List, Lsub
from mailserver.imap.responses.status import Completion, ok
from mailserver.store.errors import StoreError
from mailserver.store.model.message import MailboxInfo

if TYPE_CHECKING:
    from mailserver.imap.session import Session

Match = Callable[[str], bool]
_FEW_WILDCARDS = 3  # more could make a backtracking expression slow


# RFC 9051 section 6.3.9, RFC 5258 section 3
def listing(session: Session, args: List) -> Completion:
    """List mailboxes."""
    if not args.extended and args.patterns == (b"",):
        # RFC 9051 section 6.3.9: an empty name asks for the separator and the root of the reference
        session.write(b'* LIST (\\Noselect) "/" ""\r\n')
        return ok("LIST completed")
    matches = matcher(session, args.reference, args.patterns)
    infos = places.listed(session)
    if not args.extended:
        utf8 = session.utf8
        session.write_many([_basic_line(info, utf8) for info in infos if matches(info.name)])
        return ok("LIST completed")
    for entry in _select(session, args, infos, matches):
        session.write(_line(session, entry.name, entry.attributes(args), entry.below))
        if entry.info is not None and entry.info.selectable:
            _more(session, args, entry.name)
    return ok("LIST completed")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of an extended LIST; ``info`` is None for a subscribed name without a mailbox."""

    name: str
    info: MailboxInfo | None
    subscribed: bool
    below: bool = False  # RFC 5258 section 3.5: CHILDINFO ("SUBSCRIBED")

    def attributes(self, args: List) -> list[str]:
        """What is said of the mailbox."""
        words = [] if self.info is None else _basic(self.info)
        if self.info is None:
            words.append("\\NonExistent")  # RFC 5258 section 3: implies \Noselect
        elif not self.info.selectable and not self.info.level:
            words[words.index("\\Noselect")] = "\\NonExistent"
        if self.subscribed and ("SUBSCRIBED" in args.returns or "SUBSCRIBED" in args.select):
            words.insert(0, "\\Subscribed")
        return words


# RFC 5258 section 3: the options before the names select, those behind RETURN ask for more to be told
def _select(session: Session, args: List, infos: Sequence[MailboxInfo], matches: Match) -> list[_Entry]:
    if "SUBSCRIBED" not in args.select:
        chosen = [i for i in infos if matches(i.name) and ("SPECIAL-USE" not in args.select or i.special_use)]
        return [_Entry(i.name, i, i.subscribed) for i in chosen]
    known = {i.name: i for i in infos}
    subscribed = set(session.user_account().subscriptions())
    above = parents_of(subscribed) if "RECURSIVEMATCH" in args.select else set()
    entries = []
    for name in sorted(subscribed | above, key=lambda n: (n != "INBOX", n)):
        info = known.get(name)
        if not matches(name) or ("SPECIAL-USE" in args.select and not (info and info.special_use)):
            continue
        below = name in above and _hidden(name, subscribed, matches)
        if name in subscribed or below:
            entries.append(_Entry(name, info, name in subscribed, below))
    return entries


# RFC 5258 section 3.5: CHILDINFO is about children that do not match the pattern themselves
def _hidden(name: str, subscribed: set[str], matches: Match) -> bool:
    return any(child.startswith(name + "/") and not matches(child) for child in subscribed)


def _more(session: Session, args: List, name: str) -> None:
    """RFC 5819 section 2, RFC 8440 section 3: a mailbox of which it cannot be said gets none; the LIST goes on."""
    with contextlib.suppress(StoreError, Refused):
        if "MYRIGHTS" in args.returns and session.services.store.shares is not None:
            session.write(myrights_line(session, places.at(session, name)))
        if "STATUS" in args.returns:
            session.write(status_line(session, places.at(session, name), args.status))


# RFC 9051 section 7.3.1: children always, special uses always: iOS uses them without asking
def _basic(info: MailboxInfo) -> list[str]:
    words = [] if info.selectable else ["\\Noselect"]
    if info.inferiors:
        words.append("\\HasChildren" if info.has_children else "\\HasNoChildren")
    else:
        words.append("\\NoInferiors")  # RFC 9051 section 6.3.9.4: implies \HasNoChildren
    if info.special_use and info.selectable:
        words.append(info.special_use)
    return words


@lru_cache(maxsize=4096)
def _basic_line(info: MailboxInfo, utf8: bool) -> bytes:
    name = capabilities.mailbox_name(info.name, utf8=utf8)
    return b"* LIST (" + " ".join(_basic(info)).encode() + b') "/" ' + name + b"\r\n"


def _line(session: Session, name: str, words: Sequence[str], below: bool = False) -> bytes:
    more = b' ("CHILDINFO" ("SUBSCRIBED"))' if below else b""
    return b"* LIST (" + " ".join(words).encode() + b') "/" ' + session.encode_name(name) + more + b"\r\n"


# RFC 3501 section 6.3.9
def lsub(session: Session, args: Lsub) -> Completion:
    """List subscribed names, whether their mailboxes exist or not."""
    account = session.user_account()
    subscribed = set(account.subscriptions())
    matches = matcher(session, args.reference, (args.pattern,))
    known = {info.name: info for info in places.listed(session)}
    # RFC 3501 section 6.3.9: "foo" with \Noselect when only "foo/bar" is subscribed and "%" would hide it
    hidden = parents_of(subscribed) - subscribed if args.pattern.endswith(b"%") else set()
    for name in sorted(n for n in subscribed | hidden if matches(n)):
        info = known.get(name)
        # RFC 3501 section 7.2.3: attributes that LIST has may be left out; clients compare the two lists by names
        selectable = name not in hidden and (info is None or info.selectable)
        session.write(b'* LSUB (%b) "/" %b\r\n' % (b"" if selectable else b"\\Noselect", session.encode_name(name)))
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
    asked = [base + session.decode_name(pattern) for pattern in patterns]
    # RFC 9051 section 5.1: what is not normalized may be meant as it is, or normalized
    matches = [_matcher_of(pattern) for sent in asked for pattern in dict.fromkeys((sent, normalize("NFC", sent)))]
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
    text = "".join(parts.get(c) or re.escape(c) for c in pattern)
    expression = re.compile(text, re.DOTALL)
    if re.fullmatch(text, "INBOX", re.DOTALL | re.IGNORECASE):
        return lambda name: name == "INBOX" or expression.fullmatch(name) is not None
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
