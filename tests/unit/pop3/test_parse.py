from __future__ import annotations

import pytest

from mailserver.auth.sasl import SaslSyntax
from mailserver.auth.service import AuthFailed, AuthUnavailable
from mailserver.pop3 import parse
from mailserver.pop3.errors import BadCommand, Refused, line_for
from mailserver.store.errors import Kind, StoreError


@pytest.mark.parametrize(
    ("parser", "argument", "value"),
    [
        (parse.nothing, b"", None),
        (parse.nothing, b"  ", None),
        (parse.number, b"7", 7),
        (parse.number, b"7 ", 7),
        (parse.maybe_number, b"", None),
        (parse.maybe_number, b"3", 3),
        (parse.top, b"1 10", parse.Top(1, 10)),
        (parse.user, b"bob smith ", "bob smith"),
        (parse.password, b" a  b ", b" a  b "),
        (parse.apop, b"bob smith 00ff", parse.Apop("bob smith", "00ff")),
        (parse.auth, b"", None),
        (parse.auth, b" ", None),
        (parse.auth, b"plain", parse.Auth("PLAIN", None)),
        (parse.auth, b"PLAIN =", parse.Auth("PLAIN", b"=")),
        (parse.language, b"", None),
        (parse.language, b"de", "de"),
    ],
)
def test_arguments(parser, argument, value):
    assert parser(argument) == value


@pytest.mark.parametrize(
    ("parser", "argument"),
    [
        (parse.nothing, b"x"),
        (parse.number, b""),
        (parse.number, b"x"),
        (parse.number, b"-1"),
        (parse.number, b"1 2"),
        (parse.number, b"99999999999"),
        (parse.top, b"1"),
        (parse.top, b"1 2 3"),
        (parse.top, b"1 x"),
        (parse.user, b""),
        (parse.user, b"\xff"),
        (parse.password, b""),
        (parse.apop, b"bob"),
        (parse.auth, b"PLAIN = ="),
    ],
)
def test_bad_arguments(parser, argument):
    with pytest.raises(BadCommand):
        parser(argument)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StoreError(Kind.IN_USE, "in use"), b"-ERR [IN-USE] in use\r\n"),
        (StoreError(Kind.TEMPORARY), b"-ERR [SYS/TEMP] temporary\r\n"),
        (StoreError(Kind.CORRUPT), b"-ERR [SYS/PERM] corrupt\r\n"),
        (StoreError(Kind.EXPUNGED, "gone"), b"-ERR gone\r\n"),
        (AuthFailed(), b"-ERR [AUTH] Authentication failed.\r\n"),
        (AuthUnavailable(), b"-ERR [SYS/TEMP] Temporary authentication failure.\r\n"),
        (SaslSyntax("not base64"), b"-ERR Malformed response: not base64\r\n"),
        (Refused("no\r\n+OK \x07ä", "X"), b"-ERR [X] no??+OK ??\r\n"),
        (BadCommand("what"), b"-ERR what\r\n"),
        (ValueError("secret"), None),
    ],
)
def test_lines(error, line):
    assert line_for(error) == line


def test_a_line_fits():
    assert len(line_for(Refused("x" * 5000, "SYS/TEMP")) or b"") <= 512
