"""Changes mboxes in children that are killed, and looks at what is left: ``python -m tests.crash.mbox_victim``.

A program of its own, for it forks, which a process with threads must not. Arguments: a directory, ``steps`` or
``random``, a seed, how many. It prints how often it killed; a child that leaves something wrong ends it with a
traceback.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mailserver.store.errors import StoreError
from mailserver.store.formats.mbox.entry import Box, Entry, Marks
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.formats.mbox.journal import path_of
from tests.mboxes import addition, contents

CALLS = ("open", "write", "pwrite", "fsync", "ftruncate", "posix_fallocate", "rename", "unlink", "link", "utime")
FOREIGN = b"From x@y Mon Jan  1 00:00:00 2024\nSubject: foreign\n\ntext of another program\n\n"
_SECTOR = 512

State = dict[int | None, tuple[bytes, Marks]]
Change = Callable[[MboxFolder, Box], Box]


def text(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n" % number + b"line of letter %d\r\n" % number * (number * 37 % 90)


def long_words(number: int) -> Marks:
    return Marks(number % 32 & ~8, frozenset({"k" * (60 + number)}))


CHANGES: dict[str, Change] = {
    "expunge the first": lambda folder, box: folder.expunge(box, {1}),
    "expunge some": lambda folder, box: folder.expunge(box, {2, 3, 7}),
    "expunge all but the last": lambda folder, box: folder.expunge(box, set(range(1, 12))),
    "expunge the last": lambda folder, box: folder.expunge(box, {12}),
    "expunge all": lambda folder, box: folder.expunge(box, set(range(1, 13))),
    "flags that do not fit": lambda folder, box: folder.set_flags(box, {n: long_words(n) for n in (2, 5, 11)}),
    "one that does not fit": lambda folder, box: folder.set_flags(box, {12: long_words(12)}),
    "flags that fit": lambda folder, box: folder.set_flags(
        box, {n: Marks(8, frozenset({"w"}), False) for n in range(13)}
    ),
    "numbers for foreign messages": lambda folder, box: folder.assign(box, 1),
    "append": lambda folder, box: folder.append(box, [addition(text(99)), addition(text(98))]),
}


def make(path: Path, name: str) -> None:
    """The mbox before the change."""
    path.write_bytes(b"")
    folder = MboxFolder(str(path), sync=False)
    with folder.hold():
        box = folder.assign(folder.load(), 4711)
        folder.append(box, [addition(text(n)) for n in range(1, 13)])
    if name == "numbers for foreign messages":
        with path.open("ab") as f:
            f.write(FOREIGN * 3)
        octets = path.read_bytes()
        path.write_bytes(octets.replace(b"X-UID: 9\n", b"X-Odd: 9\n", 1))


def state(folder: MboxFolder, box: Box) -> State:
    octets = contents(folder, box)
    if any(entry.uid is None for entry in box.entries):
        return {-entry.offset: (b"", entry.marks) for entry in box.entries}
    return {entry.uid: (octets[entry.uid], entry.marks) for entry in box.entries}


def loaded(path: Path) -> tuple[State, Box]:
    folder = MboxFolder(str(path), sync=False)
    with folder.hold():
        box = folder.assign(folder.load(), 4711)
        return state(folder, box), box


class Killer:
    """Kills this process at the n-th call of the operating system, before it or in the middle of a write.

    What lies within one page the kernel copies at once.
    """

    def __init__(self, n: int, *, half: bool) -> None:
        self.countdown = n
        self.half = half
        for name in CALLS:
            setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kinds: Any) -> Any:
            self.countdown -= 1
            if self.countdown == 0:
                if self.half and name in ("write", "pwrite"):
                    data = bytes(args[1])
                    count = len(data) if len(data) < 1000 else len(data) // 2
                    real(args[0], data[:count], *args[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return None if name == "fsync" else real(*args, **kinds)  # a kill takes nothing from the kernel

        return call


def child(run: Callable[[], None]) -> bool:
    """Run it in a child; True when it came to its end, False when it was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed"
    return not os.WIFSIGNALED(status)


