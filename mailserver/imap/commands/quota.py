"""GETQUOTA, GETQUOTAROOT, SETQUOTA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.imap import places
from mailserver.imap.errors import Refused
from mailserver.imap.grammar.quota import GetQuota, GetQuotaRoot, SetQuota
from mailserver.imap.responses.status import Completion, ok
from mailserver.imap.responses.strings import string

if TYPE_CHECKING:
    from mailserver.imap.session import Session

ROOT = b"User quota"  # one root for all mailboxes of an account


# RFC 9208 section 4.1.1
def getquota(session: Session, args: GetQuota) -> Completion:
    """Say limits and usage of the quota root."""
    if args.root != ROOT or not session.user_account().quota.limits():
        raise Refused("There is no such quota root", b"NONEXISTENT")
    session.write(_quota(session))
    return ok("GETQUOTA completed")


# RFC 9208 section 4.1.2
def getquotaroot(session: Session, args: GetQuotaRoot) -> Completion:
    """Say which quota root a mailbox belongs to: none where there is no limit."""
    place = places.find(session, args.name)
    place.require("r")  # RFC 9208 section 6
    if not place.own:
        raise Refused("The quota of others is not shown", b"NOPERM")
    mailbox = place.mailbox()
    limited = bool(session.user_account().quota.limits())
    root = b" " + string(ROOT) if limited else b""
    session.write(b"* QUOTAROOT " + session.encode_name(place.called(mailbox)) + root + b"\r\n")
    if limited:
        session.write(_quota(session))
    return ok("GETQUOTAROOT completed")


# RFC 9208 section 4.1.3: limits are the administrator's business, and QUOTASET is not announced
def setquota(session: Session, args: SetQuota) -> Completion:
    """Refuse."""
    raise Refused("Limits are set by the administrator", b"NOPERM")


# RFC 9208 section 5.1: STORAGE in units of 1024 octets
def _quota(session: Session) -> bytes:
    quota = session.user_account().quota
    limits, usage = quota.limits(), quota.usage()
    resources = []
    if limits.octets:
        resources.append(b"STORAGE %d %d" % (-(-usage.octets // 1024), limits.octets // 1024))
    if limits.messages:
        resources.append(b"MESSAGE %d %d" % (usage.messages, limits.messages))
    return b"* QUOTA " + string(ROOT) + b" (" + b" ".join(resources) + b")\r\n"
