"""Mail in by swaks and smtplib; out, octet for octet, by the clients of others."""

from __future__ import annotations

import imaplib
import poplib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver.app import App
from tests.interop.delivering import Delivered, deliver
from tests.interop.fetchmail import delivered_files, fetchmail
from tests.interop.mbsync import Mbsync
from tests.interop.serving import PASSWORD, run, serve
from tests.interop.wire import Wire, fetched


@pytest.fixture
def app(tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[App]:
    with serve(tmp_path / "mail", certificate=certificate) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def mail(app: App, home: Path) -> Delivered:
    return deliver(app, home)


def _forget_index(app: App) -> None:
    for path in Path(app.settings.storage.mailbox_path).glob("*/mailserver.sqlite*"):
        path.unlink()


def test_imaplib(app: App, mail: Delivered, certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    with imaplib.IMAP4_SSL("localhost", app.ports["imaps"], ssl_context=context) as client:
        client.login("user1", PASSWORD)
        client.select("INBOX")
        _, answer = client.fetch("1:*", "(BODY.PEEK[])")
        mail.check([part[1] for part in answer if isinstance(part, tuple)])
        _, answer = client.uid("FETCH", "1:*", "(RFC822)")
        mail.check([part[1] for part in answer if isinstance(part, tuple)])


def test_poplib(app: App, mail: Delivered, certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    client = poplib.POP3_SSL("localhost", app.ports["pop3s"], context=context)
    client.user("user1")
    client.pass_(PASSWORD)
    count, size = client.stat()
    # poplib gives up at lines of more than 2048 octets, as some of the corpus have
    wide = [n for n, octets in enumerate(mail.messages, 1) if max(map(len, octets.split(b"\n"))) > 2000]
    found = {n: b"\r\n".join([*client.retr(n)[1], b""]) for n in range(1, count + 1) if n not in wide}
    Delivered([octets for n, octets in enumerate(mail.messages, 1) if n not in wide]).check(list(found.values()))
    assert size >= sum(map(len, mail.messages))
    client.quit()


@pytest.mark.parametrize("scheme", ["imap", "imaps", "pop3", "pop3s"])
def test_curl(app: App, home: Path, mail: Delivered, scheme: str) -> None:
    base = f"{scheme}://127.0.0.1:{app.ports[scheme]}"
    where = [f"{base}/INBOX;UID={n}" if scheme.startswith("imap") else f"{base}/{n}" for n in range(1, 21)]
    arguments = [word for n, url in enumerate(where) for word in ("--output", f"{n}", url)]
    run(["curl", "--silent", "--show-error", "--insecure", "--user", f"user1:{PASSWORD}", *arguments], home)
    Delivered(mail.messages[:20]).check([(home / str(n)).read_bytes() for n in range(20)])
    listed = run(["curl", "--silent", "--insecure", "--user", f"user1:{PASSWORD}", f"{base}/"], home).stdout
    assert (b'"/" INBOX' if scheme.startswith("imap") else b"\n20 ") in b"\n" + listed


@pytest.mark.parametrize("tls", [False, True])
def test_mbsync(app: App, home: Path, mail: Delivered, certificate: tuple[Path, Path], tls: bool) -> None:
    client = Mbsync(home / "mbsync")
    port, trusted = (app.ports["imaps"], certificate[0]) if tls else (app.ports["imap"], None)
    assert client.sync(port, trusted)
    # it skips what has no empty line behind the header
    whole = Delivered([octets for octets in mail.messages if b"\r\n\r\n" in octets])
    whole.check([re.sub(rb"X-TUID: .*\n", b"", path.read_bytes(), count=1) for path in client.messages()])
    assert not client.sync(port, trusted)
    _forget_index(app)
    assert not client.sync(port, trusted)
    _flags_go_both_ways(app, client, port, trusted)
    _forget_index(app)
    assert not client.sync(port, trusted)


def _flags_go_both_ways(app: App, client: Mbsync, port: int, trusted: Path | None) -> None:
    with Wire(app.ports["imap"], "user1", PASSWORD) as wire:
        wire("SELECT INBOX")
        wire("STORE 1:3 +FLAGS (\\Seen \\Flagged)")
        wire("STORE 4 +FLAGS (\\Deleted)")
        path = client.messages()[5]
        path.rename(path.parent.parent / "cur" / (path.name.split(":")[0] + ":2,RS"))
        assert client.sync(port, trusted)
        assert sum(":2,FS" in p.name for p in client.messages()) == 3
        flags = {n: answer for n, answer in fetched(wire("FETCH 1:* (FLAGS)")).items() if b"Answered" in answer}
        assert len(flags) == 1
        assert b"\\Seen" in next(iter(flags.values()))
    assert not client.sync(port, trusted)


def test_fetchmail(app: App, home: Path, mail: Delivered) -> None:
    found = fetchmail(app.ports["pop3"], home, "keep")
    assert len(found) == len(mail.messages)
    for octets, expected in zip(found, mail.messages, strict=True):
        _, _, body = expected.partition(b"\r\n\r\n")  # it rewrites headers
        assert octets.replace(b"\r", b"").rstrip().endswith(body.replace(b"\r", b"").rstrip())
    nothing_new = 1
    assert fetchmail(app.ports["pop3"], home, "keep", accept=(nothing_new,)) == []
    assert len(fetchmail(app.ports["pop3"], home, "nokeep fetchall", server="")) == len(mail.messages)
    assert fetchmail(app.ports["pop3"], home, "nokeep fetchall", accept=(nothing_new,)) == []


_GETMAIL = """
[retriever]
type = SimplePOP3Retriever
server = 127.0.0.1
port = {port}
username = user1
password = pass
[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "n=$(ls {folder} | wc -l); cat > {folder}/$n")
allow_root_commands = true
[options]
delete = {delete}
read_all = {all}
delivered_to = false
received = false
verbose = 0
"""


def _getmail(app: App, home: Path, *, delete: bool = False, everything: bool = False) -> list[bytes]:
    folder = home / "got"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*"):
        path.unlink()
    text = _GETMAIL.format(port=app.ports["pop3"], folder=folder, delete=delete, all=everything)
    (home / "getmailrc").write_text(text)
    run(["getmail", "--getmaildir", home, "--rcfile", home / "getmailrc"], home)
    return delivered_files(folder)


@pytest.mark.timeout(400)
def test_getmail(app: App, home: Path, mail: Delivered) -> None:
    found = _getmail(app, home)
    assert len(found) == len(mail.messages)
    intact = 0  # it reads each message with CPython's email and writes it anew, which mends the oddest of them
    for octets, expected in zip(found, mail.messages, strict=True):
        _, _, body = expected.partition(b"\r\n\r\n")
        intact += b"".join(octets.split()).endswith(b"".join(body.split()))
    assert intact > len(found) * 0.8
    assert _getmail(app, home) == []
    assert len(_getmail(app, home, delete=True, everything=True)) == len(mail.messages)
    assert _getmail(app, home, everything=True) == []
