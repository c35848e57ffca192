"""Command lines: octets to values. Pure. Each function raises `BadSyntax`, `BadParameter` or `BadAddress`.

RFC 5321 section 4.1.1 has the commands, section 4.1.2 the arguments. Leniency, because mail clients need it: spaces
behind "FROM:" and "TO:", an address without angle brackets, spaces at the end of the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mailserver.mail.addrspec import Address, BadAddress, parse

_NUMBER = re.compile(r"[0-9]{1,20}\Z")
# RFC 5321 section 4.1.2: esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-"); esmtp-value: no "=", SP, control
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\U0010ffff]+))?\Z")
# A-d-l = At-domain *( "," At-domain ); At-domain = "@" Domain. RFC 5321 section 4.1.2: "MUST BE accepted, SHOULD NOT be
# generated, and SHOULD be ignored".
_ROUTE = re.compile(r"@[^\s<>:,@\"]+(?:,@[^\s<>:,@\"]+)*:")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_BY = re.compile(r"(-?[0-9]{1,9});([NRnr])([Tt]?)\Z")
_HOLDFOR = re.compile(r"[0-9]{1,9}\Z")
_PRIORITY = re.compile(r"-?[0-9]\Z")
_INTERNET_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)\Z")
_PATH_END = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^">])*>')


class BadSyntax(Exception):
    """The argument is not what the command wants."""


class BadParameter(Exception):
    """A parameter behind the address that is not known or not for this command."""


@dataclass(frozen=True, slots=True)
class By:
    """RFC 2852: deliver within ``seconds``; ``mode`` "R": else return it, "N": else tell; ``trace``: of each hop."""

    seconds: int
    mode: str
    trace: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM: ``sender`` is None for <>. Then RFC 1870, 6152, 6531, 4954 section 5, 3461, 8689, 2852, 4865, 6710.

    ``given``: the names of the parameters that were there.
    """

    sender: Address | None
    size: int | None = None
    body: str = ""
    smtputf8: bool = False
    auth: str | None = None
    ret: str = ""
    envid: str = ""
    requiretls: bool = False
    by: By | None = None
    holdfor: int | None = None  # seconds
    holduntil: float | None = None  # seconds since 1970
    mt_priority: int | None = None
    given: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO. ``notify`` and ``orcpt``: RFC 3461 section 4.1, RFC 3461 section 4.2. ``given`` as in `Mail`."""

    recipient: Address
    notify: str = ""
    orcpt: str = ""
    given: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Chunk:
    """BDAT. RFC 3030 section 2: ``bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CR LF``."""

    size: int
    last: bool


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH mechanism [initial-response]; the response still in base64."""

    mechanism: str
    initial: bytes | None


# RFC 5321 section 2.4: "Command verbs [...] are not case sensitive"; a verb ends at a space or the end of the line
def command(line: bytes) -> tuple[str, bytes]:
    """Split a line (its end is taken off) into verb, in upper case, and argument."""
    verb, _, argument = line.rstrip(b"\r\n").rstrip(b" \t").partition(b" ")
    return verb.decode("ascii", "replace").upper(), argument.lstrip(b" ")


def _text(argument: bytes) -> str:
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        raise BadSyntax("Not UTF-8") from None
    if any(c < " " or c == "\x7f" for c in text):
        raise BadSyntax("Control characters in a command")
    return text


def nothing(argument: bytes) -> None:
    """No argument."""
    if argument:
        raise BadSyntax("This command takes no argument")


def anything(argument: bytes) -> str:
    """Some text, or none: NOOP and HELP."""
    return _text(argument)


def something(argument: bytes) -> str:
    """Some text."""
    if not argument:
        raise BadSyntax("Argument missing")
    return _text(argument)


# RFC 5321 section 4.1.1.1: ehlo = "EHLO" SP ( Domain / address-literal ) CRLF. What is no domain is taken as well:
# "the server MUST NOT refuse to accept a message for this reason" (section 4.1.4).
def hello(argument: bytes) -> str:
    """The client's name for itself."""
    name = something(argument)
    if len(name) > 255:
        raise BadSyntax("Not a name")
    return name


