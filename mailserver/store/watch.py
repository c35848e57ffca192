"""One inotify instance per process: what other programs and processes do to watched folders.

Without inotify, or when its watches run out, watched folders are looked at once a second instead.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Sequence

from inotify_simple import INotify, flags

from mailserver.ops import log as logging

_log = logging.get("store")
_MASK = flags.CREATE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE  # in a directory
_FILE_MASK = flags.MODIFY | flags.CLOSE_WRITE | flags.MOVE_SELF | flags.DELETE_SELF  # of a file
_TICK_SECONDS = 1.0  # also finds what inotify cannot show: changes on network file systems

Look = Callable[[], None]


class Watcher:
    """Calls a function of a folder when something happened in it. One thread, started with the first watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: dict[str, dict[Look, int]] = {}  # how often each was asked for
        self._paths: dict[int, str] = {}
        self._descriptors: dict[str, list[int]] = {}
        self._inotify: INotify | None = None
        self._stop_read = self._stop_write = -1
        self._thread: threading.Thread | None = None

    def add(self, path: str, watched: Sequence[str], look: Look) -> None:
        """Have ``look`` called when something happens in the directories ``watched`` or to the files.

        They are the same for each ``add`` of ``path``; ``remove`` it as often.
        """
        with self._lock:
            self._start()
            looks = self._looks.get(path, {})
            self._looks[path] = {**looks, look: looks.get(look, 0) + 1}
            if path in self._descriptors or self._inotify is None:
                return
            try:
                self._descriptors[path] = [
                    self._inotify.add_watch(os.fsencode(w), _MASK if os.path.isdir(w) else _FILE_MASK) for w in watched
                ]
            except OSError as error:
                _log.warning("watch-failed", path=path, cause=str(error), consequence="looked at once a second")
                return
            for descriptor in self._descriptors[path]:
                self._paths[descriptor] = path

    def remove(self, path: str, look: Look) -> None:
        """Take one ``add`` back; without any the folder is watched no longer."""
        with self._lock:
            looks = dict(self._looks.get(path, {}))
            looks[look] = looks.get(look, 0) - 1
            if looks[look] < 1:
                del looks[look]
            if looks:
                self._looks[path] = looks
                return
            self._looks.pop(path, None)
            for descriptor in self._descriptors.pop(path, []):
                self._paths.pop(descriptor, None)
                if self._inotify is not None:
                    with contextlib.suppress(OSError):  # the directory is gone, and its watch with it
                        self._inotify.rm_watch(descriptor)

    def _start(self) -> None:
        if self._thread is not None:
            return
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            _log.warning("inotify-failed", cause=str(error), consequence="folders are looked at once a second")
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stop_read, select.POLLIN)
        if self._inotify is not None:
            poll.register(self._inotify.fileno(), select.POLLIN)
        tick = time.monotonic() + _TICK_SECONDS
        while True:
            ready = [fd for fd, _ in poll.poll(max(0.0, tick - time.monotonic()) * 1000)]
            if self._stop_read in ready:
                return
            touched: set[str | None] = set()
            if ready and self._inotify is not None:
                touched = {self._paths.get(event.wd) for event in self._inotify.read(timeout=0)}
            if time.monotonic() >= tick:  # however much happens elsewhere
                tick = time.monotonic() + _TICK_SECONDS
                touched = set(self._looks)
            for path in touched:
                for look in self._looks.get(path or "", ()):
                    self._look(look)

    def _look(self, look: Look) -> None:
        try:
            look()
        except Exception:  # one bad folder must not end the watching of all others
            _log.exception("watch")

    def close(self) -> None:
        """Stop the thread and give the descriptors back."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        os.write(self._stop_write, b"x")
        thread.join()
        os.close(self._stop_read)
        os.close(self._stop_write)
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
