"""What an mbox knows for POP3: unique-ids that another server gave, behind the UIDs; the order is that of the UIDs.

``X-UIDL`` is the field in which other servers (qpopper, ipopd) kept theirs, and Dovecot finds it with
``pop3_reuse_xuidl``. Directly behind ``X-UID`` it is one of ours: written when a message comes with a unique-id, and
hidden from clients, to whom the message is what it was. Anywhere else it is a part of the message, as it is to Dovecot,
and the setting ``pop3.reuse_xuidl`` says whether it counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailserver.store.formats.mbox import place
from mailserver.store.model.message import Message
from mailserver.store.model.pop import PopMessage


class MboxPop:
    """See `mailserver.store.formats.contract.PopOrder`."""

    def to_adopt(self, messages: Sequence[Message]) -> bool:
        """No other server leaves unique-ids beside an mbox."""
        return False

    def adopt(self, uidnext: int) -> None:
        """Nothing to do."""

    def ordered(self, messages: Sequence[Message]) -> list[PopMessage]:
        """By UID."""
        return [PopMessage(m, place.unique_id(m.file), "") for m in messages]
