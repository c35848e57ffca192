"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS: who may do what to a mailbox.

Identifiers are spelled as Dovecot spells them to clients: ``anyone``, ``authenticated``, ``owner``, ``$group``,
``!$group`` for a group that overrides, and else the name of a user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.auth.names import BadName
from mailserver.auth.saslprep import Prohibited, prepare
from mailserver.imap import places
from mailserver.imap.errors import Invalid, Refused
from mailserver.imap.grammar.acl import OfIdentifier, OfMailbox, SetAcl
from mailserver.imap.places import Place
from mailserver.imap.responses.status import Completion, ok
from mailserver.imap.responses.strings import astring
from mailserver.ops import log as logging
from mailserver.store.errors import Kind, StoreError
from mailserver.store.model import rights
from mailserver.store.model.rights import Entry, Identifier, Rank, Rights
from mailserver.store.sharing.aclfile import AccessList

if TYPE_CHECKING:
    from mailserver.imap.session import Session

_log = logging.get("imap")
_LONGEST = 255  # octets of an identifier: a file name, and so a user's, has no more
_MOST = 1000  # entries of a list: each right that is looked up reads them all
_WORDS = {"anyone": Rank.ANYONE, "authenticated": Rank.AUTHENTICATED, "owner": Rank.OWNER}
_SIGNS = {Rank.GROUP: "$", Rank.GROUP_OVERRIDE: "!$"}


# RFC 4314 section 3.1
def setacl(session: Session, args: SetAcl) -> Completion:
    """Give an identifier rights, or take some away."""
    identifier = _identifier(session, args.identifier)
    text = args.change.decode("ascii", "replace")
    try:
        rights.modified(rights.NONE, text)
    except rights.UnknownRight as error:
        # RFC 4314 section 3.1: "an unrecognized right MUST cause the command to return the BAD response"
        raise Invalid(f"The right {str(error)!a} is not known") from None
    place = _administered(session, args.name)
    owner = place.account.user
    if identifier.negative and identifier.means_owner(owner) and "a" in rights.modified(rights.NONE, text):
        raise Refused("The owner cannot lose the right to administer the mailbox", b"CANNOT")
    place.account.change_access(place.name, lambda old: _with(old, identifier, text, owner))
    _log.info(
        "acl-changed",
        session.conn,
        user=session.who.user,
        owner=owner,
        mailbox=place.name,
        identifier=_spelled(identifier),
        rights=text,
    )
    if identifier.means_owner(owner) and not identifier.negative and not _keeps(text):
        # RFC 4314 section 5.1.1: a change beyond the one asked for is told
        session.write(_acl_line(session, place))
    return ok("SETACL completed")


def _keeps(change: str) -> bool:
    """Whether who could administer before still can."""
    asked = "a" in change
    return not asked if change[:1] == "-" else asked or change[:1] == "+"


def _with(old: AccessList, identifier: Identifier, change: str, owner: str) -> AccessList:
    written = old.rights_of(identifier)
    is_owner = identifier.means_owner(owner) and not identifier.negative
    before = written or rights.NONE
    if written is None and is_owner and not rights.speaks_of_owner(old.entries, owner):
        before = rights.ALL  # as it is without being written
    after = rights.modified(before, change)
    if is_owner:
        after |= {"a"}  # RFC 4314 section 2: "MAY force rights to always ... be granted to particular identifiers"
    if written is None and not after and change[:1] in ("+", "-"):
        return old  # an entry of nothing would take away what others give, `anyone` for one
    if written is None and len(old.entries) >= _MOST:
        raise StoreError(Kind.LIMIT, "the access list is too long")
    return old.with_rights(identifier, after)


# RFC 4314 section 3.2
def deleteacl(session: Session, args: OfIdentifier) -> Completion:
    """Take an identifier off the list."""
    identifier = _identifier(session, args.identifier)
    place = _administered(session, args.name)
    place.account.change_access(place.name, lambda old: old.without(identifier))
    _log.info(
        "acl-changed",
        session.conn,
        user=session.who.user,
        owner=place.account.user,
        mailbox=place.name,
        identifier=_spelled(identifier),
        rights=None,
    )
    return ok("DELETEACL completed")


