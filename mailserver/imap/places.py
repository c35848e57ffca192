"""Where a mailbox lies that a client names, whose it is, and what this client may do there.

The one place that turns the name of a mailbox into an account and a name in it; every command that takes a name comes
here and asks the `Place` that it gets for the right that it needs. Mailboxes of others have names below the prefix of
the settings: ``Other Users/alice/Work``; alice's INBOX is ``Other Users/alice``, as Dovecot calls it, and
``Other Users/alice/INBOX`` means the same. A mailbox of the user's own that has such a name, because it was there
before, is meant first.

Whoever may not see a mailbox hears what he would hear if it were not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize

from mailserver.auth.names import BadName
from mailserver.imap import news
from mailserver.imap.errors import Refused
from mailserver.imap.responses import flags as flag_responses
from mailserver.store.errors import Kind, StoreError
from mailserver.store.model.message import MailboxInfo
from mailserver.store.model.rights import ALL, KNOWING, NONE, Rights
from mailserver.store.tree import names

if TYPE_CHECKING:
    from mailserver.imap.session import Session
    from mailserver.imap.view import View
    from mailserver.store.account import Account
    from mailserver.store.mailbox import Mailbox


class Place(NamedTuple):
    """A mailbox, which need not exist. ``shown`` is its name for this client, ``name`` the one in its account."""

    account: Account
    name: str
    shown: str
    own: bool
    rights: Rights

    def require(self, right: str) -> None:
        """Refused [NOPERM] without it; StoreError NOT_FOUND when not even its existence is this client's business."""
        if right in self.rights:
            return
        # RFC 4314 section 6: "the same error that would be used if the mailbox did not exist"
        if "l" not in self.rights:
            raise nothing()
        raise forbidden()

    def mailbox(self) -> Mailbox:
        """Open it; StoreError NOT_FOUND, BAD_NAME."""
        return self.account.mailbox(self.name)

    def called(self, mailbox: Mailbox) -> str:
        """What to call it towards the client: by the name that he chose, in its one spelling."""
        return mailbox.name if self.shown == self.name else self.shown

    def exists(self) -> bool:
        """Whether it can be opened."""
        return self.account.exists(self.name)


def nothing() -> StoreError:
    """What is said of a mailbox that is not there."""
    return StoreError(Kind.NOT_FOUND, "there is no such mailbox")


# RFC 5530 section 3: NOPERM
def forbidden() -> Refused:
    """What is said where a right is missing."""
    return Refused("You may not do this to the mailbox", b"NOPERM")


def find(session: Session, sent: bytes, *, look: bool = False) -> Place:
    """The place that the client names; StoreError NOT_FOUND for one in an account that is not there.

    ``look``: at the access list even where the record says that it does not concern its owner.
    """
    return at(session, session.named(sent), look=look)


def at(session: Session, name: str, *, look: bool = False) -> Place:
    """As ``find``, by a name that is decoded already."""
    account = session.user_account()
    prefix = session.shared_prefix
    if prefix and name.startswith(prefix) and not account.exists(name):
        return _of_another(session, name)
    if not look and not account.access.limited():
        return Place(account, name, name, True, ALL)
    known = names.canonical(name)
    return Place(account, known, known, True, account.access.rights(known, session.who, look=look))


def _of_another(session: Session, name: str) -> Place:
    session.user_account().tree.check(name)  # a name that nobody can have is that, whoever there is
    user, _, below = name[len(session.shared_prefix) :].partition(names.SEPARATOR)
    try:
        owner = session.services.authenticator.canonical(user)
    except BadName:
        raise nothing() from None
    account = session.services.store.account_there(owner)
    if account is None:
        raise nothing()
    try:
        known = account.tree.check(below or names.INBOX)
    except StoreError:  # which names are reserved depends on the mailboxes that are there
        raise nothing() from None
    if not known.isascii() and not account.exists(known):
        known = normalize("NFC", known)
    shown = session.shared_prefix + owner
    if known != names.INBOX:
        shown += names.SEPARATOR + known
    return Place(account, known, shown, owner == session.who.user, account.access.rights(known, session.who, look=True))


def shown(session: Session, sent: bytes) -> str:
    """The name under which the client knows a mailbox, whether it is there or not."""
    try:
        return find(session, sent).shown
    except StoreError:
        return session.named(sent)


def is_below_prefix(session: Session, name: str) -> bool:
    """Whether names of others are there, so that no mailbox of the user's own can be made."""
    prefix = session.shared_prefix
    return bool(prefix) and (name.removesuffix(names.SEPARATOR) + names.SEPARATOR).startswith(prefix)


def parent(session: Session, place: Place) -> Place | None:
    """The nearest mailbox above that exists; None: the top of the account."""
    for above in reversed(names.parents(names.canonical(place.name))):
        if place.account.exists(above):
            rights = place.account.access.rights(above, session.who, look=not place.own)
            return place._replace(name=above, shown="", rights=rights)
    return None


