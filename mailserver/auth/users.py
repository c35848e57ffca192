"""The users: a file in the syntax of a Dovecot passwd-file, or a table given by a program.

A line is ``user:password:uid:gid:gecos:home:shell:extra fields``; only the first two are needed, lines beginning with
``#`` are comments. The password field carries its scheme: see `mailserver.auth.passwords`. Extra fields are separated
by spaces, ``key=value`` or ``key``; ``allow_nets`` and ``nologin`` are obeyed, others are kept for whoever asks.

The file is read again when it changes. The ``user`` command rewrites it by rename: comments, order, mode and owner
stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mailserver.auth.names import BadName, NameRules

# password[13], password[34]: libpam-pwdfile's way to name the scheme
_PWDFILE = re.compile(r"(.*)\[(13|34|56)\]\Z")
_PWDFILE_SCHEMES = {"13": "CRYPT", "34": "PLAIN-MD5", "56": "DIGEST-MD5"}
_SCHEME = re.compile(r"\{([A-Za-z0-9-]+)[.}]")


class UsersUnavailable(Exception):
    """The file of users cannot be read; the text names it and the reason."""


@dataclass(frozen=True, slots=True)
class UserRecord:
    """One user as the file has it."""

    name: str
    password_field: str
    extra: Mapping[str, str] = field(default_factory=dict)
    home: str = ""


class UserSource(Protocol):
    """Where users are looked up."""

    def lookup(self, name: str) -> UserRecord | None:
        """Return the user of that canonical name. Raises `UsersUnavailable`."""

    def sample_field(self) -> str | None:
        """Return a password field of the scheme most users have: an unknown user is made to take as long."""

    def first(self) -> str | None:
        """Return the name of the first user: who gets postmaster's mail. Raises `UsersUnavailable`."""

    def names(self) -> list[str]:
        """Return the canonical names of all users. Raises `UsersUnavailable`."""


def parse_line(line: str) -> UserRecord | None:
    """Read one line; None for comments, empty lines and what has no name."""
    line = line.rstrip("\r\n")
    if not line or line[0] in "#:":
        return None
    parts = line.split(":", 7)
    parts += [""] * (8 - len(parts))
    name, password, _, _, _, home, _, rest = parts
    match = _PWDFILE.fullmatch(password)
    if match:
        password = f"{{{_PWDFILE_SCHEMES[match[2]]}}}{match[1]}"
    extra = dict(word.partition("=")[::2] for word in rest.split(" ") if word)
    return UserRecord(name.strip(), password, extra, home)


def _most_common_field(records: Mapping[str, UserRecord]) -> str | None:
    by_scheme: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for record in records.values():
        match = _SCHEME.match(record.password_field)
        scheme = match[1].upper() if match else record.password_field[:4]
        counts[scheme] += 1
        by_scheme[scheme] = record.password_field
    return by_scheme[counts.most_common(1)[0][0]] if counts else None


class StaticUsers:
    """Users given as a mapping from name to password, in clear: for tests and embedding."""

    def __init__(self, passwords: Mapping[str, str], rules: NameRules | None = None) -> None:
        canonical = (rules or NameRules()).canonical
        self._records = {
            canonical(name): UserRecord(canonical(name), "{PLAIN}" + password) for name, password in passwords.items()
        }

    def lookup(self, name: str) -> UserRecord | None:
        """Return the user of that canonical name."""
        return self._records.get(name)

    def sample_field(self) -> str | None:
        """Return a password field like the others."""
        return _most_common_field(self._records)

    def first(self) -> str | None:
        """Return the name of the first user."""
        return next(iter(self._records), None)

    def names(self) -> list[str]:
        """Return the canonical names of all users."""
        return list(self._records)


