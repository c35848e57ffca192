"""Clients that ask, one after another, for everything that can be promised; and what they were promised when."""

from __future__ import annotations

import copy
import poplib
import re
import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.concurrency.model import Model, Result, message
from tests.concurrency.wire import numbers
from tests.crash.mailers import deliver
from tests.crash.trace import Call, calls, wrapper
from tests.program import Program, receiving

USERS = ("alice", "bob", "carol", "dave")
Key = tuple[str, str, int]  # user, mailbox, UID
_FIRST_DATE = 1_000_000_000  # in 2001
MARK = re.compile(rb"^\S+ MARK(\d+)\r\n")


@dataclass
class Promised:
    """What holds after an answer, whatever happens to the power."""

    there: dict[Key, bytes] = field(default_factory=dict)
    flags: dict[Key, frozenset[str]] = field(default_factory=dict)  # only of messages whose flags nobody changed since
    dates: dict[Key, int] = field(default_factory=dict)  # INTERNALDATEs that were asked for
    gone: set[Key] = field(default_factory=set)  # may not come back
    used: dict[Key, bytes] = field(default_factory=dict)
    validity: dict[tuple[str, str], int] = field(default_factory=dict)
    boxes: set[tuple[str, str]] = field(default_factory=set)
    no_boxes: set[tuple[str, str]] = field(default_factory=set)
    subscribed: set[str] = field(default_factory=set)
    unsubscribed: set[str] = field(default_factory=set)
    delivered: dict[tuple[str, bytes], int] = field(default_factory=dict)  # (user, octets) -> how often
    queued: set[bytes] = field(default_factory=set)
    rights: dict[tuple[str, str, str], str] = field(default_factory=dict)  # (owner, mailbox, who) -> letters


@dataclass(frozen=True)
class Step:
    """What was asked, and what was promised when the answer was read."""

    name: str
    promised: Promised


