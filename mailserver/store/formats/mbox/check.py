"""What must be true of an mbox that nobody is changing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import pairwise

from mailserver.store.formats.mbox.entry import Box
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.formats.mbox.journal import path_of


def read(path: str) -> Box:
    """The file as it is."""
    folder = MboxFolder(path, sync=False)
    with folder.hold():
        return folder.load()


def check(path: str, box: Box) -> Iterator[str]:
    """What is wrong with the file."""
    uids = [entry.uid for entry in box.entries if entry.uid is not None]
    if any(a >= b for a, b in pairwise(uids)):
        yield "UIDs do not ascend"
    if uids and box.base is None:
        yield "UIDs without UIDVALIDITY"
    if os.path.lexists(path_of(path)):
        yield "a journal that nobody finished"
    if os.path.lexists(path + ".lock"):
        yield "a dot lock that nobody took away"


def compare(box: Box, rows: Mapping[int, int], uidvalidity: int, uidnext: int) -> Iterator[str]:
    """Where the index (UID -> flags) says something else."""
    if box.base is None:
        return  # nothing was numbered yet
    if box.base.uidvalidity != uidvalidity:
        yield "another UIDVALIDITY than the file"
        return
    if box.uidnext > uidnext or box.unwritten:
        return  # somebody else delivered since: the index will follow
    there = {entry.uid: entry.marks.flags for entry in box.entries}
    for uid, flags in rows.items():
        if there.get(uid, flags) != flags:
            yield f"UID {uid}: other flags than the file"
    if any(uid >= uidnext for uid in rows):
        yield "a UID not below UIDNEXT"
