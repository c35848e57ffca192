"""One place of mail that Dovecot and we serve, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.dovecot import Dovecot
from tests.interop.serving import serve


class Turns:
    """``owned`` is what Dovecot's user must own; ``path`` and ``storage`` are our settings for the same place."""

    def __init__(self, dovecot: Dovecot, owned: Path, path: Path, **storage: str) -> None:
        self._dovecot = dovecot
        self._owned = owned
        self.path = path
        self.storage = storage

    @contextmanager
    def dovecot(self) -> Iterator[dict[str, int]]:
        """Its ports."""
        self._dovecot.own(self._owned)
        yield {"imap": self._dovecot.imap_port, "pop3": self._dovecot.pop3_port}

    @contextmanager
    def ours(self) -> Iterator[dict[str, int]]:
        """Our ports."""
        with serve(self.path, storage=self.storage) as app:
            yield app.ports
