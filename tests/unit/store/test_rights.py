"""What a list of access rights grants: against a slow reference that reads Dovecot's rules word by word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.store.model import rights
from mailserver.store.model.flags import Flag
from mailserver.store.model.rights import ALL, Entry, Identifier, Rank, Who, granted
from mailserver.store.sharing import aclfile

_RIGHTS = st.frozensets(st.sampled_from(rights.LETTERS))
_NAMES = st.sampled_from(["alice", "bob", "staff", "boss", "a b", 'q"x', "-", "x=y", "ü"])
_IDENTIFIERS = st.one_of(
    st.builds(
        Identifier,
        st.sampled_from([Rank.ANYONE, Rank.AUTHENTICATED, Rank.OWNER]),
        st.just(""),
        st.booleans(),
    ),
    st.builds(Identifier, st.sampled_from([Rank.USER, Rank.GROUP, Rank.GROUP_OVERRIDE]), _NAMES, st.booleans()),
)
_ENTRIES = st.lists(st.builds(Entry, _IDENTIFIERS, _RIGHTS), max_size=8)
_WHO = st.builds(Who, st.sampled_from(["alice", "bob"]), st.frozensets(st.sampled_from(["staff", "boss"])))


def _reference(entries: list[Entry], who: Who, owner: str) -> set[str]:
    """For each single letter: who spoke of it last."""
    result = set()
    for letter in "lrswipkxtea":
        has = lacks = False
        for rank in sorted(Rank):
            if rank == Rank.OWNER and who.user == owner:
                has, lacks = True, False
            mine = []
            for entry in entries:
                i = entry.identifier
                speaks = {
                    Rank.ANYONE: True,
                    Rank.AUTHENTICATED: True,
                    Rank.GROUP: i.name in who.groups,
                    Rank.OWNER: who.user == owner,
                    Rank.USER: i.name == who.user,
                    Rank.GROUP_OVERRIDE: i.name in who.groups,
                }[i.rank]
                if i.rank == rank and speaks:
                    mine.append(entry)
            given_here = [e for e in mine if not e.identifier.negative]
            taken_here = [e for e in mine if e.identifier.negative]
            if given_here:
                has = any(letter in e.rights for e in given_here)
            if taken_here:
                lacks = any(letter in e.rights for e in taken_here)
        if has and not lacks:
            result.add(letter)
    return result


@given(_ENTRIES, _WHO)
def test_against_the_reference(entries: list[Entry], who: Who) -> None:
    assert granted(entries, who, "alice") == _reference(entries, who, "alice")


@given(_ENTRIES, _WHO)
def test_who_is_not_meant_changes_nothing(entries: list[Entry], who: Who) -> None:
    meant = [e for e in entries if e.identifier.means(who, "alice")]
    assert granted(meant, who, "alice") == granted(entries, who, "alice")
    if who.user == "alice" and granted(entries, who, "alice") != ALL:
        assert rights.may_limit_owner([e.identifier for e in entries], "alice")


@pytest.mark.parametrize(
    ("text", "owner", "other"),
    [
        # as Dovecot 2.3.19 answers MYRIGHTS for the owner user1, and for user2 of the groups g1 and g2
        ("anyone lr\nuser=user2 w\n", "*", "w"),
        ("anyone lrw\n-anyone w\n", "*", "lr"),
        ("anyone lrw\nuser=user2 lr\n-user=user2 r\n", "*", "l"),
        ("anyone lrw\n-user=user2 r\n", "*", "lw"),
        ("-anyone r\nuser=user2 lrw\n", "*", "lw"),
        ("-anyone lr\n-user=user2 w\nuser=user2 lrw\n", "*", "lr"),
        ("group=g1 lr\ngroup=g2 lw\n", "*", "lrw"),
        ("group=g1 lr\n-group=g2 r\n", "*", "l"),
        ("group=g1 lr\nuser=user2 lw\ngroup-override=g2 i\n", "i", "i"),
        ("authenticated lr\nanyone i\n", "*", "lr"),
        ("owner lr\nanyone lri\n", "lr", "lri"),
        ("user=user1 lr\nowner lrwi\nanyone lri\n", "lr", "lri"),
        ("user=user2 lr\nuser=user2 w\n", "*", "lrw"),
        ("user=user2 lr :foo bar\n", "*", "lr"),
        ("user=user2 :lookup read\n", "*", "lr"),
        ("user=user2 l:read\n", "*", "lr"),
        ("anyone\n", "*", ""),
        ("\n# comment\nanyone lr\n", "*", "lr"),
        ("user=USER2 lr\nanyone i\n", "*", "i"),
        ("anyone lr\r\n", "*", "lr"),
        ("user=user2  lr\n", "*", "lr"),
        ("user=user2 lr \n", "*", "lr"),
        ('"user=user2" lr\n', "*", "lr"),
        ("-owner x\nanyone lr\n", "lrwstipeka", "lr"),
        ("-user=user1 a\n", "lrwstipekx", ""),
        ("-group=g1 x\n", "*", ""),
        ("group-override=g1 lr\n", "lr", "lr"),
        ("group=g2 lw\n-group=g1 l\ngroup=g1 lr\n", "*", "rw"),
        ("owner\nuser=user2 lr\n", "", "lr"),
        ("-authenticated r\nanyone lr\n", "*", "l"),
        ("", "*", ""),
    ],
)
def test_as_dovecot(text: str, owner: str, other: str) -> None:
    entries = aclfile.parse(text).entries
    groups = frozenset({"g1", "g2"})
    assert granted(entries, Who("user1", groups), "user1") == (ALL if owner == "*" else frozenset(owner))
    assert granted(entries, Who("user2", groups), "user1") == frozenset(other)


def test_letters() -> None:
    assert rights.letters(frozenset("atxe")) == "xtea"
    assert rights.told(ALL) == "lrswipkxteacd"
    assert rights.told(frozenset("x")) == "xc"
    assert rights.told(frozenset("lt")) == "ltd"
    assert rights.parse("cd") == frozenset("kxte")
    for letter in "Lqz1+- ":
        with pytest.raises(rights.UnknownRight):
            rights.parse("l" + letter)


def test_change() -> None:
    assert rights.modified(frozenset("lr"), "+cw") == frozenset("lrkxw")
    assert rights.modified(frozenset("lrte"), "-dr") == frozenset("l")
    assert rights.modified(frozenset("lr"), "s") == frozenset("s")
    assert rights.modified(frozenset("lr"), "") == frozenset()


def test_flags_that_may_be_set() -> None:
    assert rights.settable(ALL) is rights.EVERYTHING
    assert rights.settable(frozenset("s")) == rights.Settable(Flag.SEEN, False)
    assert rights.settable(frozenset("t")) == rights.Settable(Flag.DELETED, False)
    assert rights.settable(frozenset("w")) == rights.Settable(Flag.ANSWERED | Flag.FLAGGED | Flag.DRAFT, True)
    assert not rights.settable(frozenset("lri"))


# -- the file


@given(_ENTRIES)
def test_a_file_says_what_was_written(entries: list[Entry]) -> None:
    made = aclfile.AccessList()
    expected: dict[Identifier, rights.Rights] = {}
    for entry in entries:
        made = made.with_rights(entry.identifier, entry.rights)
        expected[entry.identifier] = entry.rights
    read = aclfile.parse(str(made))
    assert read == made
    assert not read.bad
    assert {e.identifier: e.rights for e in read.entries} == expected


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=30)), _IDENTIFIERS, _RIGHTS)
def test_nothing_is_lost(lines: list[str], identifier: Identifier, given_rights: rights.Rights) -> None:
    text = "".join(line + "\n" for line in lines)
    read = aclfile.parse(text)
    assert str(read) == text
    changed = read.with_rights(identifier, given_rights)
    kept = [x.text for x in read.lines if x.entry is None or x.entry.identifier != identifier]
    assert [x.text for x in changed.lines if x.entry is None or x.entry.identifier != identifier] == kept
    assert changed.rights_of(identifier) == given_rights
    assert changed.without(identifier) == read.without(identifier)
    assert changed.bad == read.bad


def test_lines_that_are_not_understood() -> None:
    for line in ("bogus", "user=a lrQ", "user=a lcd", "anyone=foo lr", "user= lr", "user=a lr x", '"user=a lr', "-"):
        read = aclfile.parse(f"anyone lr\n{line}\n")
        assert read.bad == [line]
        assert [e.rights for e in read.entries] == [frozenset("lr")]


def test_rights_with_names_stay() -> None:
    read = aclfile.parse("# shared by the office\nuser=bob lr :foo read bar\nowner a\n")
    assert str(read.with_rights(Identifier(Rank.USER, "bob"), frozenset("w"))) == (
        "# shared by the office\nuser=bob w :foo bar\nowner a\n"
    )


def test_blanks_are_quoted() -> None:
    made = aclfile.AccessList().with_rights(Identifier(Rank.USER, 'joe "x" \\ user', True), frozenset("lr"))
    assert str(made) == '"-user=joe \\"x\\" \\\\ user" lr\n'
    assert aclfile.parse(str(made)) == made
