"""The header of an internationalised message, in ASCII: for clients that cannot be sent UTF-8.

RFC 6856 section 2.1: "a surrogate message that complies with unextended POP and Internet Mail Format". Text becomes
encoded words, a domain its ASCII form, parameters of MIME fields become those of RFC 2231. An address that has no ASCII
form is shown as the name of an empty group: it can be read and not be answered. What can be none of these (a field's
name, an identifier) is left out. Octets that are no UTF-8 are taken for latin-1. The header fields of the parts of a
multipart message belong to its body, which is left alone.
"""

from __future__ import annotations

import email.header
import re
import urllib.parse

from mailserver.mail import address, headers, words

_ADDRESSES = frozenset(
    b"from sender reply-to to cc bcc resent-from resent-sender resent-reply-to resent-to resent-cc resent-bcc".split()
)
_WITH_PARAMETERS = frozenset(b"content-type content-disposition".split())
# what programs compare or follow: half of it helps nobody
_IDENTIFIERS = frozenset(
    b"""message-id in-reply-to references resent-message-id received return-path content-id content-transfer-encoding
    mime-version date resent-date dkim-signature arc-seal arc-message-signature arc-authentication-results
    authentication-results received-spf list-id list-help list-unsubscribe list-subscribe list-post list-owner
    list-archive""".split()
)
_PARAMETER = re.compile(r'([!#-\'*+.0-9A-Z^-~-]+)=("(?:[^"\\]|\\.)*"|[^;\s]*)')
_NOBODY = "unreachable@internationalised.invalid"  # RFC 6761 section 6.4: there is no such domain
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_ATOM_WORDS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+\Z")


def header(octets: bytes) -> bytes:
    """Return a header, its empty line included, in ASCII; the same object when it is so already."""
    if octets.isascii():
        return octets
    made, end = [], 0
    for field in headers.iterate(octets):
        line = octets[field.start : field.end]
        made.append(line if line.isascii() else _field(field))
        end = field.end
    rest = octets[end:]
    return b"".join(made) + (rest if rest.isascii() else b"")


def growth(octets: bytes) -> int:
    """Return how many octets more the surrogate has."""
    return len(header(octets)) - len(octets)


def _field(field: headers.Field) -> bytes:
    name = field.name
    if not name or not name.isascii() or name.lower() in _IDENTIFIERS:
        return b""
    title = name.decode("ascii")
    value = headers.unfold(field.value).strip()
    if name.lower() in _ADDRESSES:
        text = _addresses(value)
    elif name.lower() in _WITH_PARAMETERS:
        text = _parameters(_text(value))
    else:
        text = _encoded(_text(value), len(title) + 2)
    return f"{title}: {text}\r\n".encode("ascii", "replace")


def _text(octets: bytes) -> str:
    return _CONTROLS.sub(" ", words.to_text(octets))


def _encoded(text: str, column: int = 0) -> str:
    """RFC 2047 section 2: encoded words of at most 75 characters, a line each."""
    if text.isascii():
        return text
    return email.header.Header(text, "utf-8", 75, "x" * column if column else None).encode(linesep="\r\n")


def _parameters(text: str) -> str:
    def ascii_form(match: re.Match[str]) -> str:
        name, value = match.groups()
        if value.isascii():
            return match[0]
        plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        return f"{name}*=utf-8''{urllib.parse.quote(plain, safe='')}"

    return _PARAMETER.sub(ascii_form, text)


def _addresses(value: bytes) -> str:
    """``group = display-name ":" [group-list] ";"``: its begin, members and end come one after the other."""
    lines: list[str] = []
    inside = False
    line = ""
    for each in address.parse(value):
        if each.mailbox is None:
            lines.append(line.rstrip() + ";")
            line, inside = "", False
        elif each.host is None:
            line, inside = _phrase(each.mailbox) + ": ", True
        else:
            text = _mailbox(each, inside)
            if inside:
                line += text if line.endswith(": ") else ", " + text
            else:
                lines.append(text)
    if inside:
        lines.append(line + ";")
    return ",\r\n ".join(lines)


def _mailbox(each: address.Address, inside: bool) -> str:
    local, host = _text(each.mailbox or b""), _text(each.host or b"")
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:  # no domain name: shown like the rest
            pass
    if local.isascii() and host.isascii():
        spec = f"{_quoted(local)}@{host}"
        return f"{_phrase(each.name)} <{spec}>" if each.name else spec
    shown = " ".join(part for part in (_text(each.name or b""), f"<{local}@{host}>") if part)
    return _encoded(shown) + (f" <{_NOBODY}>" if inside else ":;")  # groups do not nest


def _quoted(local: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+", local):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _phrase(name: bytes | None) -> str:
    text = _text(name or b"")
    if not text.isascii():
        return _encoded(text)
    return text if _ATOM_WORDS.match(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
