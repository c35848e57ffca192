"""What the kernel was asked for, in which order: everything is synced before OK is written.

The table is that of docs/durability.md: what comes before the answer, stage after stage; within a stage in any order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.crash.drive import Asked, Promised, Step, driven
from tests.crash.trace import Call

Stages = list[list[str]]

LIST = r"dovecot-uidlist"
PART = r"(new|cur)"
ARRIVES: Stages = [
    [r"fsync \S+/tmp/\S+$"],
    [rf"(rename|link) \S+/tmp/\S+ \S+/{PART}/\S+$"],
    [rf"write \S+/{LIST}$"],
    [rf"fsync \S+/{PART}$", rf"fsync \S+/{LIST}$"],
]
_UNFINISHED = re.compile(r"/tmp/|\.tmp$|\.part$")
BOX = r"mail/\w+/\.[\w.]+"  # an mbox
JOURNAL = r"mail/\w+/\.\.[\w.]+\.mailserver-journal"
MBOX_ARRIVES: Stages = [[r"fsync \S+/tmp/\S+$"], [rf"pwrite64 {BOX}$"], [rf"fsync {BOX}$"]]
JOURNALLED: Stages = [
    [rf"fsync {BOX}$"],
    [rf"fsync {JOURNAL}\.tmp$"],
    [rf"rename {JOURNAL}\.tmp {JOURNAL}$"],
    [r"fsync mail/\w+$"],
]
COPIED: Stages = [[rf"pwrite64 {BOX}$"], [rf"fsync {BOX}$"]]
RESIZED: Stages = [[rf"ftruncate {BOX}$"], [rf"fsync {BOX}$"]]
DONE: Stages = [[rf"unlink {JOURNAL}$"], [r"fsync mail/\w+$"]]
MBOX_LEAVES: Stages = [*JOURNALLED, *COPIED, *RESIZED, *DONE]
MBOX_GROWS: Stages = [*JOURNALLED, *RESIZED, *COPIED, *DONE]  # ftruncate makes room first
SUBSCRIBED: Stages = [
    [r"fsync \S+/subscriptions\.tmp"],
    [r"rename \S+/subscriptions\.tmp \S+"],
    [r"fsync mail/alice$"],
]
LISTED: Stages = [
    [r"fsync mail/\w+/\S*dovecot-acl\.tmp"],
    [r"rename mail/\w+/\S*dovecot-acl\.tmp mail/\w+/\S*dovecot-acl$"],
    [r"fsync mail/\w+"],
]
QUEUED: Stages = [
    [r"fsync queue/messages/\w+\.part"],
    [r"rename queue/messages/\w+\.part queue/messages/\w+$"],
    [r"fsync queue/messages$"],
    [r"pwrite64 queue/queue\.sqlite-wal"],
    [r"f(data)?sync queue/queue\.sqlite-wal"],
]
DELETED: Stages = [[r"rename mail/alice/\.\S+ mail/alice/tmp/\S+"], [r"fsync mail/alice$"]]
RENAMED: Stages = [[r"rename mail/alice/\.\S+ mail/alice/\.\S+"], [r"fsync mail/alice$"]]
BOTH: dict[str, Stages] = {
    "CREATE": [[r"mkdir mail/alice/\.\S+|open mail/alice/\.\S+"], [r"fsync mail/alice$"]],
    "CREATE an heir": LISTED,
    "CREATE for a use": [
        [r"fsync mail/alice/mailserver-special-use\.tmp"],
        [r"rename mail/alice/mailserver-special-use\.tmp \S+"],
        [r"fsync mail/alice$"],
    ],
    "DELETE": DELETED,
    "DELETE below": DELETED,
    "RENAME": RENAMED,
    "RENAME below": RENAMED,
    "SETACL": LISTED,
    "DELETEACL": [[r"unlink mail/alice/\S*dovecot-acl$"], [r"fsync mail/alice/\S+"]],  # of the only one in the list
    "SUBSCRIBE": SUBSCRIBED,
    "UNSUBSCRIBE": SUBSCRIBED,
    "queue": QUEUED,
}
PROMISED: dict[str, dict[str, Stages]] = {
    "maildir": {
        **BOTH,
        "APPEND": ARRIVES,
        "MULTIAPPEND": ARRIVES,
        "SMTP": ARRIVES,
        "SMTP to two": [*ARRIVES, *ARRIVES[1:]],
        "SMTP and queue": [*QUEUED, *ARRIVES],
        "LMTP": [*ARRIVES, *ARRIVES[1:]],
        "REPLACE": [*ARRIVES, [rf"unlink \S+/{PART}/\S+"]],
        "COPY": [
            [rf"link \S+/{PART}/\S+ \S+/{PART}/\S+"],
            [rf"write \S+/{LIST}$"],
            [rf"fsync \S+/{PART}$", rf"fsync \S+/{LIST}$"],
        ],
        "MOVE": [
            [rf"rename mail/alice/{PART}/\S+ mail/alice/\.\S+/{PART}/\S+"],
            [rf"write mail/alice/\.\S+/{LIST}$"],
            [rf"fsync mail/alice/\.\S+/{PART}$", rf"fsync mail/alice/\.\S+/{LIST}$", rf"fsync mail/alice/{PART}$"],
        ],
        "COPY to another": [
            [rf"link mail/alice/{PART}/\S+ mail/dave/{PART}/\S+"],
            [rf"write mail/dave/{LIST}$"],
            [rf"fsync mail/dave/{PART}$", rf"fsync mail/dave/{LIST}$"],
        ],
        "MOVE to another": [
            [rf"rename mail/alice/{PART}/\S+ mail/dave/{PART}/\S+"],
            [rf"write mail/dave/{LIST}$"],
            [rf"fsync mail/dave/{PART}$", rf"fsync mail/dave/{LIST}$", rf"fsync mail/alice/{PART}$"],
        ],
        "STORE": [[rf"rename \S+/{PART}/\S+ \S+/cur/\S+F\S*$"]],
        "STORE of much": [
            [r"fsync mail/alice/dovecot-keywords\.tmp$"],
            [r"rename mail/alice/dovecot-keywords\.tmp \S+$"],
            [r"fsync mail/alice$"],
            [rf"rename \S+/{PART}/\S+ \S+/cur/\S+$"],
        ],
        "EXPUNGE": [[rf"unlink \S+/{PART}/\S+"]],
        "EXPUNGE the last": [[rf"unlink \S+/{PART}/\S+"]],
        "QUIT": [[rf"unlink mail/bob/{PART}/\S+"]],
    },
    "mbox": {
        **BOTH,
        "APPEND": MBOX_ARRIVES,
        "MULTIAPPEND": MBOX_ARRIVES,
        "SMTP": MBOX_ARRIVES,
        "SMTP to two": [*MBOX_ARRIVES, *MBOX_ARRIVES[1:]],
        "SMTP and queue": [*QUEUED, *MBOX_ARRIVES],
        "LMTP": [*MBOX_ARRIVES, *MBOX_ARRIVES[1:]],
        "REPLACE": [*MBOX_ARRIVES, *MBOX_LEAVES],
        "COPY": MBOX_ARRIVES,
        "MOVE": [*MBOX_ARRIVES, *MBOX_LEAVES],
        "COPY to another": MBOX_ARRIVES,
        "MOVE to another": [*MBOX_ARRIVES, *MBOX_LEAVES],
        "STORE": [[rf"pwrite64 {BOX}$"]],
        "STORE of much": MBOX_GROWS,
        "EXPUNGE": MBOX_LEAVES,
        "EXPUNGE the last": RESIZED,
        "QUIT": MBOX_LEAVES,
    },
}


def said(call: Call, root: Path) -> str:
    """A call in one line: its name, and what it is about."""
    paths = [path.removeprefix(f"{root}/") for path in call.paths]
    return " ".join([call.name.removesuffix("at"), *paths])


def check(asked: Asked, stages: Stages, root: Path) -> None:
    """Every stage comes after all of the stage before it, and before the answer."""
    mine = asked.calls[: asked.answer]
    lines = [said(call, root) for call in mine if call.done and call.result >= 0 and call.name != "recvfrom"]
    place = 0
    for stage in stages:
        found = []
        for pattern in stage:
            hits = [i for i, line in enumerate(lines[place:], place) if re.match(pattern, line)]
            assert hits, f"{asked.step.name}: no {pattern} behind {lines[max(0, place - 1)]} in\n" + "\n".join(lines)
            found.append(hits[0])
        place = max(found) + 1


def check_replaced(steps: Iterable[Asked], root: Path) -> int:
    """Whatever takes its name when it is complete was synced since it was last written, and its name is before the
    answer. Returns how many did.
    """
    synced: set[str] = set()
    names: dict[str, str] = {}  # directory -> what was named there and is not synced
    count = 0
    for asked in steps:
        for place, call in enumerate(asked.calls):
            if place == asked.answer:
                assert not names, f"{asked.step.name}: not synced: {names}"
            if not call.done or call.result < 0 or not call.paths:
                continue
            name, path = call.name.rstrip("0123456789").removesuffix("at"), call.paths[0].removeprefix(f"{root}/")
            if name in ("write", "pwrite", "writev", "ftruncate"):
                synced.discard(path)
            elif name in ("fsync", "fdatasync"):
                synced.add(path)
                names.pop(path, None)
            elif name in ("rename", "link") and _UNFINISHED.search(path):
                new = call.paths[1].removeprefix(f"{root}/")
                # an empty file beside dovecot-uidvalidity says the same by its name
                known = path in synced or new.endswith("/dovecot-uidvalidity")
                assert known, f"{asked.step.name}: {path} has its name, and was not synced"
                names[os.path.dirname(new)] = new
                count += 1
    return count


@pytest.mark.timeout(300)
@pytest.mark.parametrize("format", ["maildir", "mbox"])
def test_ok_means_on_disk(tmp_path: Path, format: str) -> None:
    steps = driven(tmp_path, format)
    promised = PROMISED[format]
    assert {asked.step.name for asked in steps} - {"start", "SELECT"} == promised.keys()
    for asked in steps:
        if asked.step.name in promised:
            check(asked, promised[asked.step.name], tmp_path)
    assert check_replaced(steps, tmp_path) > 10


def test_a_call_too_late_is_seen() -> None:
    """The judge itself: an fsync behind the answer, or before the write, is not enough."""
    root = Path("/r")

    def call(name: str, path: str) -> Call:
        return Call(name, True, 0, (), ((3, f"/r/{path}"),), (), 1)

    steps = [call("write", "mail/alice/dovecot-uidlist"), call("fsync", "mail/alice/dovecot-uidlist")]
    stages = [[rf"write \S+/{LIST}$"], [rf"fsync \S+/{LIST}$"]]
    for calls, answer, right in ((steps, 2, True), (steps, 1, False), (steps[::-1], 2, False)):
        asked = Asked(Step("APPEND", Promised()), calls, answer)
        if right:
            check(asked, stages, root)
        else:
            with pytest.raises(AssertionError, match="no fsync"):
                check(asked, stages, root)