class UserFile:
    """The file of users. May be used by several threads."""

    def __init__(self, path: str | os.PathLike[str], rules: NameRules | None = None) -> None:
        self.path = Path(path)
        self._rules = rules or NameRules()
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] = ()
        self._records: dict[str, UserRecord] = {}
        self._sample: str | None = None

    # -- reading

    def lookup(self, name: str) -> UserRecord | None:
        """Return the user of that canonical name. Raises `UsersUnavailable`."""
        return self._current().get(name)

    def sample_field(self) -> str | None:
        """Return a password field of the scheme most users have."""
        return self._sample

    def first(self) -> str | None:
        """Return the name of the first user in the file. Raises `UsersUnavailable`."""
        return next(iter(self._current()), None)

    def names(self) -> list[str]:
        """Return the canonical names of all users. Raises `UsersUnavailable`."""
        return list(self._current())

    def all(self) -> list[UserRecord]:
        """Return all users, sorted by name. Raises `UsersUnavailable`."""
        return sorted(self._current().values(), key=lambda record: record.name)

    def _current(self) -> dict[str, UserRecord]:
        try:
            found = os.stat(self.path)
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
            if stamp != self._stamp:
                with self._lock:
                    self._read()
                    self._stamp = stamp
        except OSError as error:
            raise UsersUnavailable(
                f"{self.path}: {error.strerror} (as uid {os.geteuid()}, gid {os.getegid()})"
            ) from error
        return self._records

    def _read(self) -> None:
        records: dict[str, UserRecord] = {}
        for line in self.path.read_text("utf-8", "surrogateescape").split("\n"):
            record = parse_line(line)
            if record is None:
                continue
            try:
                name = self._rules.canonical(record.name)
            except BadName:  # such a name cannot log in, so it is as good as not there
                continue
            records.setdefault(name, UserRecord(name, record.password_field, record.extra, record.home))
        self._records = records
        self._sample = _most_common_field(records)

    # -- changing

    def add(self, name: str, password_field: str) -> None:
        """Add a user; the file is made (mode 600) if there is none. Raises `KeyError` if the user exists, `BadName`."""
        name = self._rules.canonical(name)

        def change(lines: list[str]) -> list[str]:
            if any(self._is(line, name) for line in lines):
                raise KeyError(name)
            return [*lines, f"{name}:{password_field}:::::"]

        self._rewrite(change, create=True)

    def set_password(self, name: str, password_field: str) -> None:
        """Exchange a user's password, keeping the other fields of the line.

        Raises `KeyError` if there is no such user.
        """
        name = self._rules.canonical(name)

        def change(lines: list[str]) -> list[str]:
            changed = [self._with_password(line, password_field) if self._is(line, name) else line for line in lines]
            if changed == lines and not any(self._is(line, name) for line in lines):
                raise KeyError(name)
            return changed

        self._rewrite(change)

    def delete(self, name: str) -> None:
        """Remove a user; the mail stays. Raises `KeyError` if there is no such user."""
        name = self._rules.canonical(name)

        def change(lines: list[str]) -> list[str]:
            kept = [line for line in lines if not self._is(line, name)]
            if len(kept) == len(lines):
                raise KeyError(name)
            return kept

        self._rewrite(change)

    def _is(self, line: str, name: str) -> bool:
        record = parse_line(line)
        try:
            return record is not None and self._rules.canonical(record.name) == name
        except BadName:
            return False

    @staticmethod
    def _with_password(line: str, password_field: str) -> str:
        parts = line.split(":", 2)
        return ":".join([parts[0], password_field, *(parts[2:] or [":::::"[1:]])])

    def _rewrite(self, change: Callable[[list[str]], list[str]], create: bool = False) -> None:
        with self._locked(create) as old:
            text = self.path.read_text("utf-8", "surrogateescape")
            lines = change(text.splitlines())
            content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
            descriptor, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fchmod(file.fileno(), old.st_mode & 0o7777)
                    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(file.fileno(), old.st_uid, old.st_gid)
                    os.fsync(file.fileno())
                os.rename(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise

    @contextlib.contextmanager
    def _locked(self, create: bool) -> Iterator[os.stat_result]:
        """Hold the file's lock. It is taken on the file itself, so it is taken again when a rename came between."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                held = os.fstat(descriptor)
                if held.st_ino == os.stat(self.path).st_ino:
                    yield held
                    return
            finally:
                os.close(descriptor)
