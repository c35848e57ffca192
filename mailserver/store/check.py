"""The invariants of the store, as a function: tests call it after everything they do to a mailbox.

Reads files and index afresh and changes nothing. What it finds wrong is returned as sentences.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import IO
from urllib.parse import quote

from mailserver.store.account import INDEX_NAME
from mailserver.store.formats.maildir import filename, keywords, uidlist
from mailserver.store.formats.mbox import check as mbox
from mailserver.store.model.numbers import MAX_UID
from mailserver.store.tree import names
from mailserver.store.tree.layout import OWN, is_mbox
from mailserver.store.tree.tree import Tree

TWINS = "two files of one base name"
FLAGS_IN_DISORDER = "flags not sorted, or twice"
TORN = "the list of UIDs ends in half a line"
UIDS_IN_DISORDER = "UIDs do not ascend"
_UID = re.compile(rb"(\d{1,10}) ")
_LONGEST_LINE = 1 << 20


def check_account(root: str, index_path: str | None = None) -> list[str]:
    """Everything that is wrong with the account at ``root`` and its index; an empty list when all is well."""
    tree = Tree(root, "fs" if os.path.isdir(f"{root}/{OWN}") else "maildir++", sync=False)
    found: list[str] = []
    paths = dict(tree.paths())
    found += check_folders(paths)
    index = index_path or f"{tree.home}/{INDEX_NAME}"
    if os.path.exists(index):
        found += check_index(paths, index)
    return found


def check_folders(paths: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the mailboxes, by directory and path. FileNotFoundError when somebody changes them."""
    for directory, path in paths.items():
        label = names.from_directory(directory) if directory else names.INBOX
        problems = mbox.check(path, mbox.read(path)) if is_mbox(path) else _check_folder(path)
        yield from (f"{label or directory}: {problem}" for problem in problems)


def reading(index: str) -> sqlite3.Connection:
    """An index, opened so that nothing is changed. sqlite3.Error."""
    return sqlite3.connect(f"file:{quote(os.fsencode(index))}?mode=ro", uri=True)


def index_keywords(index: str) -> dict[str, int]:
    """How many keywords each directory has, as the index says."""
    try:
        with contextlib.closing(reading(index)) as db:
            rows = db.execute("SELECT directory, keywords FROM folder").fetchall()
    except sqlite3.DatabaseError:  # damaged: `check_index` says so
        return {}
    return {os.fsdecode(directory): len(json.loads(words)) for directory, words in rows}


def _files(path: str) -> list[str]:
    return [f"{part}/{name}" for part in ("new", "cur") for name in os.listdir(f"{path}/{part}") if name[0] != "."]


def _check_folder(path: str) -> Iterator[str]:
    files = _files(path)
    bases = [filename.base_of(f) for f in files]
    if len(set(bases)) != len(bases):
        yield TWINS
    table = keywords.read(f"{path}/{keywords.NAME}")
    lowered = [w.lower() for w in table if w]
    if len(set(lowered)) != len(lowered):
        yield "a keyword stands twice in dovecot-keywords"
    for file in files:
        unreadable = _unreadable(f"{path}/{file}")
        yield from [f"{file}: {unreadable}"] if unreadable else _check_file(path, file, len(table))
    yield from _check_uidlist(f"{path}/{uidlist.NAME}")


def _unreadable(path: str) -> str:
    """Why what stands among the messages is none. FileNotFoundError when it is gone."""
    mode = os.lstat(path).st_mode
    with contextlib.suppress(OSError):
        mode = os.stat(path).st_mode
    if stat.S_ISLNK(mode):
        return "a link that leads nowhere"
    if not stat.S_ISREG(mode):
        return "no file, so nobody sees what is in it" if stat.S_ISDIR(mode) else "no file"
    return "" if os.access(path, os.R_OK, effective_ids=True) else "it cannot be read"


