"""One Maildir folder as a directory: list, rename, link, unlink, sync. Knows no UID and no index."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from mailserver.store.formats.contract import Fingerprint
from mailserver.store.formats.maildir import keywords, uidlist
from mailserver.store.formats.maildir.syncing import make_directories, sync_path
from mailserver.store.lane import LANE

LOCK_NAME = "mailserver.lock"
_PARTS = ("tmp", "new", "cur")  # ``cur`` last: it says that the folder is complete


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the file system says of a message file."""

    size: int
    mtime: int


class MaildirFolder:
    """``path`` is the directory that holds ``cur``, ``new`` and ``tmp``."""

    def __init__(self, path: str, *, sync: bool) -> None:
        self.path = path
        self.sync = sync
        self.cur = path + "/cur"
        self.new = path + "/new"
        self.uidlist_path = f"{path}/{uidlist.NAME}"
        self.keywords_path = f"{path}/{keywords.NAME}"
        self.lock_path = f"{path}/{LOCK_NAME}"
        self._syncs = {"cur": GroupSync(self.cur), "new": GroupSync(self.new)}
        self._list_sync = GroupSync(self.uidlist_path)

    def exists(self) -> bool:
        """Whether it is a folder: ``cur`` makes it one."""
        return os.path.isdir(self.cur)

    def make(self, *, top: bool) -> None:
        """Make the directories; a folder below the top is marked with ``maildirfolder``, as Maildir++ asks."""
        make_directories(self.path, sync=self.sync)
        if not top:
            os.close(os.open(f"{self.path}/maildirfolder", os.O_WRONLY | os.O_CREAT, 0o600))
        for part in _PARTS:
            os.makedirs(f"{self.path}/{part}", mode=0o700, exist_ok=True)
        if self.sync:
            sync_path(self.path)
            sync_path(os.path.dirname(self.path))

    def fingerprint(self) -> Fingerprint:
        """As it is now; FileNotFoundError when the folder is gone."""
        with LANE:
            cur = os.stat(self.cur)
            new = os.stat(self.new).st_mtime_ns
            listed = uidlist.sign(self.uidlist_path)
            try:
                words = os.stat(self.keywords_path).st_mtime_ns
            except FileNotFoundError:
                words = 0
        return Fingerprint((cur.st_mtime_ns, new), (listed, words), cur.st_ino)

    def list(self) -> list[str]:
        """Every message file as ``cur/NAME`` or ``new/NAME``. ``new`` first: a file moved meanwhile is seen twice,
        not never."""
        names = ["new/" + n for n in os.listdir(self.new) if not n.startswith(".")]
        names += ["cur/" + n for n in os.listdir(self.cur) if not n.startswith(".")]
        return names

    def facts(self, file: str) -> FileFacts | None:
        """Size and time of a message file, None when it is gone or no regular file."""
        try:
            st = os.stat(f"{self.path}/{file}")
        except FileNotFoundError:
            return None
        if st.st_mode & 0o170000 != 0o100000:
            return None
        return FileFacts(st.st_size, int(st.st_mtime))

    def rename(self, old: str, new: str) -> bool:
        """Rename a message file within the folder; False when it is gone."""
        try:
            os.rename(f"{self.path}/{old}", f"{self.path}/{new}")
        except FileNotFoundError:
            return False
        return True

    def unlink(self, file: str) -> bool:
        """Remove a message file; False when it is gone already."""
        try:
            os.unlink(f"{self.path}/{file}")
        except FileNotFoundError:
            return False
        return True

    def sync_directory(self, part: str) -> None:
        """Make the names in ``cur`` or ``new`` durable; concurrent calls share one fsync."""
        if self.sync:
            self._syncs[part].sync()

    def sync_uidlist(self) -> None:
        """Make the appended lines durable; concurrent calls share one fsync."""
        if self.sync:
            self._list_sync.sync()


class GroupSync:
    """An fsync shared by all who ask while one runs: the next one covers everybody who came meanwhile.

    One that fails is the failure of all who wait then. The kernel says once that something could not be written, and
    may have thrown it away: another fsync would succeed, and promise what is not on the disk.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._condition = threading.Condition()
        self._begun = 0
        self._ended = 0
        self._running = False
        self._failures = 0
        self._failure = OSError()

    def sync(self) -> None:
        """Return when an fsync that began after this call has ended. OSError from it or one that runs meanwhile."""
        with LANE.aside(), self._condition:
            wanted, failures = self._begun + 1, self._failures
            while self._ended < wanted:
                if not self._running:
                    self._run()
                else:
                    self._condition.wait()
                if self._failures != failures and self._ended < wanted:
                    raise OSError(self._failure.errno, self._failure.strerror, self._path)

    def _run(self) -> None:
        self._running = True
        self._begun += 1
        mine = self._begun
        self._condition.release()
        failure = None
        try:
            sync_path(self._path)
        except OSError as error:
            failure = error
        finally:
            self._condition.acquire()
            self._running = False
            self._condition.notify_all()
        if failure is None:
            self._ended = mine
        else:
            self._failures, self._failure = self._failures + 1, failure
