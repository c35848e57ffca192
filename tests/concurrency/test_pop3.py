"""One maildrop, one session: over threads, workers and processes, and after a process was killed."""

from __future__ import annotations

import contextlib
import poplib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.concurrency.model import Model, message
from tests.program import Program


@contextlib.contextmanager
def session(port: int) -> Iterator[poplib.POP3]:
    """Logged in as alice. error_proto when that is refused."""
    client = poplib.POP3("127.0.0.1", port, timeout=20)
    try:
        client.user("alice")
        client.pass_("secret")
        yield client
    finally:
        client.close()


def attempts(ports: list[int], count: int) -> list[str]:
    """All at the same moment; those who get in stay until everybody was answered."""
    answers: list[str] = []
    begin, end = threading.Barrier(count), threading.Barrier(count)

    def attempt(port: int) -> None:
        begin.wait(20)
        try:
            with session(port):
                answers.append("OK")
                end.wait(20)
        except poplib.error_proto as error:
            answers.append(str(error))
            end.wait(20)

    threads = [threading.Thread(target=attempt, args=(ports[n % len(ports)],)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(answers)


@pytest.mark.parametrize(("workers", "programs"), [(1, 1), (2, 1), (1, 2)])
def test_of_many_logins_one_gets_in(tmp_path: Path, mailbox_format: str, workers: int, programs: int) -> None:
    """RFC 1939 section 4: "an exclusive-access lock on the maildrop"; RFC 2449 section 8.1.1: [IN-USE]."""
    with contextlib.ExitStack() as stack:
        ports = []
        for number in range(programs):
            folder = tmp_path / str(number)
            folder.mkdir()
            program = stack.enter_context(
                Program(
                    folder, workers=workers, protocols=("pop3",), mail=tmp_path / "mail", mailbox_format=mailbox_format
                )
            )
            ports.append(program.ports["pop3"])
        for _ in range(3):
            answers = attempts(ports, 8)
            assert "OK" in answers
            assert answers.count("OK") == 1
            assert all("[IN-USE]" in answer for answer in answers if answer != "OK")
            _wait_until_free(ports[0])


def _wait_until_free(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with session(port) as client:
                client.quit()
                return
        except poplib.error_proto:
            assert time.monotonic() < deadline
            time.sleep(0.01)


# poplib leaves its socket open when the server is killed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path, mailbox_format: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    mail = tmp_path / "mail"
    with (
        Program(tmp_path / "a", protocols=("pop3",), mail=mail, mailbox_format=mailbox_format) as first,
        Program(tmp_path / "b", protocols=("imap", "pop3"), mail=mail, mailbox_format=mailbox_format) as second,
    ):
        with Model(second.ports["imap"]) as imap:
            for number in range(3):
                imap.require("APPEND INBOX {}", message(f"t{number}"))
        with session(first.ports["pop3"]) as client:
            client.dele(1)
            with pytest.raises(poplib.error_proto, match="IN-USE"), session(second.ports["pop3"]):
                pass
            first.kill()
            with session(second.ports["pop3"]) as other:
                assert other.stat()[0] == 3  # what was not quit was not deleted
                other.quit()


def test_beside_imap_in_another_process(tmp_path: Path, mailbox_format: str) -> None:
    """RFC 1939 section 8: the maildrop stays what it was at login, whatever others do to the mailbox."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    mail = tmp_path / "mail"
    with (
        Program(tmp_path / "a", protocols=("pop3",), mail=mail, mailbox_format=mailbox_format) as first,
        Program(tmp_path / "b", protocols=("imap",), mail=mail, mailbox_format=mailbox_format) as second,
        Model(second.ports["imap"]) as imap,
    ):
        for number in range(5):
            imap.require("APPEND INBOX {}", message(f"t{number}"))
        imap.require("SELECT INBOX")
        with session(first.ports["pop3"]) as client:
            before = (client.stat(), client.list()[1], client.uidl()[1])
            imap.require("STORE 2 +FLAGS (\\Deleted)")
            imap.require("EXPUNGE")
            imap.require("STORE 1:4 +FLAGS (\\Flagged work)")
            imap.require("APPEND INBOX {}", message("new"))
            assert (client.stat(), client.list()[1], client.uidl()[1]) == before
            with pytest.raises(poplib.error_proto):
                client.retr(2)
            assert [b"".join(client.retr(n)[1])[:11] for n in (1, 3, 4, 5)] == [
                b"Subject: t%d" % n for n in (0, 2, 3, 4)
            ]
            client.dele(5)
            client.dele(2)
            client.quit()
        imap.require("NOOP")
        found = imap.require("UID SEARCH ALL")
        assert found.ok
        with session(first.ports["pop3"]) as client:
            assert [line.split()[1][:8] for line in client.uidl()[1]] == [b"%08x" % n for n in (1, 3, 4, 6)]


def test_login_delay_over_workers(tmp_path: Path, mailbox_format: str) -> None:
    """RFC 2449 section 6.5. Which worker answers is chance; a delay that one of them forgot would show."""
    with Program(tmp_path, workers=2, protocols=("pop3",), mailbox_format=mailbox_format) as program:
        settings = (tmp_path / "m.toml").read_text()
        program.stop()
        (tmp_path / "m.toml").write_text(settings.replace("[pop3]\n", "[pop3]\nlogin_delay_seconds = 3600\n"))
        program.start()
        with session(program.ports["pop3"]) as client:
            client.quit()
        for _ in range(12):
            with pytest.raises(poplib.error_proto, match="LOGIN-DELAY"), session(program.ports["pop3"]):
                pass