def _check_file(path: str, file: str, keyword_count: int) -> Iterator[str]:
    parsed = filename.parse(file)
    if file.startswith("new/") and ":2," in file and (parsed.flags or parsed.letters):
        yield f"{file}: flags in new/"
    info = file.partition(":2,")[2]
    if info != "".join(sorted(set(info))):
        yield f"{file}: {FLAGS_IN_DISORDER}"
    if any(ord(letter) - 97 >= keyword_count for letter in parsed.letters):
        yield f"{file}: a keyword letter without a keyword"
    size, virtual = filename.sizes(file)
    with open(f"{path}/{file}", "rb") as f:
        octets = os.fstat(f.fileno()).st_size
        if size >= 0 and size != octets:
            yield f"{file}: S= is not its size {octets}"
        bare = sum(chunk.endswith(b"\n") and not chunk.endswith(b"\r\n") for chunk in _lines(f)) if virtual >= 0 else 0
    if size >= 0 and virtual >= 0 and virtual != octets + bare:
        yield f"{file}: W= is not its size with CRLF"


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Without the parts of a long line that end between CR and LF."""
    while line := file.readline(_LONGEST_LINE):
        while line.endswith(b"\r") and (more := file.readline(_LONGEST_LINE)):
            line = line[-1:] + more
        yield line


def _check_uidlist(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as f:
            lines = f.read().split(b"\n")
    except FileNotFoundError:
        return
    listed = uidlist.read(path)
    if listed is None:
        yield "the list of UIDs is empty"
        return
    if lines[-1]:
        yield TORN
    rows = [_UID.match(line) for line in lines[1:-1]]
    if None in rows:
        yield f"{rows.count(None)} lines of the list of UIDs mean nothing"
    uids = [int(row[1]) for row in rows if row]
    if any(a >= b for a, b in pairwise(uids)):
        yield UIDS_IN_DISORDER
    if uids and not (uids[0] > 0 and uids[-1] <= MAX_UID):
        yield "a UID out of range"
    if not 0 < listed.uidvalidity < 2**32:
        yield "UIDVALIDITY out of range"


def check_index(paths: Mapping[str, str], index: str) -> Iterator[str]:
    """Where the index claims to be up to date, it must say what the files say."""
    try:
        yield from _check_index(paths, index)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
        ):  # it is only in use
            yield "the index is damaged"


def _check_index(paths: Mapping[str, str], index: str) -> Iterator[str]:
    db = reading(index)
    try:
        if not _is_whole(db):
            yield "the index is damaged"
            return
        for key, directory, next_uid, validity in db.execute("SELECT id, directory, uidnext, uidvalidity FROM folder"):
            name = os.fsdecode(directory)
            path = paths.get(name)
            if path is None:
                continue
            if is_mbox(path):
                rows = dict(db.execute("SELECT uid, flags FROM message WHERE folder=?", (key,)))
                problems = mbox.compare(mbox.read(path), rows, validity, next_uid)
            else:
                problems = _compare(db, key, path, next_uid, validity)
            yield from (f"index of {name or names.INBOX}: {problem}" for problem in problems)
    finally:
        db.close()


def _is_whole(db: sqlite3.Connection) -> bool:
    try:
        return bool(db.execute("PRAGMA integrity_check").fetchone()[0] == "ok")
    except sqlite3.DatabaseError:  # not even a database
        return False


def _compare(db: sqlite3.Connection, key: int, path: str, next_uid: int, validity: int) -> Iterator[str]:
    listed = uidlist.read(f"{path}/{uidlist.NAME}")
    if listed is None or listed.uidvalidity != validity:
        yield "another UIDVALIDITY than the list of UIDs"
        return
    if listed.next_uid > next_uid:
        return  # somebody else delivered since: the index will follow
    on_disk = {filename.base_of(f): f for f in _files(path)}
    rows = list(db.execute("SELECT uid, file, flags FROM message WHERE folder=?", (key,)))
    for uid, file, flags in rows:
        base = filename.base_of(os.fsdecode(file))
        entry = listed.entries.get(base)
        if entry is None or entry.uid != uid:
            yield f"UID {uid} is not what the list of UIDs says of {base}"
        elif base in on_disk and on_disk[base] == os.fsdecode(file) and filename.parse(on_disk[base]).flags != flags:
            yield f"UID {uid}: other flags than the file"
    if any(uid >= next_uid for uid, _, _ in rows):
        yield "a UID not below UIDNEXT"
