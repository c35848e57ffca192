"""One account: rights, what was left behind, and whether files, lists and index say the same."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailserver.ops.doctor.finding import Finding
from mailserver.store import conversion, repair
from mailserver.store.check import (
    FLAGS_IN_DISORDER,
    TORN,
    TWINS,
    UIDS_IN_DISORDER,
    check_folders,
    check_index,
    index_keywords,
)
from mailserver.store.errors import StoreError
from mailserver.store.formats.mbox.locking import STALE_SECONDS
from mailserver.store.quota import Limits, Quota, weigh
from mailserver.store.tree import names
from mailserver.store.tree.layout import is_mbox
from mailserver.store.tree.tidy import abandoned, sweep
from mailserver.store.tree.tree import Tree

_PARTS = ("", "/cur", "/new", "/tmp")  # noqa: S108 - a Maildir has a tmp of its own
_TRIES = 3  # a server that runs changes things while they are looked at
_LETTERS = 26


@dataclass(frozen=True, slots=True)
class Place:
    """An account that is not opened, for that may change something."""

    user: str
    root: str
    tree: Tree
    index_path: str
    open: Callable[[], object] = lambda: None  # as the server does: what was cut short is cleared away by that

    def forget_index(self) -> None:
        """Remove the index: every process makes it anew. OSError."""
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.index_path + suffix)


def check(account: Place) -> Iterator[Finding]:
    """All of it. OSError where not even the account's directory can be read."""
    # an INBOX that another program emptied and removed is nothing that is missing
    paths = {directory: path for directory, path in account.tree.paths() if os.path.lexists(path)}
    looks: tuple[Callable[[Place, dict[str, str]], Iterator[Finding]], ...] = (
        _permissions,
        _left_behind,
        _names,
        _books,
        _index,
        _quota,
    )
    for look in looks:
        try:
            yield from look(account, paths)
        except (OSError, StoreError) as error:  # the rest can be looked at all the same
            yield Finding(account.user, "account", _said(error))


def _said(error: OSError | StoreError) -> str:
    if isinstance(error, StoreError):
        return error.text
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _permissions(account: Place, paths: dict[str, str]) -> Iterator[Finding]:
    owner = os.stat(account.root).st_uid
    for path in paths.values():
        for part in ("",) if is_mbox(path) else _PARTS:
            place = path + part
            try:
                found = os.stat(place)
            except FileNotFoundError:
                yield Finding(account.user, "permissions", f"{place}: it is missing", cure=_maker(place))
                continue
            if found.st_uid != owner:
                yield Finding(
                    account.user, "permissions", f"{place}: it belongs to uid {found.st_uid}, the rest to {owner}"
                )
            wanted = stat.S_IRWXU if stat.S_ISDIR(found.st_mode) else stat.S_IRUSR | stat.S_IWUSR
            if found.st_mode & wanted != wanted:
                text = f"{place}: its owner may not use it (mode {stat.S_IMODE(found.st_mode):04o})"
                yield Finding(account.user, "permissions", text, cure=_changer(place, found.st_mode | wanted))
            elif found.st_mode & stat.S_IWOTH:
                text = f"{place}: everybody on this machine may write there"
                yield Finding(account.user, "permissions", text, cure=_changer(place, found.st_mode & ~stat.S_IWOTH))


def _maker(path: str) -> Callable[[], None]:
    return lambda: os.makedirs(path, mode=0o700, exist_ok=True)


def _changer(path: str, mode: int) -> Callable[[], None]:
    return lambda: os.chmod(path, stat.S_IMODE(mode))


def _left_behind(account: Place, paths: dict[str, str]) -> Iterator[Finding]:
    nested = list(paths.values()) if account.tree.nested else []
    count = len(abandoned(account.root, nested=nested))
    if count:
        text = f"{count} deliveries that were cut short lie in tmp/"
        cure = functools.partial(sweep, account.root, nested=nested)
        yield Finding(account.user, "tmp", text, serious=False, cure=cure)
    for lock in _locks(account, paths):
        try:
            age, gone = time.time() - os.lstat(lock).st_mtime, repair.owner_is_gone(lock)
        except FileNotFoundError:
            continue
        if gone:
            text = f"{lock}: the process that made it does not run any more"
            yield Finding(account.user, "lock", text, cure=functools.partial(repair.remove_lock, lock))
        elif age > STALE_SECONDS:
            text = f"{lock}: nobody has touched it for {age:.0f} seconds; stop what may hold it, and remove it"
            yield Finding(account.user, "lock", text)
    if os.path.lexists(f"{account.root}/{conversion.NAME}.json"):
        text = "a conversion was cut short, or is running"
        yield Finding(account.user, "conversion", text, serious=False, cure=lambda: _finish(account))