def changed(path: Path, name: str, n: int, *, half: bool) -> None:
    folder = MboxFolder(str(path), sync=True)
    with folder.hold():
        box = folder.load()
        Killer(n, half=half)
        CHANGES[name](folder, box)


def recovered(path: Path, n: int) -> None:
    """As whoever comes next."""
    Killer(n, half=n % 2 == 0)
    loaded(path)


def lose_power(path: Path, before: bytes, rng: random.Random) -> None:
    """What was not synced is on the disk or not, sector by sector: while there is a journal, any octet of the mbox."""
    after = path.read_bytes()
    if not os.path.exists(path_of(str(path))) or len(after) < len(before):
        return
    with path.open("r+b") as f:
        for start in range(0, len(before), _SECTOR):
            if rng.random() < 0.5:
                f.seek(start)
                f.write(before[start : start + _SECTOR])


def steps(directory: Path, seed: int) -> int:
    """Each change, killed at each of its steps; a foreign program appends before the next of ours comes, or not."""
    kills, rng = 0, random.Random(seed)
    for name in CHANGES:
        for kind in ("", "half", "foreign", "power"):
            path = directory / "mbox"
            make(path, name)
            before, octets = loaded(path)[0] if name[:3] != "num" else {}, path.read_bytes()
            after = outcome(directory, name, octets)
            n, done = 1, False
            while not done:
                path.write_bytes(octets)
                done = child(partial(changed, path, name, n, half=kind == "half"))
                kills += not done
                if kind == "power":
                    lose_power(path, octets, rng)
                if kind == "foreign" and name != "append":
                    with path.open("ab") as f:
                        f.write(FOREIGN)
                    for _ in range(rng.randrange(3)):  # who finishes the change is killed too
                        kills += not child(partial(recovered, path, rng.randrange(1, 20)))
                look(path, (name, kind, n), before, after, foreign=kind == "foreign" and name != "append")
                n += 1
    return kills


def outcome(directory: Path, name: str, octets: bytes) -> State:
    """What the change leads to."""
    path = directory / "other"
    path.write_bytes(octets)
    folder = MboxFolder(str(path), sync=False)
    with folder.hold():
        CHANGES[name](folder, folder.load())
    return loaded(path)[0]


def look(path: Path, where: object, before: State, after: State, *, foreign: bool) -> None:
    found, box = loaded(path)
    if foreign:
        uid = max(uid or 0 for uid in found)
        assert found.pop(uid)[0] == b"Subject: foreign\r\n\r\ntext of another program\r\n", where
        assert uid == 13 or not before, where
        assert uid not in before, where
    assert box.base is not None, where
    assert box.base.uidvalidity == 4711, where
    if before == {}:  # foreign messages had no numbers: they have now, perhaps higher ones, for none is given twice
        assert list(found.values()) == list(after.values()), where
        assert list(found)[:8] == list(after)[:8] == list(range(1, 9)), where
    elif "append" in str(where):
        assert {uid: found[uid] for uid in before} == before, where
        assert all(after[uid] == value for uid, value in list(found.items())[len(before) : -1]), where
    else:
        mixed = {uid: value for uid, value in found.items() if value not in (before.get(uid), after.get(uid))}
        assert not mixed, where
        assert set(found) in (set(before), set(after)), where
    left = sorted(p.name for p in path.parent.iterdir())
    assert left == ["mbox", "other"], (where, left)


WRITER = """
n=0
while [ ! -e "$1.stop" ]; do
  until (set -C; echo 0 > "$1.lock") 2>/dev/null; do [ -e "$1.stop" ] && exit; sleep 0.003; done
  n=$((n + 1))
  printf 'From x@y Mon Jan  1 00:00:00 2024\\nSubject: foreign-%s\\n\\ntext of foreign-%s\\n\\n' $n $n >> "$1"
  rm -f "$1.lock"
  echo $n >> "$1.done"
  sleep 0.01
done
"""


