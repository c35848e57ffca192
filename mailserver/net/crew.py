"""Threads that serve one connection after the other: a new one is made when all are busy, an idle one ends.

A thread for each connection costs more than a short connection itself: the one who accepts waits until it runs, and
both wait for the interpreter's lock meanwhile.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

KEPT = 32  # idle threads; more end at once
KEPT_SECONDS = 5.0  # then an idle thread ends

Job = Callable[[], None]


class Crew:
    """May be used by one thread that gives work; made after the fork."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait and have not been promised a job
        self._ended = False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def run(self, job: Job) -> None:
        """Have ``job`` run by a thread; returns at once. Raises RuntimeError when the system has no more threads."""
        with self._lock:
            waits = self._idle > 0
            if waits:
                self._idle -= 1
                self._jobs.put(job)
        if not waits:
            threading.Thread(target=self._work, args=([job],), name=self._name, daemon=True).start()

    def end(self) -> None:
        """Let idle threads end, and the others when their work is done."""
        with self._lock:
            self._ended = True
            for _ in range(self._idle):
                self._jobs.put(None)
            self._idle = 0

    def _work(self, first: list[Job]) -> None:
        job: Job | None = first.pop()  # the thread keeps its arguments to its end, and shall not keep the job
        while job is not None:
            job()
            del job  # what it held is free while this thread waits
            job = self._next()

    def _next(self) -> Job | None:
        with self._lock:
            if self._ended or self._idle >= KEPT:
                return None
            self._idle += 1
        try:
            return self._jobs.get(timeout=KEPT_SECONDS)
        except queue.Empty:
            with self._lock:
                if self._idle > 0:
                    self._idle -= 1
                    return None
        return self._jobs.get()  # all who wait have been promised a job: this one's is just coming
