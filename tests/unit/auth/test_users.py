"""The file of users: read, changed, kept as it was."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailserver.auth.names import BadName, NameRules
from mailserver.auth.users import StaticUsers, UserFile, UsersUnavailable, parse_line

TEXT = """\
# the users
alice:{PLAIN}a:1000:1000:Alice:/home/alice:/bin/sh:allow_nets=127.0.0.0/8,::1/128 userdb_mail=maildir:~/Mail nologin

Bob@Example.com:{SHA}x
carol:abc[13]:::::
dave:abc[34]:::::
../evil:{PLAIN}x:::::
:nobody
alice:{PLAIN}second:::::
"""


@pytest.fixture
def users(tmp_path: Path) -> UserFile:
    path = tmp_path / "users"
    path.write_text(TEXT)
    path.chmod(0o640)
    return UserFile(path)


def test_lookup(users: UserFile) -> None:
    alice = users.lookup("alice")
    assert alice is not None
    assert alice.password_field == "{PLAIN}a"
    assert alice.home == "/home/alice"
    assert alice.extra == {"allow_nets": "127.0.0.0/8,::1/128", "userdb_mail": "maildir:~/Mail", "nologin": ""}
    assert users.lookup("bob@example.com") is not None
    assert [record.name for record in users.all()] == ["alice", "bob@example.com", "carol", "dave"]
    assert users.lookup("carol").password_field == "{CRYPT}abc"  # type: ignore[union-attr]  # it is there
    assert users.lookup("dave").password_field == "{PLAIN-MD5}abc"  # type: ignore[union-attr]  # it is there
    assert users.lookup("../evil") is None
    assert users.sample_field() in ("{PLAIN}a", "{SHA}x", "{CRYPT}abc", "{PLAIN-MD5}abc")


def test_changes_are_seen(users: UserFile) -> None:
    assert users.lookup("erin") is None
    users.path.write_text("erin:{PLAIN}e\n")
    assert users.lookup("erin") is not None
    assert users.lookup("alice") is None
    users.path.unlink()
    with pytest.raises(UsersUnavailable, match=r"users: No such file .*as uid"):
        users.lookup("erin")
    users.path.write_text("erin:{PLAIN}e\n")
    assert users.lookup("erin") is not None


def test_add_change_delete_keep_the_rest(users: UserFile) -> None:
    users.add("Erin", "{PLAIN}e")
    users.set_password("alice", "{PLAIN}new")
    users.set_password("bob@example.com", "{PLAIN}b")
    users.delete("dave")
    text = users.path.read_text()
    assert (
        text
        == TEXT.replace("alice:{PLAIN}a:", "alice:{PLAIN}new:")
        .replace("Bob@Example.com:{SHA}x", "Bob@Example.com:{PLAIN}b:::::")
        .replace("dave:abc[34]:::::\n", "")
        .replace("alice:{PLAIN}second:", "alice:{PLAIN}new:")
        + "erin:{PLAIN}e:::::\n"
    )
    assert users.path.stat().st_mode & 0o777 == 0o640
    assert users.lookup("erin") is not None
    assert os.listdir(users.path.parent) == ["users"]


def test_errors(users: UserFile) -> None:
    before = users.path.read_text()
    with pytest.raises(KeyError):
        users.add("ALICE", "{PLAIN}x")
    with pytest.raises(KeyError):
        users.set_password("nobody", "{PLAIN}x")
    with pytest.raises(KeyError):
        users.delete("nobody")
    with pytest.raises(BadName):
        users.add("a/b", "{PLAIN}x")
    assert users.path.read_text() == before


def test_the_file_is_made(tmp_path: Path) -> None:
    users = UserFile(tmp_path / "users")
    users.add("a", "{PLAIN}x")
    assert users.lookup("a") is not None
    assert users.path.stat().st_mode & 0o777 == 0o600


def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    users = UserFile(tmp_path / "users")
    with ThreadPoolExecutor(8) as pool:
        for task in [pool.submit(users.add, f"u{n}", "{PLAIN}x") for n in range(40)]:
            task.result()
    assert len(users.all()) == 40


def test_octets_that_are_not_utf8_survive(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"# \xff\na:{PLAIN}\xff\n")
    users = UserFile(path)
    users.add("b", "{PLAIN}x")
    assert path.read_bytes() == b"# \xff\na:{PLAIN}\xff\nb:{PLAIN}x:::::\n"


@pytest.mark.parametrize("line", ["", "#x:y", ":x", "\n"])
def test_lines_without_a_user(line: str) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "a/../b",
        "..a",
        "a..b",
        "a\x00b",
        "a\nb",
        "a b",
        ".a",
        "~a",
        "a:b",
        "@x",
        "#a",
        "a" * 256,
        "a\\b",
        "a\u202eb",
        "\ud800",
        "a\x7f",
        "a\u0085b",
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(BadName):
        NameRules().canonical(name)


def test_one_spelling() -> None:
    assert NameRules().canonical("Bob+Tag@Example.COM") == "bob+tag@example.com"
    assert NameRules(lowercase=False).canonical("Bob") == "Bob"
    assert NameRules(default_domain="example.com").canonical("bob") == "bob@example.com"
    assert NameRules().canonical("u\u0308ber") == "\u00fcber"


def test_static_users() -> None:
    users = StaticUsers({"Alice": "secret"})
    assert users.lookup("alice").password_field == "{PLAIN}secret"  # type: ignore[union-attr]  # it is there
    assert users.sample_field() == "{PLAIN}secret"
    assert StaticUsers({}).sample_field() is None
