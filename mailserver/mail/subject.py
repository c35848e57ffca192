"""The base subject: what is left of a Subject when everything that replying and forwarding adds is taken away.

RFC 5256 section 2.1.
"""

from __future__ import annotations

import re

_BLOB = r"\[[^\[\]]*\]\s*"
_TRAILER = re.compile(r"(?:\s|\(fwd\))+\Z", re.IGNORECASE)
# subj-leader = (*subj-blob subj-refwd) / WSP ; subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"
_LEADER = re.compile(rf"(?:(?:{_BLOB})*(?:re|fwd?)\s*(?:{_BLOB})?:|\s)", re.IGNORECASE)
_LEADING_BLOB = re.compile(_BLOB)
_FORWARDED = re.compile(r"\[fwd:(.*)\]\Z", re.IGNORECASE | re.DOTALL)
_SPACE = re.compile(r"\s+")


def base(subject: str) -> tuple[str, bool]:
    """The base subject of a decoded subject, and whether it was a reply or forward."""
    text = _SPACE.sub(" ", subject)
    replied = False
    while True:
        text, marked = _strip(text)
        replied = replied or marked
        forwarded = _FORWARDED.match(text)
        if forwarded is None:
            return text, replied
        text, replied = forwarded[1], True


def _strip(text: str) -> tuple[str, bool]:
    """Steps 2 to 5: trailers, leaders, and blobs that leave something behind them."""
    replied = False
    shorter = _TRAILER.sub("", text)
    if shorter != text:
        replied = "(fwd)" in text[len(shorter) :].lower()
        text = shorter
    while True:
        leader = _LEADER.match(text)
        if leader is not None:
            replied = replied or leader.group().strip() != ""
            text = text[leader.end() :]
            continue
        blob = _LEADING_BLOB.match(text)
        if blob is not None and text[blob.end() :]:
            text = text[blob.end() :]
            continue
        return text, replied
