"""What a change of an mbox is in octets: which parts of the file become which others, and in what manner."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mailserver.store.errors import Kind, StoreError
from mailserver.store.formats.mbox import fromline, headers
from mailserver.store.formats.mbox.entry import Base, Box, Entry, Marks
from mailserver.store.formats.mbox.headers import Edit
from mailserver.store.formats.mbox.journal import SECTOR, Patch, Piece


@dataclass(frozen=True, slots=True)
class Plan:
    """How edits are carried out: all ``direct``, or as ``patches`` by a journal, and then the file is cut.

    What lies in one sector is written directly: a process or machine that dies leaves it old or new.
    """

    direct: Sequence[Edit]
    patches: Sequence[Patch]
    cut: int | None  # the file's new size, when all that happens to its end is that it goes
    moved: int  # from here on offsets are others
    touched: Sequence[int]  # where headers were changed that stay where they are


def plan(edits: Iterable[Edit], size: int) -> Plan:
    """Edits of a file of this size, which do not overlap, in order of their offsets."""
    rest = sorted((edit for edit in edits if edit.new or edit.start < edit.end), key=lambda edit: edit.start)
    inside: list[Edit] = []
    while rest and len(rest[0].new) == rest[0].end - rest[0].start:
        inside.append(rest.pop(0))
    touched = [edit.start for edit in inside]
    if not rest and all(edit.start // SECTOR == (edit.end - 1) // SECTOR for edit in inside):
        return Plan(inside, (), None, size, touched)
    patches = [Patch(edit.start, edit.end - edit.start, (edit.new,)) for edit in inside]
    if not rest:
        return Plan((), patches, None, size, touched)
    moved = at = rest[0].start
    pieces: list[Piece] = []
    for edit in rest:
        if at < edit.start:
            pieces.append((at, edit.start))
        if edit.new:
            pieces.append(edit.new)
        at = edit.end
    if at < size:
        pieces.append((at, size))
    if not pieces:
        return Plan((), patches, moved, moved, touched)
    patches.append(Patch(moved, size - moved, tuple(pieces)))
    return Plan((), patches, None, moved, touched)


def with_keywords(base: Base, marks: Iterable[Marks], uidnext: int) -> Base:
    """The base when these keywords are used, too."""
    known = {word.lower() for word in base.keywords}
    fresh: dict[str, str] = {}
    for each in marks:
        for word in sorted(each.keywords):
            if word.lower() not in known:
                fresh.setdefault(word.lower(), word)
    return Base(base.uidvalidity, max(base.uidnext, uidnext), (*base.keywords, *fresh.values()))


def numbered(fd: int, box: Box, base: Base, uids: Mapping[int, int]) -> list[Edit]:
    """Messages at these offsets get these UIDs; wrong Content-Lengths go."""
    edits = _base_edits(fd, box, base, {entry.offset for entry in box.entries if entry.unwritten})
    for i, entry in enumerate(box.entries):
        if entry.unwritten:
            uid = uids.get(entry.offset, entry.uid)
            edits.append(_edit(fd, box, entry, uid, entry.marks, base if i == 0 and not box.pseudo else None))
    return edits


def marked(fd: int, box: Box, marks: Mapping[int, Marks]) -> list[Edit]:
    """Messages with these UIDs get these flags."""
    if box.base is None:
        return []
    chosen = [(e, new) for e in box.entries if e.uid and (new := marks.get(e.uid, e.marks)) != e.marks]
    base = with_keywords(box.base, (new for _, new in chosen), box.base.uidnext)
    edits = _base_edits(fd, box, base, {entry.offset for entry, _ in chosen})
    for entry, new in chosen:
        top = base if entry is box.entries[0] and not box.pseudo else None
        edits.append(_edit(fd, box, entry, entry.uid, new, top))
    return edits


def expunged(fd: int, box: Box, uids: Collection[int], host: str) -> list[Edit]:
    """Messages with these UIDs go."""
    gone = [entry for entry in box.entries if entry.uid in uids]
    if not gone or box.base is None:
        return []
    for entry in gone:
        _head(fd, entry)
    base = box.base._replace(uidnext=box.uidnext)
    if len(gone) == len(box.entries) and box.pseudo is None:
        return [Edit(gone[0].offset, gone[-1].next, pseudo(base, host, crlf=box.crlf))]
    edits = [Edit(entry.offset, entry.next, b"") for entry in gone]
    if box.pseudo is not None or box.entries[0].uid not in uids:
        return edits + _base_edits(fd, box, base, set())
    heir = next(entry for entry in box.entries if entry.uid not in uids)
    return [*edits, _edit(fd, box, heir, heir.uid, heir.marks, base)]


def pseudo(base: Base, host: str, *, crlf: bool) -> bytes:
    """The pseudo message with its From_ line, and the line end behind it."""
    now = int(time.time())
    octets = fromline.make(b"MAILER_DAEMON", now) + b"\n" + headers.pseudo_message(base, host, now) + b"\n"
    return octets.replace(b"\n", b"\r\n") if crlf else octets


def rebased(fd: int, box: Box, base: Base) -> list[Edit]:
    """The base becomes another one."""
    return _base_edits(fd, box, base, set())


def _base_edits(fd: int, box: Box, base: Base, others: Collection[int]) -> list[Edit]:
    """The header that has the base gets the new one, unless it is one of ``others``, which are written anyway."""
    if base == box.base:
        return []
    if box.pseudo is not None:
        return [_edit(fd, box, box.pseudo, None, box.pseudo.marks, base)]
    if not box.entries or box.entries[0].offset in others:
        return []
    first = box.entries[0]
    return [_edit(fd, box, first, first.uid, first.marks, base)]


def _edit(fd: int, box: Box, entry: Entry, uid: int | None, marks: Marks, base: Base | None) -> Edit:
    header = _head(fd, entry)[entry.header - entry.offset :]
    fields = headers.lines(marks, uid, base, entry.unique_id, pseudo=entry is box.pseudo)
    edit = headers.revised(header, fields, crlf=box.crlf, keep_length=not entry.misleading, roomy=base is not None)
    new = edit.new
    if not header and os.pread(fd, 1, entry.header - 1) != b"\n":  # of the whole message only a From_ line was written
        new = (b"\r\n" if box.crlf else b"\n") + new
    return _narrowed(header[edit.start : edit.end], Edit(entry.header + edit.start, entry.header + edit.end, new))


def _head(fd: int, entry: Entry) -> bytes:
    """From_ line and header; StoreError TEMPORARY when others stand there: what we know must not be written then."""
    head = os.pread(fd, entry.body - entry.offset, entry.offset)
    if zlib.crc32(head) != entry.check:
        raise StoreError(Kind.TEMPORARY, "the mailbox is not what it was believed to be")
    return head


def _narrowed(old: bytes, edit: Edit) -> Edit:
    """Without what stays at both ends, if the length does: from ``Status: O`` to the end of its padding, say."""
    new = edit.new
    if len(old) != len(new):
        return edit
    before = len(os.path.commonprefix([old, new]))
    behind = len(os.path.commonprefix([old[:before:-1], new[:before:-1]]))
    return Edit(edit.start + before, edit.end - behind, new[before : len(new) - behind])
