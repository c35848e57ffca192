"""Access lists that Dovecot and this server write in turn, and what both make of them."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailserver import ImapConfig, ImapServer, Services, Settings
from mailserver.config.schema import AuthConfig, ServerConfig, StorageConfig
from tests.interop.dovecot import Dovecot
from tests.interop.wire import Wire

_USERS = ("user1", "user2", "user3")
_GROUPS = "g1,g2"  # of all users
_ACL = """
mail_location = {own}
mail_plugins = acl
protocol imap {{
  mail_plugins = acl imap_acl
}}
plugin {{
  acl = vfile
  acl_anyone = allow
  acl_groups = g1,g2
  acl_shared_dict = file:{mail}/shared.db
}}
namespace shared {{
  type = shared
  separator = /
  prefix = Other Users/%%u/
  location = {others}
  subscriptions = no
  list = children
}}
"""
_STORAGE = {
    "maildir++": ("maildir:{mail}/%u", "maildir", "maildir++"),
    "fs": ("maildir:{mail}/%u:LAYOUT=fs", "maildir", "fs"),
    "mbox-fs": ("mbox:{mail}/%u:INBOX={mail}/%u/inbox", "mbox", "fs"),
    "mbox": ("mbox:{mail}/%u:LAYOUT=maildir++:INBOX={mail}/%u/.INBOX", "mbox", "maildir++"),
}


class Both:
    """A directory of accounts, served by one or by the other."""

    def __init__(self, dovecot: Dovecot, storage: str) -> None:
        self.running = dovecot
        self._storage = _STORAGE[storage]

    @contextmanager
    def dovecot(self) -> Iterator[int]:
        self.running.own(self.running.mail_root)
        yield self.running.imap_port

    @contextmanager
    def ours(self) -> Iterator[int]:
        users = self.running.base / "our-users"
        users.write_text("".join(f"{user}:{{PLAIN}}pass::::::userdb_acl_groups={_GROUPS}\n" for user in _USERS))
        _, format, layout = self._storage
        storage = StorageConfig(
            mailbox_path=str(self.running.mail_root), durability="relaxed", format=format, layout=layout
        )
        services = Services(
            Settings(storage=storage, auth=AuthConfig(users_file=str(users)), server=ServerConfig(log_level="error"))
        )
        try:
            with ImapServer(ImapConfig(host="127.0.0.1", port=0, ssl_port=-1), services) as server:
                yield server.port
        finally:
            services.authenticator.stop()
            services.close()

    def recalculate(self) -> None:
        """Have Dovecot find out who shares with whom, and which lists there are: what it keeps of that is its own."""
        (self.running.mail_root / "user1" / "dovecot-acl-list").unlink(missing_ok=True)
        self.running.own(self.running.mail_root)
        doveadm = shutil.which("doveadm") or "/usr/bin/doveadm"
        command = [doveadm, "-c", str(self.running.base / "dovecot.conf"), "acl", "recalc", "-u", "user1"]
        subprocess.run(command, check=True, capture_output=True)


@contextmanager
def _both(storage: str) -> Iterator[Both]:
    base = Path(tempfile.mkdtemp(prefix="dovecot"))
    base.chmod(0o755)
    location, mail = _STORAGE[storage][0], str(base / "dovecot" / "mail")
    own = location.replace("{mail}", mail)
    extra = _ACL.format(own=own, others=own.replace("%u", "%%u"), mail=mail)
    try:
        with Dovecot(base, users=_USERS, extra=extra) as running:
            yield Both(running, storage)
    finally:
        shutil.rmtree(base)


Server = Callable[[], object]


def _run(port: int, user: str, *commands: str) -> None:
    with Wire(port, user, "pass") as wire:
        for command in commands:
            wire(command)


def _words(line: bytes) -> list[str]:
    """The words of a response; quotes taken off."""
    found = re.findall(rb'"((?:[^"\\]|\\.)*)"|([^ \r\n"]+)', line)
    return [re.sub(r"\\(.)", r"\1", (quoted or plain).decode()) for quoted, plain in found]


def _list(words: list[str], owner: str = "user1") -> dict[str, frozenset[str]]:
    """Of an ACL response: identifier -> rights. Dovecot says the owner's name for ``owner`` where it stands alone."""
    found = {name: frozenset(rights) for name, rights in zip(words[::2], words[1::2], strict=True)}
    for sign in ("", "-"):
        if sign + "owner" in found and sign + owner not in found:
            found[sign + owner] = found.pop(sign + "owner")
    return {name: rights for name, rights in found.items() if rights or not name.startswith("-")}


