"""What ``doctor`` may put right in a mailbox: things of which it can be proved that nobody loses anything by it.

Everything happens under the folder's lock, so that no process of ours is in the middle of a change; what other programs
may do meanwhile is allowed for where it matters. A server that runs finds what was done here as it finds what other
programs do: sessions are told of messages that went and came. No octets of a message are ever removed but those that
stand in another file of the folder as well.

UIDs
----
A UID that two messages have means one of them to each client, nobody knows which; the index knows which one it was that
we have shown. So that one keeps it, and every other one gets a new UID: clients see it go, and come again. Where the
index does not know, all of them do.

Lock files
----------
Of one that another program left it can only be proved that nobody holds it any more when it names its process, as
Dovecot's and ours do, and that ran on this machine and does so no more.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping

from mailserver.store.check import reading
from mailserver.store.formats.maildir import filename, uidlist
from mailserver.store.formats.maildir.folder import LOCK_NAME
from mailserver.store.formats.maildir.syncing import sync_path
from mailserver.store.formats.maildir.uidlist import Entry
from mailserver.store.formats.mbox import locking
from mailserver.store.locks import FileLock
from mailserver.store.model.flags import Flag

_OWNER = re.compile(rb"(\d{1,9}):(\S+)\s*\Z")
_PARTS = ("new", "cur")


def shown(index: str, directory: str) -> dict[int, str]:
    """Each message's file by its UID, as the index remembers them; nothing where it cannot be read."""
    try:
        with contextlib.closing(reading(index)) as db:
            rows = db.execute(
                "SELECT uid, file FROM message JOIN folder ON folder.id = message.folder WHERE directory = ?",
                (os.fsencode(directory),),
            ).fetchall()
    except sqlite3.Error:  # missing, or damaged
        return {}
    return {uid: os.fsdecode(file) for uid, file in rows}


def order_uids(path: str, known: Mapping[int, str]) -> None:
    """Write the list of UIDs anew: ascending, every UID once, without half a line. OSError, StoreError.

    ``known``: see `shown`.
    """
    with _locked(path):
        listed = uidlist.read(f"{path}/{uidlist.NAME}")
        if listed is None:
            return
        present = {filename.base_of(file) for file in _files(path)}
        named: dict[int, list[str]] = defaultdict(list)
        for base, entry in listed.entries.items():
            if base in present:
                named[entry.uid].append(base)
        live: dict[str, Entry] = {}
        for uid, bases in named.items():
            keeper = bases[0] if len(bases) == 1 else filename.base_of(known.get(uid, ""))
            for base in bases:
                entry = listed.entries[base]
                if base != keeper:
                    entry = Entry(listed.next_uid, entry.fields)
                    listed.next_uid += 1
                live[base] = entry
        uidlist.write(f"{path}/{uidlist.NAME}", listed, live, sync=True)


def part_twins(path: str, known: Mapping[int, str]) -> None:
    """Two files of one base name: of those with the same octets one stays; of others the one that was shown stays, and
    the rest get names of their own, by which they become new messages. OSError.

    ``known``: see `shown`.
    """
    was_shown = set(known.values())
    with _locked(path):
        alike: dict[str, list[str]] = defaultdict(list)
        for file in _files(path):
            alike[filename.base_of(file)].append(file)
        for files in alike.values():
            files.sort(key=lambda file: file not in was_shown)
            with contextlib.suppress(FileNotFoundError):  # another program was just renaming one
                _part(path, files, was_shown)
        for part in _PARTS:
            sync_path(f"{path}/{part}")


def _part(path: str, files: list[str], was_shown: set[str]) -> None:
    if len(files) < 2:
        return
    first = files[0]
    different = [file for file in files[1:] if not filecmp.cmp(f"{path}/{first}", f"{path}/{file}", shallow=False)]
    for file in [*different, *([first] if different and first not in was_shown else [])]:
        _rename(path, file, f"cur/{filename.unique()}:{file.partition(':')[2] or '2,'}")
    if not different:
        _unite(path, files)


def _unite(path: str, files: list[str]) -> None:
    """One file for all, with the flags of any, \\Deleted only if all have it; and the earliest date."""
    infos = [filename.parse_info(file.partition(":")[2]) for file in files]
    flags = 0
    for found, _, _ in infos:
        flags |= found
    if not all(found & Flag.DELETED for found, _, _ in infos):
        flags &= ~Flag.DELETED
    letters = {ord(letter) - 97 for _, found, _ in infos for letter in found}
    unknown = "".join(sorted({letter for *_, found in infos for letter in found}))
    whole = f"cur/{filename.base_of(files[0])}{filename.suffix(flags, tuple(sorted(letters)), unknown)}"
    earliest = min(os.stat(f"{path}/{file}").st_mtime_ns for file in files)
    os.utime(f"{path}/{files[0]}", ns=(earliest, earliest))
    if whole not in files:
        os.link(f"{path}/{files[0]}", f"{path}/{whole}")
    elif whole != files[0]:
        os.utime(f"{path}/{whole}", ns=(earliest, earliest))
    for file in files:
        if file != whole:
            os.unlink(f"{path}/{file}")


def order_flags(path: str) -> None:
    """Have the flags in file names in their order, each once. OSError."""
    with _locked(path):
        for file in _files(path):
            head, mark, info = file.partition(":2,")
            wanted = "".join(sorted(set(info)))
            if mark and info != wanted:
                with contextlib.suppress(FileNotFoundError):
                    _rename(path, file, f"{head}{mark}{wanted}")


def owner_is_gone(lock: str) -> bool:
    """Whether a lock file names a process of this machine that does not run any more. FileNotFoundError."""
    return _owner(lock)[1]


def remove_lock(lock: str) -> None:
    """Remove it, if nobody has taken its place meanwhile. OSError."""
    aside = f"{lock}.{os.getpid()}.stale"
    try:
        inode, gone = _owner(lock)
        if not gone:
            return
        os.rename(lock, aside)
    except FileNotFoundError:
        return
    if os.lstat(aside).st_ino != inode:
        with contextlib.suppress(FileExistsError):  # somebody took it the moment we did: then it is his again
            os.link(aside, lock)
    os.unlink(aside)


def _owner(lock: str) -> tuple[int, bool]:
    fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = _OWNER.match(os.read(fd, 512))
        gone = found is not None and found[2] == locking.HOST.encode() and not locking.is_alive(int(found[1]))
        return os.fstat(fd).st_ino, gone
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    with FileLock(f"{path}/{LOCK_NAME}").hold():
        yield


def _rename(path: str, old: str, new: str) -> None:
    if os.path.lexists(f"{path}/{new}"):
        raise FileExistsError(17, os.strerror(17), f"{path}/{new}")
    os.rename(f"{path}/{old}", f"{path}/{new}")


def _files(path: str) -> list[str]:
    """Sorted, so that ``cur`` comes before ``new``."""
    return sorted(f"{part}/{name}" for part in _PARTS for name in os.listdir(f"{path}/{part}") if name[0] != ".")
