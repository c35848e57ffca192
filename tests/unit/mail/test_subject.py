from __future__ import annotations

import pytest

from mailserver.mail.subject import base


# RFC 5256 section 2.1
@pytest.mark.parametrize(
    ("subject", "expected", "replied"),
    [
        ("Hello", "Hello", False),
        ("Re: Hello", "Hello", True),
        ("re : [list] FW: Hello", "Hello", True),
        ("Re[2]: Hello", "Hello", True),
        ("[list] Hello", "Hello", False),
        ("[list] Re: [list] Re: Hello (fwd) ", "Hello", True),
        ("[Fwd: Re: Hello]", "Hello", True),
        ("[only]", "[only]", False),
        ("Hello  \t there", "Hello there", False),
        ("Re:", "", True),
        ("", "", False),
        ("Regard: x", "Regard: x", False),
        ("[a][b][c] x", "x", False),
    ],
)
def test_base_subject(subject: str, expected: str, replied: bool) -> None:
    assert base(subject) == (expected, replied)


def test_long_subjects_are_quick() -> None:
    assert base("Re: " * 20000 + "x")[0] == "x"
    base("[" * 50000)
    base("[a" * 50000)
    base("[fwd:" * 5000 + "]" * 5000)
