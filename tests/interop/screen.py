"""A program of full screens in a terminal that nobody looks at: tmux."""

from __future__ import annotations

import itertools
import os
import shlex
import time
from pathlib import Path

from tests.interop.serving import program, run

_serial = itertools.count()


def new_socket(home: Path) -> Path:
    """For a server of tmux: the one before may still be ending on its own."""
    return home / f"t{next(_serial)}"


class Terminal:
    """A program and its screen of 120 columns and 40 lines; ended with the block."""

    def __init__(self, home: Path, name: str, *arguments: str) -> None:
        self._home = home
        self._socket = new_socket(home)
        command = shlex.join([program(name), *arguments])
        self._tmux("-f", os.devnull, "new-session", "-d", "-x", "120", "-y", "40", command)

    def _tmux(self, *words: str) -> str:
        arguments = ["tmux", "-S", self._socket, *words]
        return run(arguments, self._home, environment={"TERM": "xterm"}).stdout.decode()

    def type(self, *keys: str) -> None:
        """Press these keys."""
        self._tmux("send-keys", *keys)

    def wait_for(self, *texts: str) -> str:
        """Until all of these are on the screen; return it."""
        deadline = time.monotonic() + 20
        screen = ""
        while time.monotonic() < deadline:
            screen = self._tmux("capture-pane", "-p")
            if all(text in screen for text in texts):
                return screen
            time.sleep(0.05)
        raise AssertionError(f"{texts} not in:\n{screen}")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        run(["tmux", "-S", self._socket, "kill-server"], self._home, accept=(0, 1))