def _answer(wire: Wire, command: str) -> object:
    """What a command says: MYRIGHTS, GETACL, LISTRIGHTS as sets, of the others whether it is allowed."""
    lines = wire(command, fails=True)
    verdict = wire.completion.split()[0]
    for line in lines:
        words = _words(line)
        if words[1] == "MYRIGHTS":
            # RFC 4314 section 4: one of these is required; Dovecot is content with any
            return frozenset(words[3]) if set("lrikxa") & set(words[3]) else b"NO"
        if words[1] == "ACL":
            return _list(words[3:])
        if words[1] == "LISTRIGHTS":
            return words[3], words[4], frozenset(words[5:])
        if b"PERMANENTFLAGS" in line:
            flags = re.search(rb"\(([^)]*)\)", line)
            assert flags is not None
            # keywords that exist are only named by who has seen them
            verdict += b" " + b" ".join(sorted(f for f in flags[1].split() if f.startswith(b"\\")))
    return verdict


def _answers(server: Server, mailboxes: list[str], listed: bool = True) -> dict[tuple[str, str], object]:
    found: dict[tuple[str, str], object] = {}
    with server() as port:  # type: ignore[attr-defined]  # one of the two above
        for user in _USERS:
            with Wire(port, user, "pass") as wire:
                for name in mailboxes:
                    shown = name
                    if user != "user1":
                        shown = "Other Users/user1" if name == "INBOX" else f"Other Users/user1/{name}"
                    for command in ["MYRIGHTS", "SELECT", "EXAMINE"] + ["GETACL"] * (user == "user1"):
                        found[user, f"{command} {name}"] = _answer(wire, f'{command} "{shown}"')
                if listed and user != "user1":
                    names = {_words(line)[-1] for line in wire('LIST "" "Other Users/*"') if b"oselect" not in line}
                    found[user, "LIST"] = names
    return found


def _same(one: dict[tuple[str, str], object], other: dict[tuple[str, str], object]) -> None:
    assert one.keys() == other.keys()
    different = {k: (one[k], other[k]) for k in one if one[k] != other[k]}
    assert not different, "\n".join(f"{k}: {a} | {b}" for k, (a, b) in different.items())


_MAILBOXES = ["INBOX", "Work", "Work/Sub", "Drop", "Secret", "Team"]


def _make(port: int) -> None:
    """What a firm has after some years."""
    _run(port, "user2", "NOOP")
    _run(port, "user3", "NOOP")
    _run(
        port,
        "user1",
        *(f"CREATE {name}" for name in ("Work", "Work/Sub", "Drop", "Secret", "Team")),
        "SETACL INBOX user2 lrs",
        "SETACL Work user2 lrswitekxa",
        "SETACL Work user3 lrw",
        "SETACL Work -user3 w",
        "SETACL Work/Sub $g1 lrt",
        "SETACL Drop anyone li",
        "SETACL Drop user3 l",
        "SETACL Secret user2 r",
        "SETACL Team !$g2 lripa",
        "SETACL Team user1 lrswipkxtea",
        'SETACL Team "some body" lr',
    )
    with Wire(port, "user1", "pass") as wire:
        for name in ("INBOX", "Work", "Team"):
            wire.append(name, b"Subject: x\r\n\r\nx\r\n", "(\\Flagged)")


def _change(port: int) -> None:
    """What a day brings; by the owner, and by somebody who may."""
    _run(
        port,
        "user1",
        "SETACL INBOX user2 +wit",
        "SETACL INBOX user3 lr",
        "DELETEACL Work user3",
        "SETACL Work/Sub user2 ltek",
        "SETACL Drop anyone -i",
        "DELETEACL Team !$g2",
        "SETACL Team user1 -p",
        "CREATE Work/New",
        "RENAME Secret Secret2",
    )
    _run(
        port,
        "user2",
        'SETACL "Other Users/user1/Work" user3 lrwk',
        'CREATE "Other Users/user1/Work/Two"',
        'RENAME "Other Users/user1/Work/New" "Other Users/user1/Work/Newer"',
        'DELETE "Other Users/user1/Work/Two"',
    )


