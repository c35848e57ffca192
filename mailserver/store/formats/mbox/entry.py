"""What is known of an mbox file without opening it again: its messages and its own numbers. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Fingerprint(NamedTuple):
    """What must be unchanged for the file to be unchanged; times are nanoseconds since 1970."""

    device: int
    inode: int
    size: int
    mtime: int
    ctime: int


class Base(NamedTuple):
    """What X-IMAPbase (or X-IMAP) says: UIDVALIDITY, the UID that the next message gets, the known keywords."""

    uidvalidity: int
    uidnext: int
    keywords: tuple[str, ...]


class Marks(NamedTuple):
    """What a client can change of a message: flags as bits of ``model.flags.Flag``, keywords, and being recent."""

    flags: int = 0
    keywords: frozenset[str] = frozenset()
    recent: bool = True


NO_MARKS = Marks()


class Entry(NamedTuple):
    """One message. The first five are offsets in the file, in this order."""

    offset: int  # of the From_ line
    header: int  # behind the From_ line
    body: int  # behind the empty line that ends the header
    end: int  # behind the last octet of the body: the line end that follows belongs to nobody
    next: int  # of the next From_ line, or the end of the file
    uid: int | None  # None: it has none that can be believed, `MboxFolder.assign` gives it one
    marks: Marks
    date: int  # seconds since 1970: INTERNALDATE
    size: int  # RFC822.SIZE
    check: int  # a sum over From_ line and header as they stand in the file
    identity: int  # a sum over From_ line and the header that clients see: flags do not change it
    verbatim: bool  # its writer counted the octets (Content-Length) and quoted none
    misleading: bool  # it has a Content-Length that is wrong, and may become right by chance when the file grows
    unique_id: str = ""  # POP3's, when another server gave it and it stands behind the UID

    @property
    def unwritten(self) -> bool:
        """Whether its bookkeeping header fields must be written."""
        return self.uid is None or self.misleading


@dataclass(frozen=True, slots=True)
class Box:
    """An mbox file at one moment: never changed, replaced as a whole."""

    fingerprint: Fingerprint
    base: Base | None  # None: no UIDVALIDITY is written in the file
    pseudo: Entry | None  # c-client's message that is none and holds the base
    entries: tuple[Entry, ...]  # in the order of the file; ascending UIDs, behind the first without one all have none
    crlf: bool  # lines of the file end with CRLF
    garbage: int  # octets before the first From_ line: they are left alone
    verified: bool  # every header was read; False: only the new part and the last message that was known before
    certain: bool = True  # whoever changes the file changes the fingerprint

    @property
    def uidnext(self) -> int:
        """The UID that the next message gets at least."""
        given = [entry.uid for entry in self.entries if entry.uid is not None][-1:]
        return max(self.base.uidnext if self.base else 1, *(uid + 1 for uid in given), 1)

    @property
    def unwritten(self) -> bool:
        """Whether `MboxFolder.assign` has something to do."""
        return (not self.base and bool(self.entries)) or any(entry.unwritten for entry in self.entries)
