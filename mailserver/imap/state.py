"""In which state a session is, and what the loop must know of a command."""

from __future__ import annotations

from enum import Flag, auto


# RFC 9051 section 3: state and flow diagram
class State(Flag):
    """The four states; a set of them says where a command is allowed."""

    NOT_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    SELECTED = auto()
    LOGOUT = auto()


ANY = State.NOT_AUTHENTICATED | State.AUTHENTICATED | State.SELECTED
LOGGED_IN = State.AUTHENTICATED | State.SELECTED


class Trait(Flag):
    """What the loop must know of a command beside its states."""

    NONE = 0
    SECRET = auto()  # its arguments are never logged
    USES_SEQ = auto()  # RFC 9051 section 7.5.1: no EXPUNGE may be sent while it runs
    LITERAL_TO_STORE = auto()  # its last literal goes straight into the store
    NO_SYNC = auto()  # it says itself what the client must hear of the selected mailbox