_AFTERWARDS = ["INBOX", "Work", "Work/Sub", "Drop", "Secret2", "Team", "Work/Newer"]


@pytest.mark.parametrize("storage", ["maildir++", "fs", "mbox"])
def test_what_dovecot_made(storage: str) -> None:
    with _both(storage) as both:
        with both.dovecot() as port:
            _make(port)
        _same(_answers(both.dovecot, _MAILBOXES), _answers(both.ours, _MAILBOXES))
        with both.ours() as port:
            _change(port)
        changed = _answers(both.ours, _AFTERWARDS)
        both.recalculate()
        _same(changed, _answers(both.dovecot, _AFTERWARDS))


@pytest.mark.parametrize("storage", ["maildir++", "fs"])  # an mbox that Dovecot makes does not get its parent's list
def test_what_we_made(storage: str) -> None:
    with _both(storage) as both:
        with both.ours() as port:
            _make(port)
        made = _answers(both.ours, _MAILBOXES)
        both.recalculate()
        _same(made, _answers(both.dovecot, _MAILBOXES))
        with both.dovecot() as port:
            _change(port)
        both.recalculate()
        _same(_answers(both.dovecot, _AFTERWARDS), _answers(both.ours, _AFTERWARDS))


def test_nested_mboxes() -> None:
    names = ["INBOX", "Dept/Team", "Flat"]
    with _both("mbox-fs") as both:
        with both.dovecot() as port:
            _run(port, "user2", "NOOP")
            _run(
                port,
                "user1",
                *("CREATE Dept/Team", "CREATE Flat", "SETACL INBOX user2 lrs", "SETACL Dept/Team user3 lrik"),
                *("SETACL Flat anyone l", "SETACL Flat user2 lrw"),
            )
        _same(_answers(both.dovecot, names), _answers(both.ours, names))
        with both.ours() as port:
            _run(port, "user1", "RENAME Dept Office", "SETACL INBOX user3 lr", "SETACL Flat user2 -w")
            _run(port, "user2", "NOOP")
        names = ["INBOX", "Office/Team", "Flat"]
        changed = _answers(both.ours, names)
        both.recalculate()
        _same(changed, _answers(both.dovecot, names))


def _some_list(rng: random.Random) -> str:
    words = ["anyone", "authenticated", "owner", "user=user1", "user=user2", "user=user3", "user=x y"]
    words += ["group=g1", "group=g2", "group=g3", "group-override=g2"]
    lines = []
    for word in rng.sample(words, rng.randint(0, 5)):
        sign = "-" if rng.random() < 0.25 else ""
        name = f'"{sign}{word}"' if " " in word else sign + word
        rights = "".join(sorted(rng.sample("lrswipkxtea", rng.randint(1, 8))))
        lines.append(f"{name} {rights}{' :more' if rng.random() < 0.1 else ''}\n")
    return "".join(lines)


def test_any_list() -> None:
    """GETACL, MYRIGHTS, SELECT and EXAMINE of the owner and of two others, for lists made at random."""
    rng = random.Random(4314)
    names = [f"box{i}" for i in range(40)]
    with _both("maildir++") as both:
        with both.dovecot() as port:
            _run(port, "user1", *(f"CREATE {name}" for name in names))
        for name in names:
            (both.running.mail_root / "user1" / f".{name}" / "dovecot-acl").write_text(_some_list(rng))
        _same(_answers(both.dovecot, names, listed=False), _answers(both.ours, names, listed=False))


def test_listrights() -> None:
    """The rights that may be given are the same; that the owner can always administer we say, and Dovecot only does."""
    with _both("maildir++") as both:
        said = []
        for server in (both.dovecot, both.ours):
            with server() as port, Wire(port, "user1", "pass") as wire:
                wire("CREATE Work", fails=True)
                answers = [_answer(wire, f'LISTRIGHTS Work "{i}"') for i in ("user2", "anyone", "-user2", "$g1", "a b")]
                said.append([(identifier, always, rights) for identifier, always, rights in answers])  # type: ignore[misc]
        assert said[0] == said[1]
