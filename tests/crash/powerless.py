"""A file system that loses its power: it takes the system calls of a run, and keeps what was made durable.

The rules are the weakest that a journalling file system gives. Octets are on the disk when an fsync of their file has
come back that began after they were written; names, when one of their directory has. The one mercy: a rename is one
step, and is on the disk in both directories or in neither, as in ext4, XFS, Btrfs and ZFS.

`Disk.survives` says what is found afterwards: with ``chance`` 0 nothing else; with more, some of what was not synced
too, each thing by itself: a name without the octets, octets without the name, a file that has its new size and not its
new octets.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.trace import Call, number

_UNNAMED = "/proc/self/fd/"  # how a file of O_TMPFILE is linked to a name


@dataclass(eq=False, slots=True)
class Node:
    """A file, or a directory when ``names`` is a dict. The safe ones are on the disk."""

    octets: bytes = b""
    safe: bytes = b""
    date: int | None = None  # the time of change that was set, None when something was written since
    safe_date: int | None = None
    names: dict[str, Node] | None = None
    safe_names: dict[str, Node] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    node: Node
    offset: int = 0
    append: bool = False


Step = tuple[tuple[Node, str, Node | None], ...]  # directory, name, what stands there now


class Disk:
    """``root`` is a directory that exists, empty and durable; only what happens below it counts."""

    def __init__(self, root: Path) -> None:
        self.prefix = str(root) + "/"
        self.root = Node(names={})
        self._open: dict[int, _Open] = {}
        self._steps: list[Step] = []  # changes of names that are not on the disk
        self._syncing: dict[int, tuple[Node, bytes, int | None, int]] = {}
        self.files: list[Node] = []

    # -- names

    def _split(self, path: str) -> tuple[Node, str] | None:
        """The directory and the last part of a name, None for what lies elsewhere."""
        path = os.path.normpath(path)
        if not path.startswith(self.prefix):
            return None
        *parents, name = path.removeprefix(self.prefix).split("/")
        node = self.root
        for parent in parents:
            assert node.names is not None
            node = node.names[parent]
        return node, name

    def _find(self, path: str) -> Node | None:
        if os.path.normpath(path) + "/" == self.prefix:
            return self.root
        place = self._split(path)
        return None if place is None else (place[0].names or {}).get(place[1])

    def _name(self, *changes: tuple[str, Node | None]) -> None:
        """Have names stand for other things, in one step."""
        step = []
        for path, node in changes:
            place = self._split(path)
            if place is None:
                continue
            directory, name = place
            assert directory.names is not None
            if node is None:
                del directory.names[name]
            else:
                directory.names[name] = node
            step.append((directory, name, node))
        if step:
            self._steps.append(tuple(step))

    # -- calls

    def take(self, call: Call) -> None:
        """Do as the kernel did."""
        if call.name in ("fsync", "fdatasync"):
            self._sync(call)
        elif call.done and call.result >= 0:
            handler = getattr(self, "_do_" + call.name.rstrip("0123456789").removesuffix("at"), None)
            if handler is not None:
                handler(call)

    def _sync(self, call: Call) -> None:
        """What it covers is what there was when it began."""
        file = self._open.get(call.fds[0][0])
        if file is None:
            return
        if not call.done:
            self._syncing[call.thread] = file.node, file.node.octets, file.node.date, len(self._steps)
            return
        node, octets, date, count = self._syncing.pop(call.thread)
        if call.result != 0:
            return
        if node.names is None:
            node.safe, node.safe_date = octets, date
            return
        self._commit(self._steps[:count], node)

    def _commit(self, steps: list[Step], directory: Node) -> None:
        chosen = {id(step) for step in steps if any(place is directory for place, _, _ in step)}
        self._apply(steps, chosen)

    def _apply(self, steps: list[Step], chosen: set[int]) -> None:
        """These steps, and the earlier ones about the same names."""
        wanted: set[tuple[int, str]] = set()
        for step in reversed(steps):
            if id(step) in chosen or any((id(place), name) in wanted for place, name, _ in step):
                chosen.add(id(step))
                wanted.update((id(place), name) for place, name, _ in step)
        for step in steps:
            if id(step) in chosen:
                for place, name, node in step:
                    if node is None:
                        place.safe_names.pop(name, None)
                    else:
                        place.safe_names[name] = node
        self._steps = [step for step in self._steps if id(step) not in chosen]

    def _do_open(self, call: Call) -> None:
        (path,) = call.paths
        self._open.pop(call.result, None)
        if not os.path.normpath(path).startswith(self.prefix.rstrip("/")):
            return
        flags = " ".join(call.words)
        node = self._find(path)
        if node is None and "O_CREAT" not in flags:
            return  # it was there before, and is not of the mail
        if node is None:
            node = Node()
            self.files.append(node)
            self._name((path, node))
        elif "O_TMPFILE" in flags:
            node = Node()
        if "O_TRUNC" in flags:
            node.octets = b""
        self._open[call.result] = _Open(node, 0, "O_APPEND" in flags)

    def _do_close(self, call: Call) -> None:
        if call.fds:
            self._open.pop(call.fds[0][0], None)

    def _do_lseek(self, call: Call) -> None:
        if (file := self._open.get(call.fds[0][0])) is not None:
            file.offset = call.result

    def _do_read(self, call: Call) -> None:
        if (file := self._open.get(call.fds[0][0] if call.fds else -1)) is not None:
            file.offset += call.result

    def _do_write(self, call: Call) -> None:
        if (file := self._open.get(call.fds[0][0] if call.fds else -1)) is not None:
            at = len(file.node.octets) if file.append else file.offset
            _put(file.node, at, b"".join(call.strings)[: call.result])
            file.offset = at + call.result

    _do_writev = _do_write

    def _do_pwrite(self, call: Call) -> None:
        if (file := self._open.get(call.fds[0][0])) is not None:
            _put(file.node, number(call, -1), b"".join(call.strings)[: call.result])

    def _do_ftruncate(self, call: Call) -> None:
        if (file := self._open.get(call.fds[0][0])) is not None:
            size = number(call, -1)
            file.node.octets = file.node.octets[:size].ljust(size, b"\0")

    def _do_fallocate(self, call: Call) -> None:
        if (file := self._open.get(call.fds[0][0])) is not None:
            file.node.octets = file.node.octets.ljust(number(call, -1) + number(call, -2), b"\0")

    def _do_utimens(self, call: Call) -> None:
        if (file := self._open.get(call.fds[0][0])) is not None:
            file.node.date = int(re.findall(r"tv_sec=(\d+)", " ".join(call.words))[1])

    def _do_mkdir(self, call: Call) -> None:
        self._name((call.paths[0], Node(names={})))

    def _do_rename(self, call: Call) -> None:
        old, new = call.paths
        node = self._find(old)
        if node is not None:
            self._name((old, None), (new, node))

    def _do_link(self, call: Call) -> None:
        old, new = call.paths
        if old.startswith(_UNNAMED):
            file = self._open.get(int(old.removeprefix(_UNNAMED)))
            node = file.node if file is not None else None
        else:
            node = self._find(old)
        if node is not None:
            self._name((new, node))

    def _do_unlink(self, call: Call) -> None:
        self._name((call.paths[0], None))

    _do_rmdir = _do_unlink

    # -- the end

    def survives(self, target: Path, rng: random.Random, chance: float = 0.0) -> None:
        """Write what is on the disk to an empty directory; this disk stays as it is."""
        safe = {id(node): dict(node.safe_names) for node in self._directories()}
        steps = self._steps
        lucky = {id(step) for step in steps if rng.random() < chance}
        self._apply(steps, lucky)
        _write(self.root, target, {}, rng, chance)
        self._steps = steps
        for node in self._directories():
            node.safe_names = safe[id(node)]

    def _directories(self) -> Iterable[Node]:
        found, stack = {id(self.root): self.root}, [self.root]
        while stack:
            node = stack.pop()
            named = [n for step in self._steps for place, _, n in step if place is node and n is not None]
            for inner in [*(node.names or {}).values(), *node.safe_names.values(), *named]:
                if inner.names is not None and id(inner) not in found:
                    found[id(inner)] = inner
                    stack.append(inner)
        return list(found.values())


def _put(node: Node, at: int, data: bytes) -> None:
    octets = node.octets.ljust(at, b"\0")
    node.date = None
    node.octets = octets[:at] + data + octets[at + len(data) :]


def _write(node: Node, target: Path, written: dict[int, Path], rng: random.Random, chance: float) -> None:
    target.mkdir(exist_ok=True)
    for name, inner in node.safe_names.items():
        path = target / name
        if inner.names is not None:
            _write(inner, path, written, rng, chance)
        elif id(inner) in written:
            os.link(written[id(inner)], path)
        else:
            written[id(inner)] = path
            lucky = rng.random() < chance
            path.write_bytes(_octets(inner, rng) if lucky else inner.safe)
            date = rng.choice((inner.date, inner.safe_date)) if lucky else inner.safe_date
            if date is not None:
                os.utime(path, (date, date))


def _octets(node: Node, rng: random.Random) -> bytes:
    """What may be on the disk of a file that was written and not synced: sector by sector, old or new or nothing."""
    size = rng.choice((len(node.safe), len(node.octets)))
    safe, new = node.safe[:size].ljust(size, b"\0"), node.octets[:size].ljust(size, b"\0")
    return b"".join((new if rng.random() < 0.5 else safe)[at : at + 512] for at in range(0, size, 512))
