"""Programs that want a terminal, in tmux; and several works at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.interop.screen import new_socket
from tests.interop.serving import program, run


def in_tmux(home: Path, command: Sequence[str], seconds: float = 40) -> None:
    """Run a program of the terminal until it ends."""
    tmux, done = program("tmux"), home / "done"
    program(command[0])
    line = " ".join("'" + word + "'" for word in command) + f"; touch {done}"
    server = [tmux, "-S", str(new_socket(home)), "-f", os.devnull]
    run([*server, "new-session", "-d", "-x", "100", "-y", "30", line], home, environment={"TERM": "xterm"})
    deadline = time.monotonic() + seconds
    while not done.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run([*server, "kill-server"], home, accept=(0, 1))
    assert done.exists()
    done.unlink()


def at_once(works: Sequence[Callable[[], None]]) -> None:
    """Run all in threads; raise what one of them raised."""
    failed: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
