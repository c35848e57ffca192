"""Numbers that must not be mixed up."""

from __future__ import annotations

from typing import NewType

Uid = NewType("Uid", int)  # RFC 9051 section 2.3.1.1; ours stay below 2**31: many clients use signed integers
Seq = NewType("Seq", int)  # position in one client's view, from 1; RFC 9051 section 2.3.1.2
UidValidity = NewType("UidValidity", int)
ModSeq = NewType("ModSeq", int)  # RFC 7162 section 3.1; 63 bits

MAX_UID = 2**31 - 1
