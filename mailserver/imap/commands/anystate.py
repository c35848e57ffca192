"""CAPABILITY, NOOP, CHECK, LOGOUT, ID, ENABLE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver import __version__
from mailserver.imap import capabilities
from mailserver.imap.grammar.anystate import Enable, Id, NoArguments
from mailserver.imap.responses import status
from mailserver.imap.responses.status import Completion, ok
from mailserver.imap.state import State
from mailserver.ops import log as logging
from mailserver.store.errors import Kind, StoreError

if TYPE_CHECKING:
    from mailserver.imap.session import Session

_log = logging.get("imap")


# RFC 9051 section 6.1.1
def capability(session: Session, args: NoArguments) -> Completion:
    """Say what the server can do."""
    session.write(b"* CAPABILITY " + capabilities.line(session) + b"\r\n")
    return ok("CAPABILITY completed")


# RFC 9051 section 6.1.2: "always succeeds"; the loop tells what happened to the mailbox after every command
def noop(session: Session, args: NoArguments) -> Completion:
    """Do nothing but look for news."""
    if session.view is not None:
        try:
            session.view.mailbox.poll()
        except StoreError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            session.lost_mailbox(error)
    return ok("NOOP completed")


# RFC 3501 section 6.4.1
def check(session: Session, args: NoArguments) -> Completion:
    """Do what NOOP does: everything that was answered is on disk already."""
    session.selected().mailbox.poll()
    return ok("CHECK completed")


# RFC 9051 section 6.1.3
def logout(session: Session, args: NoArguments) -> Completion:
    """Say goodbye."""
    session.write(status.line(b"*", b"BYE", "IMAP4rev1 Server logging out"))
    session.unselect()
    session.state = State.LOGOUT
    return ok("LOGOUT completed")


# RFC 2971 section 3.1: the server must not base its behaviour on what the client says
def identify(session: Session, args: Id) -> Completion:
    """Exchange names."""
    said = {
        key.decode("utf-8", "replace"): (value or b"").decode("utf-8", "replace")
        for key, value in args.parameters or ()
    }
    if said:
        _log.info("client", session.conn, name=said.get("name"), version=said.get("version"), os=said.get("os"))
    session.write(b'* ID ("name" "postkeep" "version" "%s")\r\n' % __version__.encode())
    return ok("ID completed")


# RFC 5161 section 3.1: unknown capabilities are ignored; the answer names those that this command enabled
def enable(session: Session, args: Enable) -> Completion:
    """Switch on what changes the protocol."""
    off = capabilities.disabled(session)
    known = capabilities.ENABLEABLE
    added = [c for c in dict.fromkeys(args.capabilities) if c in known and c not in off and c not in session.enabled]
    session.enabled.update(c for c in added if c != "CONDSTORE")
    session.write(b"* ENABLED" + "".join(" " + known[c] for c in added).encode() + b"\r\n")
    if "IMAP4REV2" in added and session.view is not None:
        session.view.tells_recent = False  # RFC 9051 section 2.3.2: \Recent is deprecated
    if "CONDSTORE" in added or "QRESYNC" in added:  # RFC 7162 section 3.2.3: QRESYNC brings CONDSTORE with it
        session.enable_condstore()
    return ok("ENABLE completed")
