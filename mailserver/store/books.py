"""The small files beside the mail: lists of subscriptions, keywords, rights and the like, each read as a whole."""

from __future__ import annotations

import os

_BLOCK = 1 << 16


def read_book(path: str, most: int) -> bytes:
    """What is in a file, at most so many octets of it. OSError.

    Memory is taken for what is there, not for ``most``, as ``read(most)`` would.
    """
    found = bytearray()
    with open(path, "rb", buffering=0, opener=_unwaiting) as file:
        while len(found) < most and (block := file.read(min(_BLOCK, most - len(found)))):
            found += block
    return bytes(found)


def _unwaiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # should it be a pipe: nobody may ever write into it