def _finish(account: Place) -> None:
    account.open()
    if os.path.lexists(f"{account.root}/{conversion.NAME}.json"):
        raise OSError(errno.EBUSY, "it is running")


def _locks(account: Place, paths: dict[str, str]) -> Iterator[str]:
    """Where other programs, and we beside an mbox, leave lock files."""
    yield f"{account.root}/subscriptions.lock"
    for path in paths.values():
        if is_mbox(path):
            yield f"{path}.lock"
        else:
            yield from (f"{path}/{name}.lock" for name in ("dovecot-uidlist", "dovecot-keywords"))


def _names(account: Place, paths: dict[str, str]) -> Iterator[Finding]:
    if account.tree.nested:
        return
    with os.scandir(account.root) as entries:
        for entry in entries:
            hidden = entry.name.startswith(".") and os.path.isdir(f"{entry.path}/cur")
            if hidden and names.from_directory(entry.name) is None:
                text = f"{entry.path!r}: its name is no mailbox name, so nobody sees its messages; rename it"
                yield Finding(account.user, "name", text)


def _books(account: Place, paths: dict[str, str]) -> Iterator[Finding]:
    for directory, path in paths.items():
        try:
            problems = _steady(lambda one={directory: path}: list(check_folders(one)))  # type: ignore[misc]
        except (OSError, StoreError) as error:
            yield Finding(account.user, "files", f"{path}: {_said(error)}")
            continue
        for text in problems:
            yield Finding(account.user, "files", text, cure=_cure(account, directory, path, text))


def _cure(account: Place, directory: str, path: str, text: str) -> Callable[[], None] | None:
    """How to put right what `check_folders` found, where that is safe."""
    known = functools.partial(repair.shown, account.index_path, directory)
    if is_mbox(path):
        return None
    if text.endswith((UIDS_IN_DISORDER, TORN)):
        return lambda: repair.order_uids(path, known())
    if text.endswith(TWINS):
        return lambda: repair.part_twins(path, known())
    return (lambda: repair.order_flags(path)) if text.endswith(FLAGS_IN_DISORDER) else None


def _index(account: Place, paths: dict[str, str]) -> Iterator[Finding]:
    index = account.index_path
    if not os.path.exists(index):
        return
    words = index_keywords(index)
    for directory, count in words.items():
        if count > _LETTERS:
            label = names.from_directory(directory) if directory else names.INBOX
            text = f"{label}: of its {count} keywords {count - _LETTERS} are in the index only"
            if not is_mbox(paths.get(directory, "")):
                yield Finding(account.user, "keywords", text, serious=False)
    safe = all(count <= _LETTERS for count in words.values())
    for text in _steady(lambda: list(check_index(paths, index))):
        yield Finding(account.user, "index", text, cure=account.forget_index if safe else None)


def _steady(look: Callable[[], list[str]]) -> list[str]:
    """What is said each time: the rest was somebody's work in progress."""
    found: list[str] | None = None
    for _ in range(_TRIES):
        try:
            now = look()
        except FileNotFoundError:  # renamed under our eyes
            continue
        found = now if found is None else [text for text in found if text in now]
        if not found:
            break
    return found or []


def _quota(account: Place, paths: dict[str, str]) -> Iterator[Finding]:
    if not os.path.exists(f"{account.root}/maildirsize"):
        return
    weights = [weigh(path) for path in paths.values()]
    octets, messages = sum(w[0] for w in weights), sum(w[1] for w in weights)
    quota = Quota(account.root, Limits(), lambda: iter(paths.values()))
    noted = quota.noted()
    if noted is None or (noted.octets, noted.messages) != (octets, messages):
        said = f"{noted.octets} octets and {noted.messages} messages" if noted else "nothing that can be trusted"
        text = f"maildirsize says {said}; there are {octets} and {messages}"
        yield Finding(account.user, "quota", text, serious=False, cure=quota.forget)
