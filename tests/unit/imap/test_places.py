"""Names of mailboxes of others, where the account or the list is not what one would think."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailserver import ImapConfig, ImapServer, Services, Settings
from mailserver.config.schema import AuthConfig, StorageConfig
from mailserver.imap import view
from tests.interop.wire import Wire

USERS = ("alice", "bob", "zoë")


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    return tmp_path / "mail"


@pytest.fixture
def server(mail: Path) -> Iterator[ImapServer]:
    config = ImapConfig(
        host="127.0.0.1", port=0, ssl_port=-1, mailbox_path=str(mail), users=dict.fromkeys(USERS, "secret")
    )
    with ImapServer(config) as server:
        yield server


@pytest.fixture
def alice(server: ImapServer) -> Iterator[Wire]:
    with Wire(server.port, "alice", "secret") as wire:
        yield wire


@pytest.fixture
def bob(server: ImapServer) -> Iterator[Wire]:
    with Wire(server.port, "bob", "secret") as wire:
        yield wire


def names(wire: Wire, command: str = 'LIST "" *') -> list[str]:
    found = [re.search(rb'"/" "?(.*?)"?\r\n', line) for line in wire(command) if b"Noselect" not in line]
    return [m[1].decode() for m in found if m]


def refused(wire: Wire, command: str) -> bytes:
    wire(command, fails=True)
    assert wire.completion.startswith(b"NO")
    return wire.completion


def test_ones_own_mailbox_below_the_prefix_is_meant_first(mail: Path, alice: Wire, bob: Wire) -> None:
    for folder in (".Other Users.alice.Work", ".Other Users.old"):
        for part in ("cur", "new", "tmp"):
            (mail / "bob" / folder / part).mkdir(parents=True)
    alice("CREATE Work")
    alice("CREATE Play")
    alice("SETACL Work bob lr")
    alice("SETACL Play bob lr")
    bob('SELECT "Other Users/alice/Work"')
    assert b"[READ-WRITE]" in bob.completion
    found = [name for name in names(bob) if name.startswith("Other")]
    assert found == ["Other Users/alice/Work", "Other Users/old", "Other Users/alice/Play"]
    bob('MYRIGHTS "Other Users/old"')
    refused(bob, 'CREATE "Other Users/new"')
    refused(bob, 'CREATE "Other Users/old"')
    bob('RENAME "Other Users/alice/Work" Mine')
    bob('SELECT "Other Users/alice/Work"')
    assert b"[READ-ONLY]" in bob.completion


def test_a_user_who_vanishes(mail: Path, alice: Wire, bob: Wire) -> None:
    alice("SETACL INBOX bob lrswite")
    alice.append("INBOX", b"Subject: x\r\n\r\nx\r\n")
    bob('SUBSCRIBE "Other Users/alice"')
    bob('SELECT "Other Users/alice"')
    shutil.rmtree(mail / "alice")
    assert names(bob, 'LIST "" "Other*"') == []
    assert "Other Users/alice" in names(bob, 'LSUB "" *')
    assert refused(bob, 'SELECT "Other Users/alice"').endswith(b"There is no such mailbox")
    refused(bob, b'APPEND "Other Users/alice" {4+}\r\na: b'.decode())
    assert not (mail / "alice").exists()


def test_looking_makes_nothing(mail: Path, bob: Wire) -> None:
    for name in ("nobody", "nobody/Work", "nobody/INBOX", "../bob", ".", "a/b/c", ""):
        for command in ("SELECT", "EXAMINE", "MYRIGHTS", "GETACL", "DELETE", "SUBSCRIBE", "GETQUOTAROOT", "CREATE"):
            refused(bob, f'{command} "Other Users/{name}"')
        refused(bob, f'STATUS "Other Users/{name}" (MESSAGES)')
        refused(bob, f'APPEND "Other Users/{name}" {{4+}}\r\na: b')
        refused(bob, f'RENAME Trash "Other Users/{name}"')
    assert [path.name for path in mail.iterdir()] == ["bob"]


def test_the_answers_tell_nothing(alice: Wire, bob: Wire) -> None:
    alice("CREATE Secret/Deep")
    alice("SETACL Secret bob wtep")  # none of the rights that tell of a mailbox
    there = ("Other Users/alice/Secret", "Other Users/alice/Secret/Deep", "Other Users/alice")
    not_there = ("Other Users/alice/Nothing", "Other Users/nobody", "Other Users/nobody/Secret")
    commands = ("SELECT %", "STATUS % (MESSAGES)", "MYRIGHTS %", "GETACL %", "SETACL % bob lr", "DELETEACL % bob")
    commands += ("LISTRIGHTS % bob", "DELETE %", "SUBSCRIBE %", "CREATE %/x", "RENAME % X", "GETQUOTAROOT %")
    for command in (*commands, "APPEND % {4+}\r\na: b"):
        said = {refused(bob, command.replace("%", f'"{name}"', 1).replace('"/x', '/x"')) for name in there + not_there}
        assert len(said) == 1, (command, said)


def test_a_list_edited_by_hand_is_obeyed_at_once(mail: Path, alice: Wire, bob: Wire) -> None:
    alice("CREATE Work")
    refused(bob, 'SELECT "Other Users/alice/Work"')
    file = mail / "alice" / ".Work" / "dovecot-acl"
    file.write_text("user=bob lr\n")
    bob('SELECT "Other Users/alice/Work"')
    assert b"[READ-ONLY]" in bob.completion
    assert names(bob, 'LIST "" "Other*"') == ["Other Users/alice/Work"]  # it was noticed
    file.write_text("user=bob lrs\n")
    bob('SELECT "Other Users/alice/Work"')
    assert b"[READ-WRITE]" in bob.completion
    file.write_text("user=bob\n")
    refused(bob, 'SELECT "Other Users/alice/Work"')
    assert names(bob, 'LIST "" "Other*"') == []
    file.write_text("user=bob lr\nnonsense\n")
    refused(bob, 'SELECT "Other Users/alice/Work"')
    alice("SELECT Work")
    assert b"[READ-WRITE]" in alice.completion
    assert b"[CORRUPTION]" in refused(alice, "SETACL Work bob lr")
    assert b"[CORRUPTION]" in refused(alice, "GETACL Work")


def test_a_list_that_cannot_be_read_hides_no_other_mailbox(mail: Path, alice: Wire, bob: Wire) -> None:
    for name in ("Work", "Play", "Mine"):
        alice(f"CREATE {name}")
        alice(f"SETACL {name} bob lr")
    alice("SETACL Mine owner lr")
    for name in ("Work", "Mine"):
        (mail / "alice" / f".{name}" / "dovecot-acl").unlink()
        (mail / "alice" / f".{name}" / "dovecot-acl").mkdir()
    assert names(bob, 'LIST "" "Other*"') == ["Other Users/alice/Play"]
    assert {"INBOX", "Mine", "Play", "Work"} <= set(names(alice))
    assert b"[UNAVAILABLE]" in refused(alice, "SELECT Mine")


def test_reserved_names_tell_nothing(tmp_path: Path) -> None:
    """Among nested directories the books of a Maildir are no names, where there is one."""
    users = tmp_path / "users"
    users.write_text("alice:{PLAIN}secret\nbob:{PLAIN}secret\n")
    storage = StorageConfig(mailbox_path=str(tmp_path / "mail"), durability="relaxed", layout="fs")
    services = Services(Settings(storage=storage, auth=AuthConfig(users_file=str(users))))
    with (
        ImapServer(ImapConfig(host="127.0.0.1", port=0, ssl_port=-1), services) as server,
        Wire(server.port, "alice", "secret") as alice,
        Wire(server.port, "bob", "secret") as bob,
    ):
        alice("CREATE Secret")
        for book in ("dovecot.mailbox.log", "maildirsize", "subscriptions", "courier"):
            (tmp_path / "mail/alice/Secret" / book).touch()
            there = ("alice/Secret/", "alice/Nothing/", "nobody/", "alice/")
            for command in ("SELECT %", "STATUS % (MESSAGES)", "CREATE %", "RENAME % x", "RENAME Trash %"):
                said = {refused(bob, command.replace("%", f'"Other Users/{name}{book}"')) for name in there}
                assert len(said) == 1, (command, book, said)
    services.authenticator.stop()
    services.close()


def test_names_in_all_scripts(server: ImapServer, bob: Wire) -> None:
    with Wire(server.port, '"zoë"', "secret") as owner:
        owner("ENABLE IMAP4rev2")
        owner('CREATE "Büro/Straße"')
        owner('SETACL "Büro/Straße" bob lr')
        owner('SETACL "Büro/Straße" "Zoë" lrx')
        (line,) = owner('GETACL "Büro/Straße"')
        assert line.startswith('* ACL "Büro/Straße" bob lr {4}\r\nzoë lrxa'.encode())
    assert names(bob, 'LIST "" "Other*"') == ["Other Users/zo&AOs-/B&APw-ro/Stra&AN8-e"]
    bob('SELECT "Other Users/zo&AOs-/B&APw-ro/Stra&AN8-e"')
    bob("ENABLE IMAP4rev2")
    listed = [line for line in bob('EXAMINE "Other Users/zoë/Büro/Straße"') if line.startswith(b"* LIST")]
    assert listed == ['* LIST () "/" "Other Users/zoë/Büro/Straße"\r\n'.encode()]
    bob('SUBSCRIBE "Other Users/zoë/Bu\u0308ro/Straße"')  # not normalized: the normalized one is meant
    assert names(bob, 'LIST (SUBSCRIBED) "" "Other*"') == ["Other Users/zoë/Büro/Straße"]
    bob('UNSUBSCRIBE "Other Users/zoë/Büro/Straße"')
    assert names(bob, 'LIST (SUBSCRIBED) "" "Other*"') == []


def test_what_is_beyond_reason_is_refused(alice: Wire) -> None:
    alice("SETACL INBOX " + "x" * 256 + " lr", fails=True)
    assert alice.completion.startswith(b"BAD")
    alice('SETACL INBOX "\x7f" lr', fails=True)
    assert alice.completion.startswith(b"BAD")
    alice(b"SETACL INBOX {1+}\r\n\xff lr", fails=True)
    assert alice.completion.startswith(b"BAD")


def test_a_list_has_an_end(mail: Path, alice: Wire) -> None:
    alice("SETACL INBOX u0 lr")
    file = mail / "alice" / "dovecot-acl"
    file.write_text("".join(f"user=u{n} lr\n" for n in range(1000)))
    assert b"[LIMIT]" in refused(alice, "SETACL INBOX one-more lr")
    alice("SETACL INBOX u7 lrs")
    assert "user=u7 lrs\n" in file.read_text()


def test_a_list_edited_by_hand_while_the_mailbox_is_selected(
    mail: Path, alice: Wire, bob: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_LOOK_SECONDS", 0.0)  # else it takes up to a second
    alice.append("INBOX", b"Subject: x\r\n\r\nx\r\n")
    alice("SETACL INBOX bob lrswite")
    bob('SELECT "Other Users/alice"')
    file = mail / "alice" / "dovecot-acl"
    file.write_text("user=bob lrs\n")
    assert [line for line in bob("NOOP") if b"PERMANENTFLAGS" in line] == [
        b"* OK [PERMANENTFLAGS (\\Seen)] Flags permitted\r\n"
    ]
    assert b"[NOPERM]" in refused(bob, "STORE 1 +FLAGS (\\Flagged)")
    bob("STORE 1 +FLAGS (\\Seen)")
    file.write_text("user=bob li\n")
    assert b"[NOPERM]" in refused(bob, "FETCH 1 FLAGS")
    bob("FETCH 1 FLAGS", fails=True)
    assert bob.completion.startswith(b"BAD")  # nothing is selected any more


def test_replace_wants_three_rights(alice: Wire, bob: Wire) -> None:
    octets = b"{11+}\r\na: b\r\n\r\nnew"
    alice.append("INBOX", b"Subject: x\r\n\r\nx\r\n")
    for given in ("lrte", "lrie", "lrit"):
        alice(f"SETACL INBOX bob {given}")
        bob('SELECT "Other Users/alice"')
        bob(b'REPLACE 1 "Other Users/alice" ' + octets, fails=True)
        assert bob.completion.startswith(b"NO [NOPERM]")
    alice("SETACL INBOX bob lrite")
    bob('SELECT "Other Users/alice"')
    assert b"* 1 EXPUNGE\r\n" in bob(b'REPLACE 1 "Other Users/alice" (\\Flagged) ' + octets)
    (line,) = bob("FETCH 1:* (FLAGS BODY[])")
    assert b"\\Flagged" not in line
    assert line.endswith(b"new)\r\n")
