"""The machine fails under a running server: a refusal that says "later", the cause in the log, service for everyone
else; when it is well again everything goes on, and nothing that was acknowledged is lost.

The calls fail by a library that is loaded into the server (``faulty.c``): the kernel need not be asked to be ill.
"""

from __future__ import annotations

import errno
import os
import poplib
import re
import shutil
import smtplib
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailserver.delivery.queue.spool import Spool
from mailserver.store.check import check_account
from tests.concurrency.model import Model, message
from tests.concurrency.wire import Closed
from tests.crash.ledger import new_token
from tests.program import Program, receiving

FORMATS = pytest.mark.parametrize("format", ["maildir", "mbox"])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    made = tmp_path_factory.mktemp("faulty") / "faulty.so"
    source = Path(__file__).with_name("faulty.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


@dataclass
class Sick:
    """A server, how to make it ill, and what alice and bob were told is stored."""

    program: Program
    faults: Path
    stored: dict[str, list[str]] = field(default_factory=lambda: {"alice": [], "bob": []})
    refused: list[str] = field(default_factory=list)

    @property
    def ports(self) -> dict[str, int]:
        return self.program.ports

    def fail(self, calls: Sequence[str], error: int, where: str) -> None:
        """From now on, until ``heal``."""
        text = "".join(f"{call} {error} {where}\n" for call in calls)
        temporary = self.faults.with_suffix(".new")
        temporary.write_text(text)
        os.rename(temporary, self.faults)

    def heal(self) -> None:
        self.fail((), 0, "")

    def append(self, user: str, model: Model) -> str:
        """APPEND; the response code of a refusal, "" for OK."""
        token = new_token(user)
        result = model.command("APPEND INBOX {}", message(token, 3000))
        assert result.status in ("OK", "NO"), result
        (self.stored[user] if result.ok else self.refused).append(token)
        return "" if result.ok else result.code

    def send(self, user: str, *others: str) -> int:
        """SMTP; the code of the reply to the message. The server keeps talking whatever it is."""
        token = new_token(user)
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], "client.example.net", timeout=60) as client:
            client.ehlo()
            assert client.mail("a@example.net")[0] == 250
            code = max(client.rcpt(address)[0] for address in (f"{user}@example.com", *others))
            if code == 250:
                code = client.data(message(token, 3000))[0]
            client.rset()
        (self.stored[user] if code == 250 else self.refused).append(token)
        return code

    def pop(self, user: str) -> int:
        """How many messages POP3 shows."""
        pop = poplib.POP3("127.0.0.1", self.ports["pop3"], timeout=60)
        pop.user(user)
        pop.pass_("secret")
        count = pop.stat()[0]
        pop.quit()
        return count

    def all_is_well(self) -> None:
        """Both can store again, and there is what was acknowledged and nothing else."""
        for user in ("alice", "bob"):
            deadline = time.monotonic() + 20
            with Model(self.ports["imap"], user=user) as model:
                while self.append(user, model):
                    assert time.monotonic() < deadline
                assert self.send(user) == 250
                model.require("SELECT INBOX")
                found = []
                for values in model.require("FETCH 1:* (BODY.PEEK[])").untagged:
                    if values[1:2] == ["FETCH"]:
                        octets = values[2][1]
                        found.append(octets.partition(b"Subject: ")[2].split(b"\r\n")[0].decode())
                        assert octets.endswith(message(found[-1], 3000))
            assert sorted(found) == sorted(self.stored[user])
            assert self.pop(user) == len(found)

    def logged(self, text: str) -> bool:
        return text in self.program.log.read_text()


@pytest.fixture
def sick(tmp_path: Path, library: Path, format: str, workers: int, settings: dict[str, str]) -> Iterator[Sick]:
    faults = tmp_path / "faults"
    faults.write_text("")
    program = Program(
        tmp_path,
        workers=workers,
        durability="strict",
        mailbox_format=format,
        protocols=("imap", "pop3", "smtp", "lmtp"),
        environment={"LD_PRELOAD": str(library), "FAULTS": str(faults)},
        settings={**receiving(tmp_path, "relay_host = '127.0.0.1:1'\nretry_first_seconds = 1"), **settings},
    )
    with program:
        yield Sick(program, faults)
    for user in ("alice", "bob"):
        if os.listdir(program.mail / user):  # a file system of its own is gone
            assert check_account(str(program.mail / user)) == []


@pytest.fixture
def format() -> str:
    return "maildir"


@pytest.fixture
def workers() -> int:
    return 1


@pytest.fixture
def settings() -> dict[str, str]:
    return {}


ILLNESSES = [
    (("write",), errno.EIO, "Input/output error"),
    (("fsync",), errno.EIO, "Input/output error"),
    (("open",), errno.EIO, "Input/output error"),
    (("create", "write", "rename", "link", "unlink", "mkdir"), errno.EROFS, "Read-only file system"),
    (("open",), errno.EMFILE, "Too many open files"),
    (("write", "mkdir", "create"), errno.ENOSPC, "No space left on device"),
    (("write",), errno.EDQUOT, "Disk quota exceeded"),
]


