"""The forms of a unique-id.

RFC 1939 section 7: "an arbitrary server-determined string, consisting of one to 70 characters in the range 0x21 to
0x7E, which uniquely identifies a message within a maildrop and which persists across sessions". What another server
gave a message is kept; the others are made of its UID, which is never used again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from mailserver.mail import headers
from mailserver.store.model.pop import PopMessage

_GIVEN = re.compile(rb"[\x21-\x7e]{1,70}")

_FORMS: Mapping[str, Callable[[int, PopMessage], str]] = {
    # Dovecot's %08Xu%08Xv
    "dovecot": lambda validity, m: f"{m.message.uid:08x}{validity:08x}",
    # Cyrus since 2.1.4, Dovecot 0.99
    "cyrus": lambda validity, m: f"{validity}.{m.message.uid}",
    # Courier since it keeps a UIDVALIDITY
    "courier": lambda validity, m: f"UID{m.message.uid}-{validity}",
    "uidvalidity-uid": lambda validity, m: f"{validity}-{m.message.uid}",
    # Courier's first form, and Dovecot's %f. A name may be longer than 70 octets: to send it otherwise than those
    # servers did would make their clients download everything again
    # an mbox has no names and takes the first form
    "filename": lambda validity, m: m.name or f"{m.message.uid:08x}{validity:08x}",
}


def unique_ids(form: str, validity: int, messages: Sequence[PopMessage]) -> list[str]:
    """Return the unique-id of each message; ``form`` is a choice of the setting ``uidl_format``."""
    make = _FORMS[form]
    taken: set[str] = set()
    found = []
    for m in messages:
        uidl = m.saved if m.saved not in taken else ""  # mboxes were put together, or a message was copied
        found.append(uidl or make(validity, m))
        taken.add(uidl)
    return found


def reused(header: bytes) -> bytes:
    """The unique-id that another server wrote into the message, empty without one; its first ``X-UIDL`` counts.

    RFC 1939 section 7: one to 70 characters. A client can send mail with such a field too: see ``pop3.reuse_xuidl``.
    """
    given = next((value.strip() for name, value in headers.pairs(header) if name == b"x-uidl"), b"")
    return given if _GIVEN.fullmatch(given) else b""
