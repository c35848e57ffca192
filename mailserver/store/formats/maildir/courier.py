"""What Courier's IMAP server keeps beside a Maildir: UIDs, and keywords. (Its POP3 server's list is in `sizelist`.)

``courierimapuiddb`` is, line for line, what Dovecot once wrote as version 1 of its list:
``1 <uidvalidity> <next uid>``, then ``<uid> <file name without flags>``.

``courierimapkeywords`` is a directory. ``:list`` has the keywords, a line each, an empty line, and then lines
``<file name without flags>:<numbers of keywords>``. A change since then is a file of its own that has the message's
keywords, a line each: ``.<time>.<file name>``, of which the latest counts, or plainly ``<file name>``, which is later
than these. A message without a line and without a file has none.

All of it is taken over when a folder is first seen, that is, has no ``dovecot-uidlist``; keywords first, for the list
says that it is done. Courier's files stay as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from mailserver.ops import log as logging
from mailserver.store.books import read_book
from mailserver.store.errors import StoreError
from mailserver.store.formats.maildir import filename, keywords, uidlist
from mailserver.store.formats.maildir.folder import MaildirFolder
from mailserver.store.formats.maildir.uidlist import UidList
from mailserver.store.model.numbers import MAX_UID

UIDDB = "courierimapuiddb"
KEYWORDS = "courierimapkeywords"
LIST = ":list"
_MAX_FILE = 1 << 26
_CHANGE = re.compile(r"\.(\d{1,18})\.(.+)", re.S)
_KEYWORD = re.compile(r"[^\s(){%*\"\\\]\x00-\x1f\x7f-\U0010ffff]+")
_log = logging.get("store")


def read_uids(folder: str) -> UidList | None:
    """The UIDs that Courier gave; None when it was never there, or what it left makes no sense. OSError."""
    path = f"{folder}/{UIDDB}"
    try:
        found = uidlist.read(path)
    except StoreError as error:
        _log.warning("courier-uids-unreadable", path=path, cause=error.text)
        return None
    if found is None or not 0 < found.uidvalidity < 2**32:
        return None
    found.entries = {base: entry for base, entry in found.entries.items() if 0 < entry.uid < MAX_UID}
    highest = max((entry.uid for entry in found.entries.values()), default=0)
    found.next_uid = highest + 1 if found.next_uid > MAX_UID else max(found.next_uid, highest + 1)
    found.torn = -1
    return found


def read_keywords(folder: str) -> dict[str, tuple[str, ...]]:
    """The keywords of each message that has some, by file name without flags. OSError."""
    directory = f"{folder}/{KEYWORDS}"
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = parse_list(_text(f"{directory}/{LIST}"))
    latest: dict[str, tuple[float, str]] = {}
    for name in names:
        change = _CHANGE.fullmatch(name)
        if change is None and name[0] in ".:":
            continue
        base, moment = (change[2], float(change[1])) if change else (name, float("inf"))
        base = base.partition(":")[0]
        latest[base] = max(latest.get(base, (-1.0, "")), (moment, name))
    for base, (_, name) in latest.items():
        found[base] = _words(_text(f"{directory}/{name}").split("\n"))
    return {base: words for base, words in found.items() if words}


def _text(path: str) -> str:
    try:
        return os.fsdecode(read_book(path, _MAX_FILE))
    except FileNotFoundError:  # there never was one, or Courier has just tidied up
        return ""


def parse_list(text: str) -> dict[str, tuple[str, ...]]:
    """``:list``: file name without flags -> keywords. Lines that make no sense are passed over."""
    head, _, rest = text.partition("\n\n") if not text.startswith("\n") else ("", "", text)
    known = head.split("\n")
    found = {}
    for line in rest.split("\n"):
        base, colon, numbers = line.rpartition(":")
        if base and colon:
            chosen = [int(n) for n in numbers.split() if n.isdigit()]
            found[base.partition(":")[0]] = _words([known[n] for n in chosen if n < len(known)])
    return found


def _words(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({line for line in lines if _KEYWORD.fullmatch(line)}))


def adopt_keywords(folder: MaildirFolder) -> tuple[tuple[str, ...], dict[str, frozenset[str]]]:
    """Write Courier's keywords as Dovecot does. Under the folder's lock; may be done again. OSError.

    Returns all keywords, and for those of them that got no letter, which are the 27th and later: who has them.
    """
    theirs = read_keywords(folder.path)
    table = _table(keywords.read(folder.keywords_path), theirs)
    if not theirs:
        return table, {}
    keywords.write(folder.keywords_path, table, sync=folder.sync)
    positions = {word.lower(): i for i, word in enumerate(table)}
    unlettered: dict[str, frozenset[str]] = {}
    for file in folder.list():
        base = filename.base_of(file)
        words = theirs.get(base, ())
        places = tuple(positions[word.lower()] for word in words)
        if not places:
            continue
        _letter(folder, file, places)
        late = frozenset(table[p] for p in places if p >= len(filename.KEYWORD_LETTERS))
        if late:
            unlettered[base] = late
    _log.info("courier-keywords-adopted", path=folder.path, messages=len(theirs), without_letter=len(unlettered))
    return table, unlettered


def _table(known: tuple[str, ...], theirs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    table = list(known)
    lowered = {word.lower() for word in table}
    for word in sorted({word for words in theirs.values() for word in words}):
        if word.lower() not in lowered:
            lowered.add(word.lower())
            table.append(word)
    return tuple(table)


def _letter(folder: MaildirFolder, file: str, places: tuple[int, ...]) -> None:
    flags, letters, other = filename.parse_info(file.partition(":")[2])
    everything = tuple({*places, *(ord(letter) - 97 for letter in letters)})
    new = f"cur/{filename.base_of(file)}{filename.suffix(flags, everything, other)}"
    if new != file:
        folder.rename(file, new)
