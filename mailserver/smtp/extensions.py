"""THE list of extensions: what EHLO says of each, when it works, and which parameters and commands come with it.

An extension is announced when its line is not "" and the settings do not switch it off; only then its parameters and
commands are understood.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailserver.smtp.commands import auth, starttls

if TYPE_CHECKING:
    from mailserver.smtp.session import Session


@dataclass(frozen=True, slots=True)
class Extension:
    """A row. ``line`` gives what EHLO says now, "" for nothing; ``parameters`` of MAIL and RCPT."""

    name: str
    line: Callable[[Session], str]
    parameters: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def _always(session: Session) -> str:
    return "*"  # the name itself


def _never(session: Session) -> str:
    return ""  # a command without a keyword


def _size(session: Session) -> str:
    return f"SIZE {session.context.options.max_message_size}"


def _limits(session: Session) -> str:
    return f"LIMITS RCPTMAX={session.context.options.max_recipients}"


def _with_queue(session: Session) -> str:
    """What needs a queue: reports must have a way to their readers, and what waits a place to wait."""
    return "*" if session.context.router.relays else ""


def _binary(session: Session) -> str:
    """RFC 3030 section 3: "can only be used with the CHUNKING service extension"."""
    return "*" if "CHUNKING" not in session.context.options.disabled else ""


def _require_tls(session: Session) -> str:
    """RFC 8689 section 2: "The session itself MUST employ TLS transmission"."""
    return "*" if session.conn.tls else ""


# RFC 4865: future-release-keyword = "FUTURERELEASE" SP max-interval SP max-date-time; for submission only
def _future_release(session: Session) -> str:
    longest = session.context.options.max_hold
    if not session.context.flavour.must_log_in or not longest or not session.context.router.relays:
        return ""
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + longest))
    return f"FUTURERELEASE {longest} {until}"


EXTENSIONS: tuple[Extension, ...] = (
    Extension("PIPELINING", _always),  # RFC 2920
    Extension("ENHANCEDSTATUSCODES", _always),  # RFC 2034
    Extension("8BITMIME", _always, ("BODY",)),  # RFC 6152
    Extension("SMTPUTF8", _always, ("SMTPUTF8",)),  # RFC 6531
    Extension("SIZE", _size, ("SIZE",)),  # RFC 1870
    Extension("LIMITS", _limits),  # RFC 9422
    Extension("DSN", _with_queue, ("RET", "ENVID", "NOTIFY", "ORCPT")),  # RFC 3461
    Extension("HELP", _always, commands=("HELP",)),  # RFC 5321 section 4.1.1.8
    Extension("CHUNKING", _always, commands=("BDAT",)),  # RFC 3030 section 2
    Extension("BINARYMIME", _binary, ("BODY=BINARYMIME",)),  # RFC 3030 section 3
    Extension("REQUIRETLS", _require_tls, ("REQUIRETLS",)),  # RFC 8689 section 2
    Extension("DELIVERBY", _with_queue, ("BY",)),  # RFC 2852
    Extension("FUTURERELEASE", _future_release, ("HOLDFOR", "HOLDUNTIL")),  # RFC 4865
    Extension("MT-PRIORITY", _with_queue, ("MT-PRIORITY",)),  # RFC 6710
    Extension("STARTTLS", starttls.keyword, commands=("STARTTLS",)),  # RFC 3207
    Extension("AUTH", auth.keyword, ("AUTH",), ("AUTH",)),  # RFC 4954
    Extension("VRFY", _never, commands=("VRFY",)),  # RFC 5321 section 3.5.3: VRFY need not be named
    Extension("EXPN", _never, commands=("EXPN",)),  # RFC 5321 section 3.5.3: named by who tells the members of lists
)
_BY_PARAMETER = {name: extension for extension in EXTENSIONS for name in extension.parameters}
_BY_COMMAND = {name: extension.name for extension in EXTENSIONS for name in extension.commands}
# RFC 4954 section 5: AUTH= may come from a client that has logged in, to whom AUTH is no longer announced
_QUIET = {"AUTH"}


def keywords(session: Session) -> list[str]:
    """Return the lines of EHLO that are true now."""
    disabled = session.context.options.disabled
    lines = [(e.name, e.line(session)) for e in EXTENSIONS if e.name not in disabled]
    return [name if line == "*" else line for name, line in lines if line]


def understood(session: Session, parameter: str) -> bool:
    """Say whether a parameter may be used now."""
    extension = _BY_PARAMETER[parameter]
    if extension.name in session.context.options.disabled:
        return False
    return parameter in _QUIET or bool(extension.line(session))


def switched_off(verb: str, disabled: frozenset[str]) -> bool:
    """Say whether the settings take a command away."""
    return _BY_COMMAND.get(verb, "") in disabled


def body_parameter(body: str) -> str:
    """Return under which name a BODY= stands in the list: BINARYMIME is an extension of its own."""
    return "BODY=BINARYMIME" if body == "BINARYMIME" else "BODY"
