"""What the server says that it can do, computed: a word stands here with the condition under which it is true."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailserver.imap.state import State
from mailserver.mail import mutf7

if TYPE_CHECKING:
    from mailserver.imap.session import Session

_PLAIN = re.compile(rb"[^\x00-\x1f\x7f\"\\]*")


@dataclass(frozen=True, slots=True)
class Capability:
    """A word of CAPABILITY and when it is said."""

    name: str
    when: Callable[[Session], bool]
    enable: bool = False  # ENABLE takes it


def _always(session: Session) -> bool:
    return True


def _before_login(session: Session) -> bool:
    return session.state is State.NOT_AUTHENTICATED


def _after_login(session: Session) -> bool:
    return session.state is not State.NOT_AUTHENTICATED


def _cleartext(session: Session) -> bool:
    return session.services.authenticator.allows_cleartext(session.conn.tls, session.conn.is_loopback)


def _may_log_in(session: Session) -> bool:
    return _before_login(session) and _cleartext(session)


def _login_disabled(session: Session) -> bool:
    return _before_login(session) and not _cleartext(session)


def _may_start_tls(session: Session) -> bool:
    return _before_login(session) and session.tls is not None and not session.conn.tls


def _may_share(session: Session) -> bool:
    return _after_login(session) and session.services.store.shares is not None


def _may_compress(session: Session) -> bool:
    return _after_login(session) and not session.conn.compressed


# The list before login holds IDLE and ENABLE too: imaplib and Outlook look only there.
CAPABILITIES: tuple[Capability, ...] = (
    Capability("IMAP4rev1", _always),  # RFC 3501 section 6.1.1
    Capability("IMAP4rev2", _always, enable=True),  # RFC 9051 section 6.1.1
    Capability("LITERAL+", _after_login),  # RFC 7888 section 3
    Capability("LITERAL-", _before_login),  # RFC 7888 section 5: up to 4096 octets, which is plenty for a password
    Capability("SASL-IR", _before_login),  # RFC 4959 section 3
    Capability("ID", _always),  # RFC 2971 section 3.1
    Capability("ENABLE", _always),  # RFC 5161 section 3.1
    Capability("IDLE", _always),  # RFC 2177 section 3
    Capability("STARTTLS", _may_start_tls),  # RFC 9051 section 6.2.1
    Capability("LOGINDISABLED", _login_disabled),  # RFC 9051 section 6.2.3
    Capability("AUTH=PLAIN", _may_log_in),
    Capability("AUTH=LOGIN", _may_log_in),
    Capability("NAMESPACE", _after_login),  # RFC 2342 section 5
    Capability("UIDPLUS", _after_login),  # RFC 4315 section 1
    Capability("CHILDREN", _after_login),  # RFC 3348 section 3
    Capability("UNSELECT", _after_login),  # RFC 3691 section 2
    Capability("SPECIAL-USE", _after_login),  # RFC 6154 section 2
    Capability("MOVE", _after_login),  # RFC 6851 section 3
    Capability("MULTIAPPEND", _after_login),  # RFC 3502 section 6
    Capability("WITHIN", _after_login),  # RFC 5032 section 1
    Capability("ESEARCH", _after_login),  # RFC 4731 section 1
    Capability("SEARCHRES", _after_login),  # RFC 5182 section 1
    Capability("LIST-EXTENDED", _after_login),  # RFC 5258 section 1
    Capability("LIST-STATUS", _after_login),  # RFC 5819 section 1
    Capability("CREATE-SPECIAL-USE", _after_login),  # RFC 6154 section 3
    Capability("STATUS=SIZE", _after_login),  # RFC 8438 section 2
    Capability("CONDSTORE", _after_login, enable=True),  # RFC 7162 section 3.1
    Capability("QRESYNC", _after_login, enable=True),  # RFC 7162 section 3.2
    Capability("UTF8=ACCEPT", _after_login, enable=True),  # RFC 6855 section 3
    Capability("BINARY", _after_login),  # RFC 3516 section 2
    Capability("SAVEDATE", _after_login),  # RFC 8514 section 2
    Capability("OBJECTID", _after_login),  # RFC 8474 section 3
    Capability("PREVIEW", _after_login),  # RFC 8970 section 3
    Capability("REPLACE", _after_login),  # RFC 8508 section 2
    Capability("PARTIAL", _after_login),  # RFC 9394 section 3
    Capability("SORT", _after_login),  # RFC 5256 section 1
    Capability("SORT=DISPLAY", _after_login),  # RFC 5957 section 1
    Capability("ESORT", _after_login),  # RFC 5267 section 3
    Capability("THREAD=ORDEREDSUBJECT", _after_login),  # RFC 5256 section 1
    Capability("THREAD=REFERENCES", _after_login),
    Capability("THREAD=REFS", _after_login),
    Capability("QUOTA", _after_login),  # RFC 9208 section 3.1
    Capability("QUOTA=RES-STORAGE", _after_login),
    Capability("QUOTA=RES-MESSAGE", _after_login),
    Capability("ACL", _may_share),  # RFC 4314 section 2
    Capability("RIGHTS=texk", _may_share),  # RFC 4314 section 5.1.1
    Capability("LIST-MYRIGHTS", _may_share),  # RFC 8440 section 3
    Capability("COMPRESS=DEFLATE", _may_compress),  # RFC 4978 section 2
    Capability("I18NLEVEL=1", _after_login),  # RFC 5255 section 4.3
)

ENABLEABLE = {c.name.upper(): c.name for c in CAPABILITIES if c.enable}


def line(session: Session) -> bytes:
    """The words that are true now."""
    off = disabled(session)
    words = [c.name for c in CAPABILITIES if c.name.upper() not in off and c.when(session)]
    if _after_login(session) and "APPENDLIMIT" not in off:
        words.append(f"APPENDLIMIT={session.config.max_message_size}")  # RFC 7889 section 2
    return " ".join(words).encode()


def disabled(session: Session) -> frozenset[str]:
    """Those that are switched off, in capitals."""
    return frozenset(name.upper() for name in session.config.disabled_capabilities) | session.disabled


# RFC 9051 section 9: mailbox = "INBOX" / astring
def mailbox_name(name: str, *, utf8: bool) -> bytes:
    """A mailbox name for a response: a quoted string, or a literal where that cannot be.

    Names are quoted even where an atom would do: some clients read names of atoms as something else.
    """
    octets = name.encode("utf-8", "replace") if utf8 else mutf7.encode(name).encode("ascii")
    if _PLAIN.fullmatch(octets):
        return b"INBOX" if octets == b"INBOX" else b'"' + octets + b'"'
    if b"\r" in octets or b"\n" in octets or b"\0" in octets:
        return b"{%d}\r\n%s" % (len(octets), octets)
    return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
