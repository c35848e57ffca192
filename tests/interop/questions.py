"""What is asked of two servers over the same messages, to see whether they answer alike."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mailserver.mail import encodings, headers, text, words
from mailserver.mail.structure import parse

_WORD = re.compile(rb"[^\s\x00\"\\]{3,20}")

_CONSTANT = """
ALL|ANSWERED|DELETED|DRAFT|FLAGGED|SEEN|UNANSWERED|UNDELETED|UNDRAFT|UNFLAGGED|UNSEEN
NOT ALL|NOT SEEN|OR SEEN FLAGGED|OR (SEEN FLAGGED) NOT DRAFT|(SEEN) (FLAGGED)|NOT (NOT (SEEN))
1|1:5|*|5:1|2,4:7,9:*|UID 1|UID 1:5,9|UID *|UID 100000:*|UID 3:2|NOT 1:10|NOT UID 1:10
KEYWORD work|KEYWORD WORK|UNKEYWORD work|KEYWORD nobody|UNKEYWORD nobody|KEYWORD $Forwarded|NOT KEYWORD work
LARGER 0|LARGER 1000|SMALLER 1000|SMALLER 1|LARGER 500 SMALLER 2000|NOT LARGER 700
BEFORE 20-Jul-2017|ON 20-Jul-2017|SINCE 20-Jul-2017|NOT ON 15-Jul-2017|ON "14-Jul-2017"|ON 4-Aug-2017
SENTBEFORE 1-Jan-2005|SENTON 1-Jan-2005|SENTSINCE 1-Jan-2005|SENTSINCE 1-Jan-1970|SENTBEFORE 1-Jan-2030
SENTON 20-Apr-2001|SENTON 21-Nov-1997|SENTON 1-Jul-2003|NOT SENTSINCE 1-Jan-1998|SENTON 13-Feb-1969
HEADER X-Mailer ""|HEADER Date ""|HEADER Received ""|HEADER Nobody ""|HEADER "Content-Type" ""|HEADER To ""
HEADER Subject ""|HEADER Received by|HEADER content-type multipart|HEADER message-id "<"|HEADER References @
HEADER MIME-Version 1.0|HEADER Content-Transfer-Encoding base64|HEADER Content-Disposition attachment
FROM ""|TO ""|CC ""|BCC ""|SUBJECT ""|BODY ""|TEXT ""|FROM a|TO a|CC a|BCC a|SUBJECT a|BODY a|TEXT a
FROM "@"|FROM "<"|FROM example|FROM EXAMPLE.COM|TO "mary smith"|FROM "\\"|CC "@"|SUBJECT "re:"|SUBJECT " "
BODY "the "|BODY "\\"|TEXT "subject:"|TEXT "content-type: text/plain"|BODY "content-type"|BODY "boundary"|TEXT "boundary="
BODY "--"|TEXT "received: from"|BODY "=20"|TEXT "=?"|BODY "</"|BODY "<html"|BODY href|TEXT ".gif"|BODY "name="
OR FROM a SUBJECT b|NOT TEXT the|NOT BODY the|FROM a TO b|OR BODY "the " SENTSINCE 1-Jan-2005|SEEN BODY a
CHARSET US-ASCII SUBJECT a|CHARSET UTF-8 TEXT a|CHARSET X-UNKNOWN TEXT a|CHARSET ISO-8859-1 BODY a
"""  # noqa: E501 - a table

_SORTS = """ARRIVAL|CC|DATE|FROM|SIZE|SUBJECT|TO|DISPLAYFROM|DISPLAYTO|REVERSE ARRIVAL|REVERSE CC|REVERSE DATE
REVERSE FROM|REVERSE SIZE|REVERSE SUBJECT|REVERSE TO|REVERSE DISPLAYFROM|SUBJECT DATE|FROM REVERSE SUBJECT|TO SIZE
SUBJECT REVERSE DATE|REVERSE SUBJECT ARRIVAL|CC FROM REVERSE SIZE"""

_LETTERS = "éÉöÖßçñøŁłžЖж日本語한국αΩİıſǅﬁK"


def constant() -> list[bytes]:
    """Searches that fit every mailbox."""
    asked = [key for line in _CONSTANT.split("\n") for key in line.split("|") if key]
    lines = [f"SEARCH {key}".encode() for key in asked]
    lines += [f"UID SEARCH {key}".encode() for key in asked[::7]]
    for letter in _LETTERS:
        octets = letter.encode()
        for field in (b"SUBJECT", b"TEXT", b"BODY", b"FROM"):
            lines.append(b"SEARCH CHARSET UTF-8 %s {%d+}\r\n%s" % (field, len(octets), octets))
    for letter in "éÖßñ":
        lines.append(b"SEARCH CHARSET ISO-8859-1 TEXT {1+}\r\n" + letter.encode("latin-1"))
    return lines


def sorts(uids: str) -> list[bytes]:
    """SORTs and THREADs of these messages."""
    keys = [key for line in _SORTS.split("\n") for key in line.split("|")]
    lines = [f"SORT ({key}) UTF-8 UID {uids}" for key in keys] + [f"UID SORT (SUBJECT) US-ASCII UID {uids}"]
    for algorithm in ("REFERENCES", "REFS", "ORDEREDSUBJECT"):
        lines += [f"THREAD {algorithm} UTF-8 UID {uids}", f"UID THREAD {algorithm} US-ASCII NOT DRAFT UID {uids}"]
    return [line.encode() for line in lines]


def wording(messages: Iterable[bytes], each: int) -> list[bytes]:
    """Searches for words of the messages, ``each`` of every one."""
    lines: list[bytes] = []
    fields = (b"BODY", b"TEXT", b"FROM", b"TO", b"SUBJECT", b"CC", b"HEADER Content-Type", b"HEADER Received")
    for number, octets in enumerate(messages):
        found = _WORD.findall(octets[:20000])
        for place in range(each):
            if found:
                word = found[(number * 7919 + place * 104729) % len(found)]
                if not word.isascii():  # of which charset?
                    continue
                quoted = b'"%s"' % word
                lines.append(
                    b"SEARCH %s %s" % (fields[(number + place) % len(fields) if place % 2 else place % 4 // 2], quoted)
                )
    return lines


_DATE = re.compile(rb"(?:\w{3}, +)?\d+ \w{3} \d{4} \d\d:\d\d(?::\d\d)? [+-]\d{4}(?: \(\w+\))?")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def dated(message: bytes) -> bool:
    """Whether it has one Date: field as RFC 5322 writes it; of others the servers make different things."""
    values = [value for name, value in headers.pairs(headers.split(message)[0]) if name == b"date"]
    return len(values) == 1 and _DATE.fullmatch(values[0].strip()) is not None


def guessed(message: bytes) -> bool:
    """Whether this server guesses a charset or an encoding where Dovecot sees nothing."""
    root = parse(message)
    parts = [root]
    for part in parts:
        parts += part.children
        header = part.header(message)
        fields = [name for name, _ in headers.pairs(header)]
        if not _is_utf8(header) or fields.count(b"content-type") > 1 or part.type == b"":
            return True
        if part.children or not (part.is_text or part.type == b"message"):
            continue
        if part.encoding is None and b"content-transfer-encoding" in fields:
            return True
        try:
            octets = encodings.decode(part.body(message), part.encoding)
        except ValueError:
            return True
        if (part.encoding or b"").lower() == b"base64" and not _BASE64.fullmatch(b"".join(part.body(message).split())):
            return True
        if words.codec(text.charset(part)) in (None, "utf-8") and not _is_utf8(octets):
            return True
    return False


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True