class Drive:
    """Notes what it is promised in ``steps``; ``run`` does everything once."""

    def __init__(self, ports: dict[str, int], format: str) -> None:
        self.ports = ports
        self.format = format
        self.work = "Work/Here" if format == "mbox-fs" else "Work"  # there a mailbox has no children
        self.steps: list[Step] = []
        self.now = Promised()
        self._serial = 0

    def run(self) -> None:
        with ExitStack() as stack:
            self.marker = stack.enter_context(Model(self.ports["imap"], user="dave"))
            self.model = stack.enter_context(Model(self.ports["imap"]))
            self._step("start", lambda: None)
            self._mailboxes()
            self._messages()
            self._mail()
            self._pop()
            self._renames()

    def _step(self, name: str, run: Callable[[], None]) -> None:
        run()
        self.steps.append(Step(name, copy.deepcopy(self.now)))
        self.marker.command(f"MARK{len(self.steps)}")

    def _octets(self, size: int = 0) -> bytes:
        self._serial += 1
        return message(f"m{self._serial}", size)

    # -- what is promised

    def _stored(self, box: str, uid: int, octets: bytes, flags: str = "", user: str = "alice") -> None:
        key = (user, box, uid)
        assert key not in self.now.used, f"{key} was given twice"
        self.now.used[key] = self.now.there[key] = octets
        self.now.flags[key] = frozenset(re.findall(r"[\\\w]+", flags.lower()))

    def _dropped(self, key: Key, *, surely: bool) -> None:
        del self.now.there[key]
        self.now.flags.pop(key, None)
        self.now.dates.pop(key, None)
        if surely:
            self.now.gone.add(key)

    def _select(self, box: str, user: str = "alice") -> None:
        self.model.require(f"SELECT {box}")
        self.now.validity[user, box] = self.model.uidvalidity

    # -- mailboxes

    def _mailboxes(self) -> None:
        for box in (self.work, "Work/Deep", "Old", "Work/Old"):
            self._step("CREATE", lambda box=box: self._create(box))  # type: ignore[misc]
        self._step("CREATE for a use", lambda: self._create("Kept", " (USE (\\Flagged))"))
        self._step("DELETE", lambda: self._delete("Old"))
        self._step("DELETE below", lambda: self._delete("Work/Old"))
        self._step("SUBSCRIBE", self._subscribe)
        self._step("UNSUBSCRIBE", self._unsubscribe)

    def _create(self, box: str, more: str = "") -> None:
        self.model.require(f"CREATE {box}{more}")
        self.now.boxes.add(("alice", box))

    def _delete(self, box: str) -> None:
        self.model.require(f"DELETE {box}")
        self.now.boxes.discard(("alice", box))
        self.now.no_boxes.add(("alice", box))

    def _subscribe(self) -> None:
        self.model.require(f"SUBSCRIBE {self.work}")
        self.now.subscribed.add(self.work)

    def _unsubscribe(self) -> None:
        self.model.require("UNSUBSCRIBE Junk")
        self.now.unsubscribed.add("Junk")

    def _renames(self) -> None:
        self._step("RENAME", lambda: self._rename("Work", "Place"))
        self._step("APPEND", lambda: self._append(self.work.replace("Work", "Place"), ""))
        self._step("RENAME below", lambda: self._rename("Place/Deep", "Place/Deeper"))
        self._step("RENAME", lambda: self._rename("Place/Deeper", "Flat"))

    def _rename(self, old: str, new: str) -> None:
        self.model.require("UNSELECT") if self.model.mailbox else None
        self.model.require(f"RENAME {old} {new}")

        def name(box: str) -> str:
            return new + box[len(old) :] if box == old or box.startswith(old + "/") else box

        p = self.now
        p.no_boxes |= {(user, box) for user, box in p.boxes if name(box) != box}
        p.boxes = {(user, name(box)) for user, box in p.boxes}
        p.there = {(user, name(box), uid): o for (user, box, uid), o in p.there.items()}
        p.used = {(user, name(box), uid): o for (user, box, uid), o in p.used.items()}
        p.flags = {(user, name(box), uid): o for (user, box, uid), o in p.flags.items()}
        p.dates = {(user, name(box), uid): o for (user, box, uid), o in p.dates.items()}
        p.gone = {(user, name(box), uid) for user, box, uid in p.gone}
        p.validity = {(user, name(box)): v for (user, box), v in p.validity.items()}
        p.rights = {(user, name(box), who): v for (user, box, who), v in p.rights.items()}

    # -- messages

    def _messages(self) -> None:
        for box, flags, size in (
            *(
                ("INBOX", "", 0),
                ("INBOX", "(\\Seen Red)", 300),
                (self.work, "(\\Flagged)", 9000),
                ("INBOX", "", 70_000),
            ),
            *(("Work/Deep", "(Red Blue)", 0), ("INBOX", "(\\Answered)", 0)),
        ):
            self._step("APPEND", lambda args=(box, flags, size): self._append(*args))  # type: ignore[misc]
        self._step("SELECT", lambda: self._select("INBOX"))
        self._step("APPEND", lambda: self._append("INBOX", ""))
        self._step("MULTIAPPEND", self._append_two)
        self._step("COPY", lambda: self._copy(1, self.work))
        self._step("COPY", lambda: self._copy(2, "Work/Deep"))
        self._step("STORE", lambda: self._store(1, "\\Flagged"))
        self._step("STORE of much", lambda: self._store(1, " ".join(f"{'long' * 5}{n}" for n in range(12))))
        self._step("MOVE", lambda: self._move(2, self.work))
        self._step("REPLACE", lambda: self._replace(1, "INBOX"))
        self._step("EXPUNGE", lambda: self._expunge(3))
        self._step("APPEND", lambda: self._append("INBOX", "(\\Draft)"))
        self._step("REPLACE", lambda: self._replace(4, self.work))
        self._step("MOVE", lambda: self._move(5, "Work/Deep"))
        self._step("SETACL", lambda: self._share(self.work, "lrs"))
        self._step("SETACL", lambda: self._share(self.work, "lr"))
        if self.format != "mbox-fs":
            self._step("CREATE an heir", lambda: self._inherit(self.work, "Work/Heir", "lr"))
        self._step("DELETEACL", lambda: self._unshare(self.work))
        self._step("SETACL", lambda: self._share("INBOX", "l", self.marker))
        self._step("SETACL", lambda: self._share("INBOX", "lrswite", self.marker))
        self._step("COPY to another", lambda: self._copy(6, "INBOX", "dave"))
        self._step("MOVE to another", lambda: self._move(6, "INBOX", "dave"))
        self._step("APPEND", lambda: self._append(self.work, "(\\Deleted)"))
        self._step("SELECT", lambda: self._select(self.work))
        self._step("EXPUNGE the last", self._expunge_last)

    def _append(self, box: str, flags: str, size: int = 0, user: str = "alice") -> None:
        octets = self._octets(size)
        date = _FIRST_DATE + self._serial * 86_400
        sent = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(date))
        result = self.model.require(f'APPEND {box} {flags} "{sent}" {{}}'.replace("  ", " "), octets)
        self._stored(box, int(result.code.split(" ")[2]), octets, flags)
        self.now.dates[user, box, int(result.code.split(" ")[2])] = date
        self.now.validity[user, box] = int(result.code.split(" ")[1])

    def _append_two(self) -> None:
        both = self._octets(), self._octets(5000)
        code = self.model.require(f"APPEND {self.work} {{}} (\\Seen) {{}}", *both).code.split(" ")
        for uid, octets, flags in zip(numbers(code[2]), both, ("", "\\seen"), strict=True):
            self._stored(self.work, uid, octets, flags)
        self.now.validity["alice", self.work] = int(code[1])

    def _transferred(self, result: Result, key: Key, box: str, user: str) -> None:
        code = _code(result, "COPYUID")
        self.now.validity[user, box] = int(code.split(" ")[1])
        (new,) = numbers(code.split(" ")[3])
        flags = self.now.flags.get(key)
        self._stored(box, new, self.now.there[key], user=user)
        if key in self.now.dates:
            self.now.dates[user, box, new] = self.now.dates[key]
        if flags is None:
            del self.now.flags[user, box, new]
        else:
            self.now.flags[user, box, new] = flags

    def _copy(self, uid: int, box: str, user: str = "alice") -> None:
        result = self.model.require(f"UID COPY {uid} {_called(box, user)}")
        self._transferred(result, ("alice", "INBOX", uid), box, user)

    def _move(self, uid: int, box: str, user: str = "alice") -> None:
        result = self.model.require(f"UID MOVE {uid} {_called(box, user)}")
        self._transferred(result, ("alice", "INBOX", uid), box, user)
        self._dropped(("alice", "INBOX", uid), surely=True)

    def _share(self, box: str, rights: str, model: Model | None = None) -> None:
        owner, other = ("alice", "bob") if model is None else ("dave", "alice")
        (model or self.model).require(f"SETACL {box} {other} {rights}")
        self.now.rights[owner, box, other] = rights

    def _inherit(self, parent: str, box: str, rights: str) -> None:
        self._create(box)
        assert self.now.rights["alice", parent, "bob"] == rights
        self.now.rights["alice", box, "bob"] = rights

    def _unshare(self, box: str) -> None:
        self.model.require(f"DELETEACL {box} bob")
        self.now.rights["alice", box, "bob"] = ""

    def _replace(self, uid: int, box: str) -> None:
        octets = self._octets()
        result = self.model.require(f"UID REPLACE {uid} {box} (\\Seen) {{}}", octets)
        code = _code(result, "APPENDUID").split(" ")
        self._stored(box, int(code[2]), octets, "\\seen")
        self.now.validity["alice", box] = int(code[1])
        self._dropped(("alice", "INBOX", uid), surely=False)

    def _store(self, uid: int, flags: str) -> None:
        self.model.require(f"UID STORE {uid} +FLAGS ({flags})")
        self.now.flags.pop(("alice", "INBOX", uid), None)

    def _expunge(self, uid: int) -> None:
        self._store(uid, "\\Deleted")
        self.model.require(f"UID EXPUNGE {uid}")
        self._dropped(("alice", "INBOX", uid), surely=False)

    def _expunge_last(self) -> None:
        key = max(key for key in self.now.there if key[:2] == ("alice", self.work))
        self.model.require(f"UID EXPUNGE {key[2]}")
        self._dropped(key, surely=self.format != "maildir")

    # -- mail that comes in

    def _mail(self) -> None:
        for users, far in ((["carol"], False), (["carol", "bob"], False), ([], True), (["carol"], True)):
            name = {(1, False): "SMTP", (2, False): "SMTP to two", (0, True): "queue", (1, True): "SMTP and queue"}[
                len(users), far
            ]
            self._step(name, lambda users=users, far=far: self._send(users, far=far))  # type: ignore[misc]
        self._step("LMTP", self._lmtp)

    def _send(self, users: list[str], *, far: bool) -> None:
        octets = self._octets(200)
        addresses = [f"{user}@example.com" for user in users] + (["x@elsewhere.example"] if far else [])
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], "client.example.net", timeout=60) as client:
            assert not client.sendmail("sender@example.net", addresses, octets)
            self._arrived(users, octets)
            if far:
                self.now.queued.add(octets)
            self.marker.command("MARK0")  # the answer is the last thing said before it

    def _lmtp(self) -> None:
        octets = self._octets(10_000)
        users = ["bob", "carol"]
        with smtplib.LMTP("127.0.0.1", self.ports["lmtp"], "client.example.net", timeout=60) as client:
            client.ehlo_or_helo_if_needed()
            for user in deliver(client, users, octets):
                self._arrived([user], octets)
            self.marker.command("MARK0")

    def _arrived(self, users: list[str], octets: bytes) -> None:
        for user in users:
            self.now.delivered[user, octets] = 1

    def _pop(self) -> None:
        self._step("QUIT", self._quit)

    def _quit(self) -> None:
        pop = poplib.POP3("127.0.0.1", self.ports["pop3"], timeout=60)
        pop.user("bob")
        pop.pass_("secret")
        gone = b"\r\n".join(pop.retr(1)[1]) + b"\r\n"
        pop.dele(1)
        pop.quit()
        for user, octets in list(self.now.delivered):
            if user == "bob" and gone.endswith(octets):
                del self.now.delivered[user, octets]


