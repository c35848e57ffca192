"""Runs a command of the program and dies at its n-th step.

``python -m tests.crash.transfer_victim N COMMAND ...``, N being 0 for living on.

A step is a system call that changes files or names, or makes them durable; threads count together. Says how many there
were if it lived to the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from mailserver.__main__ import main
from mailserver.transfer import engine

_CALLS = ("rename", "unlink", "rmdir", "mkdir", "fsync", "fdatasync", "open", "utime", "link", "write", "ftruncate")


def run(last: int, words: list[str]) -> int:
    steps, guard = 0, threading.Lock()

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **more: Any) -> Any:
            nonlocal steps
            with guard:
                steps += 1
                if steps == last:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **more)

        return call

    engine._UNIT_MESSAGES = 5
    for call in _CALLS:
        setattr(os, call, counted(getattr(os, call)))
    shutil.rmtree = counted(shutil.rmtree)  # type: ignore[assignment]
    status = main(words)
    sys.stderr.write(f"steps: {steps}\n")
    return status


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), sys.argv[2:]))
