"""Sets of messages named by a command, found in the session's view."""

from __future__ import annotations

from collections.abc import Sequence

from mailserver.imap.errors import Invalid
from mailserver.imap.view import View
from mailserver.store.model.message import Message
from mailserver.store.model.search import NumberSet


# RFC 9051 section 9: seq-number; a number beyond the last message is an error, a UID that does not exist is not
def indexes(view: View, numbers: NumberSet) -> list[int]:
    """Indexes into ``view.messages``, ascending."""
    try:
        return view.resolve(numbers)
    except IndexError:
        raise Invalid("There is no message with such a sequence number") from None


def chosen(view: View, numbers: NumberSet) -> Sequence[Message]:
    """The messages themselves."""
    messages = view.messages
    return [messages[i] for i in indexes(view, numbers)]