@FORMATS
@pytest.mark.parametrize(("calls", "error", "cause"), ILLNESSES)
def test_the_storage_of_one_user_is_ill(sick: Sick, calls: Sequence[str], error: int, cause: str) -> None:
    with Model(sick.ports["imap"]) as alice, Model(sick.ports["imap"], user="bob") as bob:
        for user, model in (("alice", alice), ("bob", bob)):
            assert sick.append(user, model) == ""
            assert sick.send(user) == 250
        sick.fail(calls, error, "/mail/alice/")
        for _ in range(3):
            assert sick.append("alice", alice) in ("UNAVAILABLE", "OVERQUOTA", "NOPERM")
            assert sick.send("alice") // 100 == 4 or error == errno.EDQUOT
            assert alice.command("NOOP").ok
            assert sick.append("bob", bob) == ""
            assert sick.send("bob") == 250
        assert sick.logged(cause), sick.program.log.read_text()
        sick.heal()
    sick.all_is_well()


@pytest.mark.parametrize(("format", "where"), [("maildir", "new"), ("maildir", "dovecot-uidlist"), ("mbox", ".INBOX")])
def test_what_was_stored_cannot_be_synced(sick: Sick, where: str) -> None:
    """The octets are on the disk, but not their name and UID: who is told NO must not find the message there."""
    with Model(sick.ports["imap"]) as alice, Model(sick.ports["imap"], user="bob") as bob:
        assert sick.append("alice", alice) == ""
        assert sick.send("alice") == 250
        alice.require("SELECT INBOX")
        sick.fail(("fsync",), errno.EIO, f"/mail/alice/{where}")
        for _ in range(2):
            assert sick.append("alice", alice) == "UNAVAILABLE"
            assert sick.send("alice") // 100 == 4
            assert alice.command("COPY 1 INBOX").status == "NO"
            assert sick.append("bob", bob) == ""
            assert sick.send("alice", "x@elsewhere.example") == 250
        assert sick.logged("Input/output error"), sick.program.log.read_text()
        assert not sick.logged("event=fault"), sick.program.log.read_text()
        sick.heal()
        with closing(Spool(str(sick.program.folder / "queue"), sync=False)) as spool:
            deadline = time.monotonic() + 20
            while any(one.recipient.user for queued in spool.all() for one in queued.waiting):
                assert time.monotonic() < deadline
                time.sleep(0.02)
    sick.all_is_well()


@FORMATS
def test_a_small_file_system(sick: Sick) -> None:
    """A real one, which alice's mail fills; bob's lies elsewhere."""
    small = sick.program.mail / "alice"
    small.mkdir(parents=True)
    if os.geteuid() or os.system(f"mount -t tmpfs -o size=2m none {small} 2>/dev/null"):
        pytest.skip("no file system can be mounted here")
    try:
        with Model(sick.ports["imap"]) as alice, Model(sick.ports["imap"], user="bob") as bob:
            count = 0
            while not (code := sick.append("alice", alice)):
                count += 1
                assert count < 2000
            assert code == "UNAVAILABLE"
            assert sick.send("alice") // 100 == 4
            assert sick.append("bob", bob) == ""
            assert sick.logged("No space left on device")
            alice.require("SELECT INBOX")
            alice.learn()
            assert len(alice.slots) == count
            alice.require("FETCH 1:* (FLAGS BODY.PEEK[])")
            assert alice.command("STORE 1 +FLAGS (\\Deleted)").status in ("OK", "NO")
            assert alice.command("UID EXPUNGE 1000000").status in ("OK", "NO")
            os.system(f"mount -o remount,size=8m {small}")
            alice.store(range(1, count), "+FLAGS", ["\\Deleted"], uid=False)
            alice.require("EXPUNGE")
            del sick.stored["alice"][: count - 1]
            assert sick.append("alice", alice) == ""
        sick.all_is_well()
        assert check_account(str(small)) == []
    finally:
        os.system(f"umount -l {small}")


def test_the_queue_is_ill(sick: Sick) -> None:
    def send() -> int:
        with smtplib.SMTP("127.0.0.1", sick.ports["smtp"], "client.example.net", timeout=60) as client:
            client.ehlo()
            client.mail("a@example.net")
            assert client.rcpt("x@elsewhere.example")[0] == 250
            return client.data(message("far"))[0]

    assert send() == 250
    for calls, error in ((("write",), errno.ENOSPC), (("fsync",), errno.EIO), (("create",), errno.EROFS)):
        sick.fail(calls, error, "/queue/messages")
        assert send() // 100 == 4
        assert sick.send("alice") == 250
        assert sick.logged(os.strerror(error))
        sick.heal()
    assert send() == 250
    files = os.listdir(sick.program.folder / "queue/messages")
    assert len(files) == 2, files
    sick.all_is_well()


