"""Arguments of commands: octets behind the keyword to values. Each raises BadCommand.

RFC 1939 section 3: "Commands in the POP3 consist of a case-insensitive keyword, possibly followed by one or more
arguments. [...] Keywords and arguments are each separated by a single SPACE character."
Leniency: spaces at the end are ignored where no password can stand (Outlook sends "AUTH ").
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mailserver.pop3.errors import BadCommand

_NUMBER = re.compile(rb"[0-9]{1,10}\Z")


class Top(NamedTuple):
    """TOP msg n."""

    number: int
    lines: int


class Auth(NamedTuple):
    """AUTH mechanism [initial-response]; the response still in base64."""

    mechanism: str
    initial: bytes | None


class Apop(NamedTuple):
    """APOP name digest."""

    user: str
    digest: str


def nothing(argument: bytes) -> None:
    """No argument."""
    if argument.strip(b" "):
        raise BadCommand("This command takes no argument")


def _number(word: bytes, what: str) -> int:
    if not _NUMBER.match(word):
        raise BadCommand(f"Expected {what}")
    return int(word)


def number(argument: bytes) -> int:
    """One message-number."""
    return _number(argument.rstrip(b" "), "a message number")


def maybe_number(argument: bytes) -> int | None:
    """A message-number or nothing."""
    return number(argument) if argument.strip(b" ") else None


def top(argument: bytes) -> Top:
    """A message-number and a number of lines."""
    words = argument.rstrip(b" ").split(b" ")
    if len(words) != 2:
        raise BadCommand("Expected a message number and a number of lines")
    return Top(_number(words[0], "a message number"), _number(words[1], "a number of lines"))


def _text(octets: bytes, what: str) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise BadCommand(f"{what} is not UTF-8") from None


def user(argument: bytes) -> str:
    """A user name; it may hold spaces."""
    name = _text(argument.rstrip(b" "), "The user name")
    if not name:
        raise BadCommand("Expected a user name")
    return name


# RFC 1939 section 7: "Since the PASS command has exactly one argument, a POP3 server may treat spaces in the argument
# as part of the password, instead of as argument separators."
def password(argument: bytes) -> bytes:
    """A password, to the end of the line."""
    if not _text(argument, "The password"):
        raise BadCommand("Expected a password")
    return argument


def apop(argument: bytes) -> Apop:
    """A name, which may hold spaces, and a digest."""
    name, space, digest = argument.rstrip(b" ").rpartition(b" ")
    if not space or not name:
        raise BadCommand("Expected a user name and a digest")
    return Apop(_text(name, "The user name"), _text(digest, "The digest"))


# RFC 5034 section 4: AUTH mechanism [initial-response]
def auth(argument: bytes) -> Auth | None:
    """A mechanism and perhaps a response; nothing at all, or spaces, as Outlook sends, asks for the list."""
    words = argument.rstrip(b" ").split(b" ")
    if words == [b""]:
        return None
    if len(words) > 2:
        raise BadCommand("Expected a mechanism and at most one response")
    return Auth(words[0].decode("ascii", "replace").upper(), words[1] if len(words) == 2 else None)


def language(argument: bytes) -> str | None:
    """A language range or nothing."""
    return argument.rstrip(b" ").decode("ascii", "replace") or None
