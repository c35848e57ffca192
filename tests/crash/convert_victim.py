"""Converts a mailbox of ``alice`` and dies at its n-th step.

``python -m tests.crash.convert_victim MAIL NAME FORMAT N``, N being 0 for living on.

A step is a system call that changes names or makes them durable. Says how many there were if it lived to the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

from mailserver.store import conversion
from mailserver.store.store import Store
from mailserver.store.tree.layout import OWN

_CALLS = ("rename", "unlink", "rmdir", "mkdir", "fsync", "open", "utime", "link")


def main(mail: str, name: str, format: str, last: int) -> None:
    steps = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **more: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **more)

        return call

    # nested mboxes say so themselves: their account has a directory of its own
    layout = "fs" if os.path.isdir(f"{mail}/alice/{OWN}") else "maildir++"
    with Store(mail, format="mbox" if layout == "fs" else "maildir", layout=layout) as store:
        account = store.account("alice")
        for call in _CALLS:
            setattr(os, call, counted(getattr(os, call)))
        conversion.exchange = counted(conversion.exchange)
        shutil.rmtree = counted(shutil.rmtree)  # type: ignore[assignment]
        account.convert(name, format)
    sys.stdout.write(f"{steps}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