def at_random(directory: Path, seed: int, count: int) -> int:
    """Random changes, killed at random moments; what was done before is there, of the last change all or nothing.

    Meanwhile a shell script that knows the dot lock only appends.
    """
    rng = random.Random(seed)
    path, ledger, stop = directory / "mbox", directory / "ledger", directory / "mbox.stop"
    path.write_bytes(b"")
    (directory / "mbox.done").write_text("0\n")
    loaded(path)
    writer = subprocess.Popen(["sh", "-c", WRITER, "writer", path])
    try:
        for kill in range(count):
            ledger.write_bytes(b"")
            seconds = rng.random() * rng.choice((0.02, 0.05, 0.15))
            pid = os.fork()
            if pid == 0:
                try:
                    work(path, ledger, random.Random(seed + kill))
                except BaseException:
                    sys.excepthook(*sys.exc_info())
                os._exit(1)
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
            assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "the child failed"
            written = int((directory / "mbox.done").read_text().split()[-1])
            judge(path, ledger, written)
    finally:
        stop.touch()
        writer.wait(30)
    foreign = judge(path, ledger, int((directory / "mbox.done").read_text().split()[-1]))
    assert foreign > 0, "the other program wrote nothing"
    return count


def work(path: Path, ledger: Path, rng: random.Random) -> None:
    """Change for ever; write down what will be done, and that it was done."""
    folder = MboxFolder(str(path), sync=False)
    box: Box | None = None
    with ledger.open("ab", buffering=0) as notes:
        while True:
            with folder.hold():
                box = folder.assign(folder.load(box), 4711)
                what = rng.choice(["append", "flag", "expunge"]) if len(box.entries) < 60 else "expunge"
                chosen = [e for e in rng.sample(box.entries, min(len(box.entries), rng.choice((1, 4)))) if e.uid]
                if what == "append" or not chosen:
                    notes.write(b"begin append %d\n" % box.uidnext)
                    box = folder.append(box, [addition(text(box.uidnext))])
                elif what == "flag":
                    box = folder.set_flags(box, {e.uid or 0: long_words(rng.randrange(60)) for e in chosen})
                    continue
                else:
                    uids = {e.uid for e in chosen if e.uid and not is_foreign(folder, e)}
                    if not uids:
                        continue
                    notes.write(b"begin expunge %s\n" % b",".join(b"%d" % uid for uid in uids))
                    box = folder.expunge(box, uids)
                notes.write(b"done\n")


def is_foreign(folder: MboxFolder, entry: Entry) -> bool:
    with folder.open(entry) as message:
        return b"foreign" in message.read()


def judge(path: Path, ledger: Path, written: int) -> int:
    """Each UID has its own text; what was appended is there until it was expunged; what others wrote is there once."""
    found, _ = loaded(path)
    foreign = [octets for octets, _ in found.values() if b"foreign" in octets]
    whole = [b"Subject: foreign-%d\r\n\r\ntext of foreign-%d\r\n" % (n, n) for n in range(1, len(foreign) + 1)]
    assert foreign == whole, "of another program's messages one is lost, torn or twice"
    assert len(foreign) >= written, "another program's message is lost"
    lines = ledger.read_text().splitlines()
    sure, doubtful = set(), set()
    for number, line in enumerate(lines):
        if not line.startswith("begin"):
            continue
        _, what, uids = line.split()
        named = {int(uid) for uid in uids.split(",")}
        done = number + 1 < len(lines)
        if what == "append":
            (sure if done else doubtful).update(named)
        else:
            sure -= named
            assert not done or not named & set(found), "expunged messages are there"
            gone = named - set(found)
            assert gone in (set(), named), "half an expunge"
    assert sure <= set(found), sure - set(found)
    for uid, (octets, _) in found.items():
        assert octets == text(uid or 0) or octets in foreign or uid in doubtful, uid
    return len(foreign)


if __name__ == "__main__":
    where, mode, first, many = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    try:
        print(steps(where, first) if mode == "steps" else at_random(where, first, many))
    except StoreError as error:
        raise RuntimeError(error.text) from error
