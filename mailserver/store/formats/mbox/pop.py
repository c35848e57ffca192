"""What an mbox knows for POP3: nothing beyond the UIDs, which give unique-ids and order."""

from __future__ import annotations

from collections.abc import Sequence

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
        return [PopMessage(m, "", "") for m in messages]
