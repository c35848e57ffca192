"""The {CRAM-MD5} scheme: the state of MD5 after the first block of HMAC's inner and outer key, as Dovecot stores it.

`hashlib` does not give out its inner state, so one block of MD5 is written out here. It serves to verify stored
passwords only.
"""

from __future__ import annotations

import hashlib
import math
import struct

_SHIFTS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
_TABLE = [int(abs(math.sin(i + 1)) * 2**32) & 0xFFFFFFFF for i in range(64)]
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)


def _mix(step: int, b: int, c: int, d: int) -> tuple[int, int]:
    """Return the round function's value and the index of the word that this step takes."""
    if step < 16:
        return (b & c) | (~b & d), step
    if step < 32:
        return (d & b) | (~d & c), (5 * step + 1) % 16
    if step < 48:
        return b ^ c ^ d, (3 * step + 5) % 16
    return c ^ (b | ~d), (7 * step) % 16


def md5_block(block: bytes) -> tuple[int, int, int, int]:
    """Return MD5's state after one block of 64 octets. RFC 1321 section 3.4."""
    words = struct.unpack("<16I", block)
    a, b, c, d = _START
    for step in range(64):
        value, index = _mix(step, b, c, d)
        turned = (a + value + _TABLE[step] + words[index]) & 0xFFFFFFFF
        shift = _SHIFTS[step // 16][step % 4]
        turned = (turned << shift | turned >> (32 - shift)) & 0xFFFFFFFF
        a, b, c, d = d, (b + turned) & 0xFFFFFFFF, b, c
    x, y, z, w = ((old + new) & 0xFFFFFFFF for old, new in zip(_START, (a, b, c, d), strict=True))
    return x, y, z, w


def cram_md5_contexts(password: bytes) -> bytes:
    """Return outer and inner context, 16 octets each. RFC 2104 section 2 has the pads."""
    if len(password) > 64:
        password = hashlib.md5(password, usedforsecurity=False).digest()
    key = password.ljust(64, b"\0")
    outer = md5_block(bytes(octet ^ 0x5C for octet in key))
    inner = md5_block(bytes(octet ^ 0x36 for octet in key))
    return struct.pack("<8I", *outer, *inner)
