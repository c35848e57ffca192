"""From address to place: users, domains, details, aliases, lists, catch-all, postmaster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mailserver.auth.names import NameRules
from mailserver.auth.service import Authenticator, AuthRules
from mailserver.auth.users import StaticUsers, UserFile
from mailserver.delivery.aliases import Aliases, parse
from mailserver.delivery.router import Router, Rules
from mailserver.delivery.target import Delivery, Envelope, Recipient, Refused
from mailserver.mail import addrspec

USERS = {"alice": "x", "bob": "x", "carol@two.example": "x", "dave+real": "x"}


class Nowhere:
    """A target that takes nothing."""

    def start(self, envelope: Envelope) -> Delivery:
        raise AssertionError


def router(
    tmp_path: Path,
    aliases: str = "",
    *,
    users: Mapping[str, str] = USERS,
    queue: bool = True,
    default_domain: str = "",
    domains: tuple[str, ...] = ("one.example", "two.example"),
    **rules: str,
) -> Router:
    names = NameRules(default_domain=default_domain)
    source = StaticUsers(users, names)
    path = tmp_path / "aliases"
    path.write_text(aliases)
    return Router(
        Rules("mx.one.example", domains, **rules),
        Authenticator(source, AuthRules(names=names)),
        Nowhere(),
        queue=Nowhere() if queue else None,
        aliases=Aliases(str(path)),
        first_user=source.first,
    )


def places(found: Router, address: str, *, may_relay: bool = False) -> list[str]:
    try:
        return sorted(r.user or r.address for r in found.route(addrspec.parse(address), may_relay=may_relay))
    except Refused as refused:
        return [str(refused.status.code), refused.status.enhanced]


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("alice@one.example", ["alice"]),
        ("ALICE@Two.Example", ["alice"]),
        ("alice", ["alice"]),
        ("alice@localhost", ["alice"]),
        ("alice@mx.one.example", ["alice"]),
        ("alice+x+y@one.example", ["alice"]),
        ("+x@one.example", ["550", "5.1.1"]),
        ("dave+real@one.example", ["dave+real"]),
        ("carol@two.example", ["carol@two.example"]),
        ("carol+x@two.example", ["carol@two.example"]),
        ("carol@one.example", ["550", "5.1.1"]),
        ("nobody@one.example", ["550", "5.1.1"]),
        ('"carol@two.example"@one.example', ["550", "5.1.1"]),
        ("alice@three.example", ["550", "5.7.1"]),
        ("alice@sub.one.example", ["550", "5.7.1"]),
        ("Postmaster@one.example", ["alice"]),
        ("abuse@two.example", ["alice"]),
        ("postmaster", ["alice"]),
    ],
)
def test_users(tmp_path: Path, address: str, wanted: list[str]) -> None:
    assert places(router(tmp_path), address) == wanted


def test_elsewhere(tmp_path: Path) -> None:
    assert places(router(tmp_path), "x@far.example", may_relay=True) == ["x@far.example"]
    assert places(router(tmp_path, queue=False), "x@far.example", may_relay=True) == ["550", "5.7.1"]


def test_default_domain(tmp_path: Path) -> None:
    found = router(tmp_path, users={"alice": "x", "alice@two.example": "x"}, default_domain="one.example")
    assert places(found, "alice@one.example") == ["alice@one.example"]
    assert places(found, "alice@two.example") == ["alice@two.example"]
    assert places(found, "alice@localhost") == ["alice@one.example"]
    only = router(tmp_path, users={"alice": "x"}, default_domain="one.example")
    assert places(only, "alice@two.example") == ["550", "5.1.1"]


def test_no_domains_set(tmp_path: Path) -> None:
    found = router(tmp_path, domains=())
    assert places(found, "alice@localhost") == ["alice"]
    assert places(found, "carol@two.example") == ["carol@two.example"]
    assert places(found, "alice@two.example") == ["550", "5.7.1"]


def test_international_domain(tmp_path: Path) -> None:
    found = router(tmp_path, domains=("bücher.example",))
    assert places(found, "alice@BÜCHER.example") == ["alice"]
    assert places(found, "alice@xn--bcher-kva.example") == ["alice"]


ALIASES = """
# people
info: alice, bob   # two of them
boss@one.example: bob
staff: alice,
    bob, carol@two.example, helper@far.example
