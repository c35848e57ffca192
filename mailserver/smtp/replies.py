"""Every reply by its name, so that a test says what it expects in one word. RFC 5321 section 4.2, RFC 3463."""

from __future__ import annotations

from mailserver.delivery.target import Status

MAX_TEXT = 400  # RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets

OK = Status(250, "2.0.0", "OK")
BYE = Status(221, "2.0.0", "Bye")
RESET = Status(250, "2.0.0", "Reset")
SENDER_OK = Status(250, "2.1.0", "Sender OK")
RECIPIENT_OK = Status(250, "2.1.5", "Recipient OK")
CANNOT_VERIFY = Status(252, "2.1.5", "Cannot verify, but will take mail and try")
READY_FOR_TLS = Status(220, "2.0.0", "Ready to start TLS")
AUTHENTICATED = Status(235, "2.7.0", "Authenticated")
GO_ON = Status(354, "", "End with <CRLF>.<CRLF>")

SHUTTING_DOWN = Status(421, "4.3.2", "The server is shutting down")
TIMEOUT = Status(421, "4.4.2", "Timeout")
TOO_MANY_ERRORS = Status(421, "4.7.0", "Too many errors")
TOO_BUSY = Status(421, "4.3.2", "Not now")
NOT_HTTP = Status(421, "4.7.0", "This is no web server")

TOO_MANY_RECIPIENTS = Status(452, "4.5.3", "Too many recipients")
TLS_UNAVAILABLE = Status(454, "4.7.0", "TLS is not available")
AUTH_UNAVAILABLE = Status(454, "4.7.0", "Temporary authentication failure")

UNKNOWN_COMMAND = Status(500, "5.5.2", "Unknown command")
LINE_TOO_LONG = Status(500, "5.5.2", "Line too long")
AUTH_LINE_TOO_LONG = Status(500, "5.5.6", "Authentication exchange line is too long")
AUTH_CANCELLED = Status(501, "5.7.0", "Authentication cancelled")
AUTH_SYNTAX = Status(501, "5.5.2", "Bad authentication response")
BAD_ADDRESS = Status(501, "5.1.3", "Bad address syntax")
BAD_SENDER = Status(501, "5.1.7", "Bad sender address syntax")
NOT_IMPLEMENTED = Status(502, "5.5.1", "Not implemented here")
HELLO_FIRST = Status(503, "5.5.1", "Say hello first")
MAIL_FIRST = Status(503, "5.5.1", "MAIL first")
RCPT_FIRST = Status(503, "5.5.1", "RCPT first")
NESTED_MAIL = Status(503, "5.5.1", "There is a sender already")
NOT_NOW = Status(503, "5.5.1", "Not within a mail transaction")
EHLO_FIRST = Status(503, "5.5.1", "EHLO first")
DATA_IS_BINARY = Status(503, "5.5.1", "A binary message comes by BDAT")
CHUNKS_BEGUN = Status(503, "5.5.1", "BDAT has begun, DATA cannot follow")
BDAT_FAILED = Status(503, "5.5.1", "An earlier chunk was refused, send RSET")
ALREADY_TLS = Status(503, "5.5.1", "TLS is active already")
ALREADY_AUTHENTICATED = Status(503, "5.5.1", "Already authenticated")
MECHANISM_UNKNOWN = Status(504, "5.5.4", "Unknown authentication mechanism")
AUTH_REQUIRED = Status(530, "5.7.0", "Authentication required")
AUTH_FAILED = Status(535, "5.7.8", "Authentication failed")
NEEDS_TLS = Status(538, "5.7.11", "Passwords are only accepted over TLS, use STARTTLS first")
HOLD_TOO_LONG = Status(501, "5.5.4", "That is longer than mail is held here")
HOLD_PAST_BY = Status(501, "5.5.4", "It would be late when it is released")
NEEDS_UTF8 = Status(553, "5.6.7", "The address needs SMTPUTF8")
NOT_YOUR_ADDRESS = Status(553, "5.7.1", "This sender address is not yours")
NOT_YOUR_FROM = Status(550, "5.7.1", "The address in From: is not yours")
RELAY_DENIED = Status(550, "5.7.1", "Relaying denied")
BARE_NEWLINE = Status(550, "5.6.0", "Bare CR or LF in the message")
TOO_BIG = Status(552, "5.3.4", "Message too big")
NO_RECIPIENTS = Status(554, "5.5.1", "No valid recipients")
LOOP = Status(554, "5.4.6", "Too many hops, this message loops")


def encode(status: Status, *, enhanced: bool = True) -> bytes:
    """Return the reply as octets: one line for each line of the text, made printable ASCII.

    ``enhanced``: with the enhanced code, if it has one.
    """
    prefix = f"{status.enhanced} " if status.enhanced and enhanced else ""
    lines = status.text.split("\n")
    marks = ["-"] * (len(lines) - 1) + [" "]
    return "".join(
        [f"{status.code}{mark}{prefix}{clean(line)}\r\n" for mark, line in zip(marks, lines, strict=True)]
    ).encode()


def clean(text: str) -> str:
    """Return ``text`` fit for a reply."""
    text = text[:MAX_TEXT]
    return text if text.isascii() and text.isprintable() else "".join(c if " " <= c <= "~" else "?" for c in text)
