"""What a program asked of the kernel, read from strace's report: calls with their paths and octets, in order."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

WATCHED = (
    *("openat", "open", "creat", "close", "lseek", "read", "write", "writev", "pwrite64", "pwritev", "ftruncate"),
    *("truncate", "fallocate", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "unlink"),
    *("unlinkat", "mkdir", "mkdirat", "rmdir", "utimensat", "sendto", "sendmsg", "recvfrom"),
)
_OF_ONE = ("sendto", "sendmsg", "recvfrom", "read", "write", "writev", "pwrite64", "pwritev")  # strings are octets
_LINE = re.compile(r"(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed>)(.*)$")
_RESULT = re.compile(r"\)\s+= (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_PLACE = re.compile(r"(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_NUMBER = re.compile(r"-?\d+\Z")


@dataclass(frozen=True, slots=True)
class Call:
    """``done``: it has come back (with ``result``); else it has just begun."""

    name: str
    done: bool
    result: int
    words: tuple[str, ...]  # arguments; strings and paths are taken out
    fds: tuple[tuple[int, str], ...]  # descriptors with their paths, -100 for the working directory
    strings: tuple[bytes, ...]
    thread: int

    @property
    def answer(self) -> bool:
        """Whether something is said to a client."""
        return self.name in ("sendto", "sendmsg") and not self.done

    @property
    def paths(self) -> tuple[str, ...]:
        """The names it is about, absolute."""
        if self.name in _OF_ONE or not self.strings:
            return tuple(path for _, path in self.fds[:1])
        base = [path for _, path in self.fds]
        return tuple(
            os.path.join(base[min(i, len(base) - 1)] if base else "", os.fsdecode(text))
            for i, text in enumerate(self.strings)
        )


def wrapper(path: Path) -> list[str]:
    """The command that has a program traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    calls = "trace=" + ",".join(WATCHED)
    return ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "4000000", "-e", calls, "-o", str(path)]


def calls(path: Path) -> Iterator[Call]:
    """Each call twice: when it begins and when it has come back."""
    begun: dict[int, str] = {}
    with path.open() as lines:
        for line in lines:
            found = _LINE.match(line)
            if found is None:
                continue  # signals, and the end of threads
            thread, rest = int(found[1]), found[4]
            name = found[2] or found[3]
            if found[2]:
                if rest.endswith("<unfinished ...>"):
                    begun[thread] = rest = rest.removesuffix("<unfinished ...>")
                    yield _call(name, thread, rest, None)
                    continue
                yield _call(name, thread, rest, None)
            else:
                rest = begun.pop(thread, "") + rest
            result = _RESULT.search(rest, rest.rfind('"') + 1)
            if result is not None:
                yield _call(name, thread, rest[: result.start()], int(result[1]))


def _call(name: str, thread: int, rest: str, result: int | None) -> Call:
    assert '"...' not in rest, "strace has cut a string off"
    strings = tuple(bytes.fromhex(m[1].replace("\\x", "")) for m in _STRING.finditer(rest))
    plain = _STRING.sub("", rest)
    fds = tuple(
        (-100 if m[1] == "AT_FDCWD" else int(m[1]), os.fsdecode(bytes.fromhex(m[2].replace("\\x", ""))))
        for m in _PLACE.finditer(plain)
    )
    words = tuple(word.strip() for word in _PLACE.sub("", plain).split(","))
    return Call(name, result is not None, result if result is not None else 0, words, fds, strings, thread)


def number(call: Call, position: int) -> int:
    """An argument that is a number."""
    word = call.words[position].rstrip(")")
    assert _NUMBER.match(word), call
    return int(word)