# RFC 4314 section 4: CREATE: "k" right on a nearest existing parent mailbox. The top of an account is its owner's
def require_creation(session: Session, sent: bytes) -> Place:
    """The place of a mailbox that is to be made, by CREATE or RENAME. Refused [NOPERM], [CANNOT]."""
    name = session.named(sent)
    if not is_below_prefix(session, name):
        place = at(session, name)
        above = parent(session, place)
        if above is not None and "k" not in above.rights:
            raise forbidden()
        return place._replace(name=name, shown=name)  # a separator at the end may mean something
    if session.user_account().exists(name):
        raise StoreError(Kind.EXISTS, "the mailbox exists already")
    try:
        place = at(session, name)
        above = parent(session, place)
    except StoreError as error:
        if error.kind is not Kind.NOT_FOUND:
            raise
        raise forbidden() from None  # whether such a user exists is nobody's business
    if above is None or "k" not in above.rights:
        raise forbidden()
    return place


def require_known(place: Place) -> None:
    """For MYRIGHTS: any right that tells of the mailbox. StoreError NOT_FOUND."""
    if not place.rights & KNOWING or not place.exists():
        raise nothing()


# -- lists


def listed(session: Session) -> Sequence[MailboxInfo]:
    """Every mailbox that the user may see: his own, then those that others share with him.

    RFC 4314 section 4: LIST behaves as if a mailbox without the right "l" did not exist.
    """
    account = session.user_account()
    infos = account.mailboxes()
    hidden = {name for name in account.access.limited() if not _visible_here(session, account, name, unknown=True)}
    shares = session.services.store.shares
    shared = shares.given_to(session.who) if shares is not None and session.shared_prefix else {}
    if not hidden and not shared:
        return infos
    own = {info.name: info for info in infos}
    seen = {name for name, info in own.items() if info.selectable and name not in hidden}
    foreign = [name for owner, found in sorted(shared.items()) for name in _visible(session, owner, found)]
    return _tree(own, seen, [name for name in foreign if name not in own], session)


def _visible(session: Session, owner: str, found: set[str]) -> list[str]:
    """Names, as the client knows them, of those of a user's mailboxes that have the right "l"."""
    account = session.services.store.account_there(owner)
    if account is None:
        return []
    start = session.shared_prefix + owner
    try:
        there = {info.name for info in account.mailboxes() if info.selectable}
    except StoreError:  # an account that went away
        return []
    granted = sorted(n for n in found & there if _visible_here(session, account, n, unknown=False))
    return [start if name == names.INBOX else start + names.SEPARATOR + name for name in granted]


def _visible_here(session: Session, account: Account, name: str, *, unknown: bool) -> bool:
    """Whether there is the right "l"; ``unknown`` when the list cannot be read, for LIST has to say the others."""
    try:
        return "l" in account.access.rights(name, session.who)
    except StoreError:
        return unknown


def _tree(own: dict[str, MailboxInfo], seen: set[str], foreign: Sequence[str], session: Session) -> list[MailboxInfo]:
    """The names with the levels above them, and whether there are some below."""
    subscribed = set(session.user_account().subscriptions())
    above = {level for name in [*seen, *foreign] for level in names.parents(name)}
    result = []
    mine = seen | {level for name in seen for level in names.parents(name)}
    for name in sorted(mine, key=lambda n: (n != names.INBOX, n)):
        known = own[name]
        result.append(replace(known, selectable=name in seen, has_children=name in above))
    others = {level for name in foreign for level in [*names.parents(name), name]} - mine
    selectable = set(foreign)
    for name in sorted(others):
        result.append(MailboxInfo(name, name in selectable, name in above, name in subscribed, ""))
    return result


# -- the selected mailbox


# RFC 4314 section 5.1.1: "If the server checks the rights on each command, then it SHOULD send FLAGS and
# PERMANENTFLAGS responses if they have changed"
def renew(session: Session, view: View) -> bool:
    """Take over the rights of this moment; False when the mailbox may not be read any more, and is let go."""
    if view.place is None:
        return True
    rights = _rights_now(session, view.place)
    if "r" not in rights:
        session.lost_mailbox(StoreError(Kind.NOT_FOUND, "you may not read it any more"))
        return False
    if rights != view.rights:
        view.set_rights(rights)
        session.write(b"* FLAGS (" + flag_responses.known_flags(view.snapshot.keywords) + b")\r\n")
        session.write(news.permanent_flags(view, view.snapshot))
    return True


def _rights_now(session: Session, place: Place) -> Rights:
    try:
        return place.account.access.rights(names.canonical(place.name), session.who, look=True)
    except StoreError:
        return NONE  # its list cannot be read: who cannot be asked gives nothing