def _path(text: str, prefix: str) -> tuple[str, str]:
    """Split ``FROM:<path> parameters`` into the path, brackets taken off, and the parameters."""
    if text[: len(prefix)].upper() != prefix:
        raise BadSyntax(f"Expected {prefix}<address>")
    rest = text[len(prefix) :].lstrip(" ")
    if not rest.startswith("<"):
        path, _, parameters = rest.partition(" ")
        if not path:
            raise BadSyntax(f"Expected {prefix}<address>")
        return path, parameters
    found = _PATH_END.match(rest, 1)
    if found is None:
        raise BadAddress("no >")
    path, parameters = rest[1 : found.end() - 1], rest[found.end() :]
    if parameters and not parameters.startswith(" "):
        raise BadSyntax("Expected a space behind the address")
    return path.strip(" "), parameters


def _mailbox(path: str) -> Address:
    route = _ROUTE.match(path)
    return parse(path[route.end() :] if route else path)


def _parameters(text: str, known: Mapping[str, Callable[[str | None], Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    given: list[str] = []
    for word in text.split():
        match = _PARAMETER.match(word)
        if match is None:
            raise BadSyntax("Bad parameter")
        name = match[1].upper()
        read = known.get(name)
        if read is None:
            raise BadParameter(f"{name[:30]} is not known here")
        key = name.lower().replace("-", "_")
        if key in found:
            raise BadSyntax(f"{name} twice")
        found[key] = read(match[2])
        given.append(name)
    found["given"] = tuple(given)
    return found


# RFC 5321 section 4.1.1.2: mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF; Reverse-path = Path / "<>"
def mail(argument: bytes) -> Mail:
    """Read the argument of MAIL."""
    path, rest = _path(_text(argument), "FROM:")
    found = _parameters(rest, _MAIL_PARAMETERS)
    if "holdfor" in found and "holduntil" in found:
        raise BadSyntax("HOLDFOR and HOLDUNTIL exclude each other")
    return Mail(_mailbox(path) if path else None, **found)


# RFC 5321 section 4.1.1.3: rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path )
def rcpt(argument: bytes) -> Rcpt:
    """Read the argument of RCPT."""
    path, rest = _path(_text(argument), "TO:")
    found = _parameters(rest, _RCPT_PARAMETERS)
    if not path:
        raise BadAddress("empty")
    return Rcpt(_mailbox(path), **found)


def chunk(argument: bytes) -> Chunk:
    """Read the argument of BDAT."""
    words = _text(argument).split()
    last = len(words) == 2 and words[1].upper() == "LAST"
    if not words or not _NUMBER.match(words[0]) or (len(words) > 1 and not last):
        raise BadSyntax("Expected BDAT size [LAST]")
    return Chunk(int(words[0]), last)


# RFC 4954 section 4: AUTH mechanism [initial-response]
def auth(argument: bytes) -> Auth:
    """Read the argument of AUTH."""
    words = argument.split(b" ")
    if not words[0] or len(words) > 2:
        raise BadSyntax("Expected AUTH mechanism [response]")
    return Auth(words[0].decode("ascii", "replace").upper(), words[1] if len(words) == 2 else None)


# RFC 3461 section 4: xtext = *( xchar / hexchar ); hexchar = "+" and two upper case hexadecimal digits
def from_xtext(text: str) -> str:
    """Decode xtext; raises `BadSyntax`."""
    if not _XTEXT.match(text):
        raise BadSyntax("Not xtext")
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text)


def to_xtext(text: str) -> str:
    """Encode as xtext; what is not ASCII becomes octets of UTF-8."""
    return "".join(chr(o) if 33 <= o <= 126 and o not in b"+=" else f"+{o:02X}" for o in text.encode())


# -- parameters


# RFC 1870 section 3: size-value = 1*20DIGIT
def _size(value: str | None) -> int:
    if value is None or not _NUMBER.match(value):
        raise BadSyntax("Bad SIZE")
    return int(value)


# RFC 3030 section 3: body-value ::= "7BIT" / "8BITMIME" / "BINARYMIME"
def _body(value: str | None) -> str:
    if value is None or value.upper() not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise BadParameter("This BODY is not known here")
    return value.upper()


def _flag(name: str) -> Callable[[str | None], bool]:
    def read(value: str | None) -> bool:
        if value is not None:
            raise BadSyntax(f"{name} takes no value")
        return True

    return read


# RFC 4954 section 5: AUTH=mailbox in xtext, or <>
def _auth(value: str | None) -> str:
    if value is None:
        raise BadSyntax("Bad AUTH")
    return from_xtext(value)


# RFC 3461 section 4.3: ret-value = "FULL" / "HDRS"
def _ret(value: str | None) -> str:
    if value is None or value.upper() not in ("FULL", "HDRS"):
        raise BadSyntax("Bad RET")
    return value.upper()


# RFC 3461 section 4.4: envid-parameter = "ENVID=" xtext; "printable US-ASCII"; at most 100 characters
def _envid(value: str | None) -> str:
    if value is None or len(value) > 100:
        raise BadSyntax("Bad ENVID")
    text = from_xtext(value)
    if not (text.isascii() and text.isprintable()):
        raise BadSyntax("Bad ENVID")
    return text


# RFC 3461 section 4.1: notify-esmtp-value = "NEVER" / 1#notify-list-element: SUCCESS, FAILURE, DELAY
def _notify(value: str | None) -> str:
    words = (value or "").upper().split(",")
    if words != ["NEVER"] and not (set(words) <= {"SUCCESS", "FAILURE", "DELAY"} and len(set(words)) == len(words)):
        raise BadSyntax("Bad NOTIFY")
    return ",".join(words)


# RFC 3461 section 4.2: original-recipient-address = addr-type ";" xtext; at most 500 characters
# RFC 6533 section 3: addr-type utf-8 has utf-8-addr-xtext or utf-8-addr-unitext: kept as it came
def _orcpt(value: str | None) -> str:
    kind, separator, text = (value or "").partition(";")
    if not separator or not text or not re.fullmatch(r"[A-Za-z0-9-]+", kind) or len(value or "") > 500:
        raise BadSyntax("Bad ORCPT")
    if kind.lower() == "utf-8":
        return f"utf-8;{text}"
    decoded = from_xtext(text)
    if not (decoded.isascii() and decoded.isprintable()):
        raise BadSyntax("Bad ORCPT")
    return f"{kind};{decoded}"


# RFC 2852: by-value = by-time ";" by-mode [by-trace]; by-time = ["-"] 1*9DIGIT, in seconds. To return what is late
# already makes no sense.
def _by(value: str | None) -> By:
    found = _BY.match(value or "")
    if found is None:
        raise BadSyntax("Bad BY")
    by = By(int(found[1]), found[2].upper(), bool(found[3]))
    if by.mode == "R" and by.seconds <= 0:
        raise BadSyntax("BY with R wants a time above 0")
    return by


# RFC 4865: HOLDFOR = 1*9DIGIT seconds
def _holdfor(value: str | None) -> int:
    if value is None or not _HOLDFOR.match(value):
        raise BadSyntax("Bad HOLDFOR")
    return int(value)


# RFC 4865: HOLDUNTIL = date-time of RFC 3339
def _holduntil(value: str | None) -> float:
    if value is None or not _INTERNET_DATE.match(value.upper()):
        raise BadSyntax("Bad HOLDUNTIL")
    try:
        return datetime.fromisoformat(value.upper()).timestamp()
    except (ValueError, OverflowError):
        raise BadSyntax("Bad HOLDUNTIL") from None


# RFC 6710: priority-value = (["-"] NZDIGIT) / "0"; from -9 to 9
def _priority(value: str | None) -> int:
    if value is None or not _PRIORITY.match(value) or value == "-0":
        raise BadSyntax("Bad MT-PRIORITY")
    return int(value)


_MAIL_PARAMETERS: Mapping[str, Callable[[str | None], Any]] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _flag("SMTPUTF8"),
    "AUTH": _auth,
    "RET": _ret,
    "ENVID": _envid,
    "REQUIRETLS": _flag("REQUIRETLS"),
    "BY": _by,
    "HOLDFOR": _holdfor,
    "HOLDUNTIL": _holduntil,
    "MT-PRIORITY": _priority,
}
_RCPT_PARAMETERS: Mapping[str, Callable[[str | None], Any]] = {"NOTIFY": _notify, "ORCPT": _orcpt}
