"""THE table: what each command is called, how it is read, what it does, where it is allowed.

The state machine of RFC 9051 section 3 is the third column; the rule of section 7.5.1 is USES_SEQ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailserver.imap.commands import acl as do_acl
from mailserver.imap.commands import anystate as do_any
from mailserver.imap.commands import append as do_append
from mailserver.imap.commands import compress as do_compress
from mailserver.imap.commands import copy as do_copy
from mailserver.imap.commands import expunge as do_expunge
from mailserver.imap.commands import fetch as do_fetch
from mailserver.imap.commands import flags as do_flags
from mailserver.imap.commands import idle as do_idle
from mailserver.imap.commands import listing as do_list
from mailserver.imap.commands import mailbox as do_mailbox
from mailserver.imap.commands import nonauth as do_nonauth
from mailserver.imap.commands import quota as do_quota
from mailserver.imap.commands import search as do_search
from mailserver.imap.commands import sort as do_sort
from mailserver.imap.grammar import (
    acl,
    anystate,
    append,
    compress,
    copy,
    expunge,
    fetch,
    flags,
    listing,
    mailbox,
    nonauth,
    quota,
    search,
    sort,
)
from mailserver.imap.grammar.append import AppendHead
from mailserver.imap.grammar.cursor import Cursor
from mailserver.imap.responses.status import Completion
from mailserver.imap.state import ANY, LOGGED_IN, State, Trait

if TYPE_CHECKING:
    from mailserver.imap.session import Session


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A row. ``head`` reads the command so far when a literal is announced that goes to the store."""

    parse: Callable[[Cursor], Any]
    run: Callable[[Session, Any], Completion | None]
    states: State
    traits: Trait = Trait.NONE
    head: Callable[[Cursor], AppendHead] | None = None


_NOT_YET = State.NOT_AUTHENTICATED
_OPEN = State.SELECTED
_SECRET, _SEQ = Trait.SECRET, Trait.USES_SEQ
_nothing = anystate.nothing