def _called(box: str, user: str) -> str:
    """What alice calls it."""
    return box if user == "alice" else f'"Other Users/{user}"'


def _code(result: Result, name: str) -> str:
    codes = [v[1] for v in result.untagged if isinstance(v, tuple)] + [result.code]
    return next(code for code in codes if code.startswith(name))


@dataclass(frozen=True)
class Asked:
    """One step and the calls that belong to it; ``answer`` is the place among them where it was answered."""

    step: Step
    calls: list[Call]
    answer: int


def driven(folder: Path, format: str) -> list[Asked]:
    """Trace a server that is asked for everything; what belongs to which step."""
    path = folder / "trace"
    program = Program(
        folder,
        durability="strict",
        protocols=("imap", "pop3", "smtp", "lmtp"),
        users=USERS,
        wrapper=wrapper(path),
        mailbox_format=format,
        settings=receiving(folder, "relay_host = '127.0.0.1:1'\nretry_first_seconds = 3600"),
    )
    with program:
        try:
            drive = Drive(program.ports, format)
            drive.run()
        finally:
            program.kill()
    return list(_steps(drive.steps, path))


def _steps(steps: list[Step], path: Path) -> Iterator[Asked]:
    """What was said last before the marker of a step is its answer; MARK0 says that it was said already."""
    waiting = iter(steps)
    mine: list[Call] = []
    early = -1
    for call in calls(path):
        mine.append(call)
        mark = MARK.match(call.strings[0]) if call.name == "recvfrom" and call.done and call.strings else None
        if mark is None:
            continue
        answers = [i for i, c in enumerate(mine) if c.answer]
        if mark[1] == b"0":
            early = answers[-1]
            continue
        step = next(waiting)
        # the first answer in a step is that to the marker of the step before
        yield Asked(step, mine, early if early >= 0 else answers[-1])
        mine, early = [], -1
    assert next(waiting, None) is None, "a step has no marker in the trace"
