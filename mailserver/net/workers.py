"""Worker processes: N of them share the listening sockets, and a supervisor starts again the one that dies.

The fork happens before any thread or database handle exists. The supervisor holds no mail and no socket of a client; it
waits for signals. SIGTERM and SIGINT stop in order, SIGHUP is passed on. Signals are taken by ``sigwaitinfo``, so no
handler ever runs in the middle of something. With one worker nothing is forked: the program itself is the worker.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from mailserver.ops import log as logging

_log = logging.get("workers")

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM})
_ENDS = frozenset({signal.SIGTERM, signal.SIGINT})
TICK = 2.0  # seconds after which a worker looks whether its supervisor still lives, and tidies up
FIRST_PAUSE = 0.1  # seconds before a dead worker is started again; doubled while it keeps dying
LONGEST_PAUSE = 30.0
STEADY = 60.0  # a worker that lived so long begins with the first pause again


class Work(Protocol):
    """What a worker runs."""

    def start(self, row: int) -> None:
        """Begin to serve as worker number ``row``; returns when connections are taken."""

    def stop(self) -> None:
        """Stop in order, within the grace period."""

    def reload(self) -> None:
        """Read again what can change while serving (SIGHUP)."""

    def tidy(self) -> None:
        """Called every few seconds."""


def block_signals() -> None:
    """Keep the signals for ``sigwaitinfo``. Call it in the main thread before any other thread is started."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def serve(work: Work, row: int = 0, parent: int = 0) -> None:
    """Run ``work`` in this process until SIGTERM or SIGINT, or until the process ``parent`` is gone."""
    work.start(row)
    try:
        while True:
            came = wait_for_signal(TICK)
            if came in _ENDS:
                return
            if came == signal.SIGHUP:
                work.reload()
            elif not came and parent and os.getppid() != parent:
                return
            work.tidy()
    finally:
        work.stop()


def wait_for_signal(seconds: float) -> int:
    """The number of a signal that came within ``seconds``, else 0. The signals are blocked.

    Not by ``sigtimedwait``: up to CPython 3.13 that returns what was never filled in when a process that was stopped
    (SIGSTOP, a debugger) goes on after the time is up.
    """
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    came = signal.sigwaitinfo(SIGNALS).si_signo
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 0 if came == signal.SIGALRM else came


@dataclass(slots=True)
class _Worker:
    row: int
    pid: int = 0
    started: float = 0.0
    pause: float = FIRST_PAUSE
    due: float = 0.0  # when to start it, while pid is 0


@dataclass
class Supervisor:
    """Keeps ``count`` workers running. ``died(row)`` is called when one has died, before it is started again."""

    work: Work
    count: int
    died: Callable[[int], None]
    grace: float = 10.0
    ready: Callable[[], None] = lambda: None
    _workers: list[_Worker] = field(default_factory=list)
    _stopping: bool = False

    def run(self) -> None:
        """Fork the workers and look after them until SIGTERM or SIGINT."""
        self._workers = [_Worker(row) for row in range(self.count)]
        self.ready()  # before the fork, so that no worker inherits what is written to: the kernel queues who comes now
        for worker in self._workers:
            self._fork(worker)
        while not self._stopping:
            came = wait_for_signal(self._until_due())
            self._reap()
            if came in _ENDS:
                self._stopping = True
            elif came == signal.SIGHUP:
                self._tell(signal.SIGHUP)
            self._start_due()
        self._end()

    def _fork(self, worker: _Worker) -> None:
        if threading.active_count() > 1:
            raise RuntimeError("a thread exists before the fork")
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._child(worker.row, parent)
        worker.pid, worker.started = pid, time.monotonic()

    def _child(self, row: int, parent: int) -> None:
        status = 1
        try:
            serve(self.work, row, parent)
            status = 0
        except BaseException:  # the child must never return into the supervisor's code
            _log.exception("worker-failed", worker=row)
        finally:
            os._exit(status)

    def _until_due(self) -> float:
        now = time.monotonic()
        return max(0.0, min([TICK, *(worker.due - now for worker in self._workers if not worker.pid)]))

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if not worker.pid and not self._stopping and now >= worker.due:
                self._fork(worker)

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
                if pid:
                    self._note_death(worker, status)

    def _note_death(self, worker: _Worker, status: int) -> None:
        now = time.monotonic()
        worker.pause = FIRST_PAUSE if now - worker.started > STEADY else min(worker.pause * 2, LONGEST_PAUSE)
        code = os.waitstatus_to_exitcode(status)
        _log.error("worker-died", worker=worker.row, pid=worker.pid, status=code, again_in=f"{worker.pause:.1f}s")
        worker.pid, worker.due = 0, now + worker.pause
        self.died(worker.row)

    def _tell(self, signo: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signo)

    def _end(self) -> None:
        """Stop all: in order first, by force when the grace period (and a little) is over."""
        self._tell(signal.SIGTERM)
        deadline = time.monotonic() + self.grace + 3.0
        while any(worker.pid for worker in self._workers):
            if time.monotonic() > deadline:
                self._tell(signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, 0.2)
            for worker in self._workers:
                if worker.pid and os.waitpid(worker.pid, os.WNOHANG)[0]:
                    worker.pid = 0
