"""BODY and BODYSTRUCTURE: RFC 9051 section 7.5.2."""

from __future__ import annotations

from mailserver.imap.responses.envelope import envelope
from mailserver.imap.responses.strings import NIL, string, unfolded
from mailserver.mail.parameters import Parameters
from mailserver.mail.structure import Part

_US_ASCII = b'"charset" "us-ascii"'  # RFC 2045 section 5.2: what a text is that does not say
# RFC 2046 section 5.1.1 wants at least one part; the grammar of IMAP too.
_NO_PART = b'("text" "plain" (%b) NIL NIL "7bit" 0 0' % _US_ASCII


def body(message: bytes, part: Part) -> bytes:
    """Return BODY: the structure without extension data."""
    return _render(message, part, False)


def bodystructure(message: bytes, part: Part) -> bytes:
    """Return BODYSTRUCTURE: the structure with all extension data."""
    return _render(message, part, True)


def _render(message: bytes, part: Part, extended: bool) -> bytes:
    if part.is_multipart:
        return _multipart(message, part, extended)
    return _single(message, part, extended)


def _multipart(message: bytes, part: Part, extended: bool) -> bytes:
    """RFC 9051 section 9: ``body-type-mpart = 1*body SP media-subtype [SP body-ext-mpart]``."""
    if part.children:
        parts = b"".join([_render(message, child, extended) for child in part.children])
    else:
        parts = _NO_PART + (b" NIL NIL NIL NIL)" if extended else b")")
    if not extended:
        return b"(%b %b)" % (parts, string(part.subtype))
    return b"(%b %b %b%b)" % (parts, string(part.subtype), _parameters(part.parameters), _extension(part))


def _single(message: bytes, part: Part, extended: bool) -> bytes:
    """RFC 9051 section 9: ``body-type-basic / body-type-msg / body-type-text``."""
    text = part.is_text
    if part.is_message:
        media = b'"message" "rfc822"'
    elif part.type is None:
        media = b'"text" "plain"'
    elif part.type.lower() == b"multipart" or (part.type.lower(), part.subtype.lower()) == (b"message", b"rfc822"):
        media = b'"application" "octet-stream"'  # it has no parts that could be shown
    else:
        media = b"%b %b" % (string(part.type), string(part.subtype))
    out = [
        b"(%b %b %b %b %b %d"
        % (
            media,
            _parameters(part.parameters, text),
            unfolded(part.id),
            unfolded(part.description),
            b'"7bit"' if part.encoding is None else string(part.encoding),
            part.body_end - part.body_start,
        )
    ]
    if part.is_message:
        child = part.children[0]
        out.append(b"%b %b" % (envelope(child.header(message)), _render(message, child, extended)))
    if text or part.is_message:
        out.append(b"%d" % part.lines)
    if extended:
        out.append(unfolded(part.md5) + _extension(part))
    return b" ".join(out) + b")"


def _extension(part: Part) -> bytes:
    """RFC 9051 section 9: ``body-fld-dsp [SP body-fld-lang [SP body-fld-loc]]``."""
    if part.disposition is None:
        disposition = NIL
    else:
        disposition = b"(%b %b)" % (string(part.disposition), _parameters(part.disposition_parameters))
    if part.languages:
        language = b"(%b)" % b" ".join([string(each) for each in part.languages])
    else:
        language = NIL
    return b" %b %b %b" % (disposition, language, unfolded(part.location))


def _parameters(parameters: Parameters, with_charset: bool = False) -> bytes:
    """RFC 9051 section 9: ``body-fld-param``; a text always names its charset."""
    words = [b"%b %b" % (string(name), string(value)) for name, value in parameters]
    if with_charset and not any(name.lower() == b"charset" for name, _ in parameters):
        words.append(_US_ASCII)
    return b"(%b)" % b" ".join(words) if words else NIL