TABLE: Mapping[str, CommandSpec] = {
    # RFC 9051 section 6.1, any state
    "CAPABILITY": CommandSpec(_nothing, do_any.capability, ANY),
    "NOOP": CommandSpec(_nothing, do_any.noop, ANY),
    "LOGOUT": CommandSpec(_nothing, do_any.logout, ANY),
    "ID": CommandSpec(anystate.identify, do_any.identify, ANY),  # RFC 2971
    # section 6.2, not authenticated
    "STARTTLS": CommandSpec(_nothing, do_nonauth.starttls, _NOT_YET),
    "AUTHENTICATE": CommandSpec(nonauth.authenticate, do_nonauth.authenticate, _NOT_YET, _SECRET),
    "LOGIN": CommandSpec(nonauth.login, do_nonauth.login, _NOT_YET, _SECRET),
    # section 6.3, authenticated
    "ENABLE": CommandSpec(anystate.enable, do_any.enable, LOGGED_IN),
    "SELECT": CommandSpec(mailbox.select, do_mailbox.select, LOGGED_IN, Trait.NO_SYNC),
    "EXAMINE": CommandSpec(mailbox.examine, do_mailbox.select, LOGGED_IN, Trait.NO_SYNC),
    "CREATE": CommandSpec(mailbox.create, do_mailbox.create, LOGGED_IN),
    "DELETE": CommandSpec(mailbox.one, do_mailbox.delete, LOGGED_IN),
    "RENAME": CommandSpec(mailbox.rename, do_mailbox.rename, LOGGED_IN),
    "SUBSCRIBE": CommandSpec(mailbox.one, do_mailbox.subscribe, LOGGED_IN),
    "UNSUBSCRIBE": CommandSpec(mailbox.one, do_mailbox.unsubscribe, LOGGED_IN),
    "LIST": CommandSpec(listing.listing, do_list.listing, LOGGED_IN),
    "LSUB": CommandSpec(listing.lsub, do_list.lsub, LOGGED_IN),  # RFC 3501 section 6.3.9
    "NAMESPACE": CommandSpec(_nothing, do_mailbox.namespace, LOGGED_IN),
    "STATUS": CommandSpec(mailbox.status, do_mailbox.status, LOGGED_IN),
    "APPEND": CommandSpec(append.append, do_append.append, LOGGED_IN, Trait.LITERAL_TO_STORE, append.append_head),
    "IDLE": CommandSpec(_nothing, do_idle.idle, LOGGED_IN),
    "COMPRESS": CommandSpec(compress.compress, do_compress.compress, LOGGED_IN),  # RFC 4978
    # RFC 4314
    "SETACL": CommandSpec(acl.setacl, do_acl.setacl, LOGGED_IN),
    "DELETEACL": CommandSpec(acl.of_identifier, do_acl.deleteacl, LOGGED_IN),
    "GETACL": CommandSpec(acl.of_mailbox, do_acl.getacl, LOGGED_IN),
    "LISTRIGHTS": CommandSpec(acl.of_identifier, do_acl.listrights, LOGGED_IN),
    "MYRIGHTS": CommandSpec(acl.of_mailbox, do_acl.myrights, LOGGED_IN),
    # RFC 9208
    "GETQUOTA": CommandSpec(quota.getquota, do_quota.getquota, LOGGED_IN),
    "GETQUOTAROOT": CommandSpec(quota.getquotaroot, do_quota.getquotaroot, LOGGED_IN),
    "SETQUOTA": CommandSpec(quota.setquota, do_quota.setquota, LOGGED_IN),
    # section 6.4, selected
    "CHECK": CommandSpec(_nothing, do_any.check, _OPEN),  # RFC 3501 section 6.4.1
    "CLOSE": CommandSpec(_nothing, do_mailbox.close, _OPEN),
    "UNSELECT": CommandSpec(_nothing, do_mailbox.unselect, _OPEN),
    "EXPUNGE": CommandSpec(_nothing, do_expunge.expunge, _OPEN),
    "SEARCH": CommandSpec(search.search, do_search.search, _OPEN, _SEQ),
    "FETCH": CommandSpec(fetch.fetch, do_fetch.fetch, _OPEN, _SEQ),
    "STORE": CommandSpec(flags.store, do_flags.store, _OPEN, _SEQ),
    "COPY": CommandSpec(copy.copy, do_copy.copy, _OPEN),
    "MOVE": CommandSpec(copy.copy, do_copy.move, _OPEN),
    # RFC 5256
    "SORT": CommandSpec(sort.sort, do_sort.sort, _OPEN, _SEQ),
    "THREAD": CommandSpec(sort.thread, do_sort.thread, _OPEN, _SEQ),
    "UID SORT": CommandSpec(sort.uid_sort, do_sort.sort, _OPEN),
    "UID THREAD": CommandSpec(sort.uid_thread, do_sort.thread, _OPEN),
    # RFC 8508
    "REPLACE": CommandSpec(append.replace, do_append.replace, _OPEN, Trait.LITERAL_TO_STORE, append.replace_head),
    "UID REPLACE": CommandSpec(
        append.uid_replace, do_append.replace, _OPEN, Trait.LITERAL_TO_STORE, append.uid_replace_head
    ),
    # section 6.4.9: the UID forms may announce EXPUNGE
    "UID EXPUNGE": CommandSpec(expunge.uid_expunge, do_expunge.uid_expunge, _OPEN),
    "UID SEARCH": CommandSpec(search.uid_search, do_search.search, _OPEN),
    "UID FETCH": CommandSpec(fetch.uid_fetch, do_fetch.fetch, _OPEN),
    "UID STORE": CommandSpec(flags.uid_store, do_flags.store, _OPEN),
    "UID COPY": CommandSpec(copy.uid_copy, do_copy.copy, _OPEN),
    "UID MOVE": CommandSpec(copy.uid_copy, do_copy.move, _OPEN),
}