alice: alice, archive@far.example
loop-a: loop-b
loop-b: loop-a, bob
self: self@one.example
@two.example: bob
to-detail: alice+list
nobody: nowhere
"""


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("info@one.example", ["alice", "archive@far.example", "bob"]),
        ("INFO+x@two.example", ["alice", "archive@far.example", "bob"]),
        ("boss@one.example", ["bob"]),
        ("boss@two.example", ["bob"]),  # by the catch-all
        ("staff@one.example", ["alice", "archive@far.example", "bob", "carol@two.example", "helper@far.example"]),
        ("alice@one.example", ["alice", "archive@far.example"]),
        ("loop-a@one.example", ["bob"]),
        ("self@one.example", ["550", "5.1.1"]),
        ("who@two.example", ["bob"]),
        ("who@one.example", ["550", "5.1.1"]),
        ("postmaster@two.example", ["alice", "archive@far.example"]),
        ("to-detail@one.example", ["alice", "archive@far.example"]),
        ("nobody@one.example", ["550", "5.1.1"]),
    ],
)
def test_aliases(tmp_path: Path, address: str, wanted: list[str]) -> None:
    assert places(router(tmp_path, ALIASES), address) == wanted


def test_alias_to_elsewhere_needs_a_queue(tmp_path: Path) -> None:
    assert places(router(tmp_path, ALIASES, queue=False), "staff@one.example") == ["alice", "bob", "carol@two.example"]


def test_postmaster_set(tmp_path: Path) -> None:
    assert places(router(tmp_path, postmaster="bob"), "postmaster@one.example") == ["bob"]
    assert places(router(tmp_path, postmaster="x@far.example"), "abuse@one.example") == ["x@far.example"]
    assert places(router(tmp_path, "postmaster: bob"), "postmaster@one.example") == ["bob"]


def test_owns(tmp_path: Path) -> None:
    found = router(tmp_path, ALIASES)
    for address in ("alice@one.example", "alice+x@two.example", "info@one.example", "staff@two.example"):
        assert found.owns("alice", addrspec.parse(address))
    for address in ("bob@one.example", "alice@far.example", "boss@one.example"):
        assert not found.owns("alice", addrspec.parse(address))


def test_aliases_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x: one\n")
    table = Aliases(str(path))
    assert table.lookup("X") == ("one",)
    path.write_text("x: one, two\n")
    assert table.lookup("x") == ("one", "two")
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        table.lookup("x")


def test_bad_lines_are_left_out(log_lines: list[str]) -> None:
    assert parse('a: b\nno colon\n: x\nc:\nd: |prog\ne: /file\nf: :include:/x\n"g": "h"\n') == {
        "a": ("b",),
        "g": ("h",),
    }
    assert sum("bad-alias" in line for line in log_lines) == 6


def test_lookup_that_fails_is_temporary(tmp_path: Path) -> None:
    users = UserFile(tmp_path / "missing")
    found = Router(Rules("mx", ("one.example",)), Authenticator(users), Nowhere(), first_user=users.first)
    assert places(found, "alice@one.example") == ["451", "4.3.0"]
    assert places(found, "postmaster@one.example") == ["451", "4.3.0"]


def test_parameters_and_given_address_go_along(tmp_path: Path) -> None:
    (found,) = router(tmp_path).route(addrspec.parse("alice+x@one.example"), notify="NEVER", orcpt="rfc822;a@b")
    assert found == Recipient("alice+x@one.example", "alice", "alice+x@one.example", "NEVER", "rfc822;a@b")