@FORMATS
@pytest.mark.parametrize("settings", [{"storage": "quota_octets = 20000"}])
def test_the_quota_is_used_up(sick: Sick) -> None:
    with Model(sick.ports["imap"]) as alice, Model(sick.ports["imap"], user="bob") as bob:
        for _ in range(20):
            if code := sick.append("alice", alice):
                break
        assert code == "OVERQUOTA"
        assert sick.send("alice") == 452
        assert sick.append("bob", bob) == ""
        assert sick.logged("quota"), sick.program.log.read_text()
        alice.require("SELECT INBOX")
        alice.learn()
        alice.store([1, 2, 3], "+FLAGS", ["\\Deleted"], uid=False)
        alice.require("EXPUNGE")
        del sick.stored["alice"][:3]
    sick.all_is_well()


@FORMATS
def test_the_clock_jumps_back(sick: Sick) -> None:
    """No UIDVALIDITY and no MODSEQ is given twice, and everything is served."""
    with Model(sick.ports["imap"]) as alice, Model(sick.ports["imap"], user="bob") as bob:
        assert sick.append("alice", alice) == sick.append("bob", bob) == ""
        alice.require("CREATE Work")
        alice.require("SELECT Work (CONDSTORE)")
        validity = alice.uidvalidity
        alice.require("SELECT INBOX (CONDSTORE)")
        highest = alice.highest
        sick.fail(("clock",), -7200, "clock")
        for _ in range(3):
            assert sick.append("alice", alice) == sick.append("bob", bob) == ""
            assert sick.send("alice") == sick.send("bob") == 250
            alice.require("NOOP")
            alice.learn()
            alice.store([1], "+FLAGS", [f"k{len(alice.slots)}"], uid=False)
            alice.require("UNSELECT")
            alice.require("SELECT INBOX (CONDSTORE)")
            assert alice.highest > highest
            highest = alice.highest
            alice.require("DELETE Work")
            alice.truth.validity.clear()  # another mailbox of that name
            alice.require("CREATE Work")
            alice.require("SELECT Work")
            assert alice.uidvalidity > validity
            validity = alice.uidvalidity
            alice.require("SELECT INBOX (CONDSTORE)")
    sick.program.kill()
    sick.program.start()  # still in the past
    with Model(sick.ports["imap"]) as alice:
        alice.require("SELECT INBOX (CONDSTORE)")
        assert alice.highest >= highest
        assert sick.append("alice", alice) == ""
        alice.require("NOOP")
    sick.all_is_well()
    sick.heal()
    sick.all_is_well()


def test_no_threads_left(sick: Sick) -> None:
    """Who is connected is served; who comes is told to come again."""
    with Model(sick.ports["imap"]) as alice, Model(sick.ports["imap"], user="bob") as bob:
        assert sick.append("alice", alice) == ""
        sick.fail(("thread",), errno.EAGAIN, "thread")
        for port in (sick.ports["imap"], sick.ports["pop3"], sick.ports["smtp"]):
            with pytest.raises((Closed, OSError, AssertionError, smtplib.SMTPException)):
                Model(port).close()
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            smtplib.SMTP("127.0.0.1", sick.ports["smtp"], timeout=60)
        assert refused.value.smtp_code == 421
        assert sick.append("alice", alice) == ""
        assert sick.append("bob", bob) == ""
        alice.require("SELECT INBOX")
        assert sick.append("alice", alice) == ""
        assert sick.logged("can't start new thread"), sick.program.log.read_text()
        sick.heal()
    sick.all_is_well()


@FORMATS
@pytest.mark.parametrize("workers", [2])
def test_a_worker_dies(sick: Sick) -> None:
    """Those whom the other one serves notice nothing; there are two again soon."""
    with ExitStack() as stack:
        sessions: list[Model] = []
        deadline = time.monotonic() + 30
        while len(set(re.findall(r"event=login conn=(\w+)-", sick.program.log.read_text()))) < 2 or len(sessions) < 4:
            assert time.monotonic() < deadline, "one worker takes everything"
            sessions.append(stack.enter_context(Model(sick.ports["imap"])))
        for session in sessions:
            assert sick.append("alice", session) == ""
        before = sick.program.workers()
        sick.program.kill_one(0)
        alive = 0
        for session in sessions:
            try:
                assert sick.append("alice", session) == ""
                alive += 1
            except Closed:
                pass
        assert 0 < alive < len(sessions), "both workers have sessions, and one of them died"
        deadline = time.monotonic() + 20
        while len(sick.program.workers()) < 2 or before[0] in sick.program.workers():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert sick.logged("worker-died")
    sick.all_is_well()