# RFC 4314 section 3.3
def getacl(session: Session, args: OfMailbox) -> Completion:
    """Say the list."""
    session.write(_acl_line(session, _administered(session, args.name)))
    return ok("GETACL completed")


# RFC 4314 section 3.6; what the owner has is said even where it is not written
def _acl_line(session: Session, place: Place) -> bytes:
    entries = place.account.access.list_of(place.name).entries
    owner = place.account.user
    if not rights.speaks_of_owner(entries, owner):
        entries.append(Entry(Identifier(Rank.USER, owner), rights.ALL))
    pairs: dict[Identifier, Rights] = {}
    for entry in entries:
        pairs[entry.identifier] = pairs.get(entry.identifier, rights.NONE) | entry.rights
    said = [astring(_spelled(i)) + b" " + astring(rights.told(r).encode()) for i, r in pairs.items()]
    return b" ".join([b"* ACL", session.encode_name(place.shown), *said]) + b"\r\n"


# RFC 4314 section 3.4: the identifier as the client sent it; no rights are tied together
def listrights(session: Session, args: OfIdentifier) -> Completion:
    """Say which rights an identifier always has, and which it may be given."""
    identifier = _identifier(session, args.identifier)
    place = _administered(session, args.name)
    always = rights.NONE
    if identifier.means_owner(place.account.user):
        always = frozenset("a")
    given = b"" if identifier.negative else rights.letters(always).encode()
    optional = [letter.encode() for letter in rights.letters(rights.ALL - always) + "".join(rights.VIRTUAL)]
    said = [session.encode_name(place.shown), astring(args.identifier), astring(given), *optional]
    session.write(b"* LISTRIGHTS " + b" ".join(said) + b"\r\n")
    return ok("LISTRIGHTS completed")


# RFC 4314 section 3.5
def myrights(session: Session, args: OfMailbox) -> Completion:
    """Say what the client may do."""
    _require_on(session)
    session.write(myrights_line(session, places.find(session, args.name, look=True)))
    return ok("MYRIGHTS completed")


# RFC 4314 section 3.8
def myrights_line(session: Session, place: Place) -> bytes:
    """The MYRIGHTS response. StoreError NOT_FOUND without a right that tells of the mailbox."""
    places.require_known(place)
    return b"* MYRIGHTS " + session.encode_name(place.shown) + b" " + rights.told(place.rights).encode() + b"\r\n"


def _require_on(session: Session) -> None:
    if session.services.store.shares is None:
        raise Refused("Access lists are switched off", b"CANNOT")


# RFC 4314 section 4: "a" right on the mailbox
def _administered(session: Session, name: bytes) -> Place:
    _require_on(session)
    place = places.find(session, name, look=True)
    place.require("a")
    if not place.exists():
        raise places.nothing()
    return place


# RFC 4314 section 3: prepared by SASLprep; "if the preparation ... fails or results in an empty string, ... BAD"
def _identifier(session: Session, sent: bytes) -> Identifier:
    try:
        text = prepare(sent.decode("utf-8"))
    except (UnicodeDecodeError, Prohibited):
        raise Invalid("This cannot be an identifier") from None
    negative = text.startswith("-")
    word = text.removeprefix("-") if negative else text
    if not word or not word.isprintable() or len(word.encode()) > _LONGEST:
        raise Invalid("This cannot be an identifier")
    if word.startswith("#"):
        raise Invalid("Global access lists cannot be changed")  # so Dovecot names what it takes from elsewhere
    if word in _WORDS:
        return Identifier(_WORDS[word], "", negative)
    for rank, sign in _SIGNS.items():
        if word.startswith(sign) and len(word) > len(sign):
            return Identifier(rank, word[len(sign) :], negative)
    try:
        word = session.services.authenticator.canonical(word)
    except BadName:  # it may be somebody to another server
        pass
    return Identifier(Rank.USER, word, negative)


def _spelled(identifier: Identifier) -> bytes:
    word = next((word for word, rank in _WORDS.items() if rank is identifier.rank), "")
    word = word or _SIGNS.get(identifier.rank, "") + identifier.name
    return ("-" + word if identifier.negative else word).encode("utf-8", "surrogateescape")
