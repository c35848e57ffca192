"""Every family but FETCH and SEARCH: what is sent, and the value it becomes (None: BAD)."""

from __future__ import annotations

import pytest

from mailserver.imap.framer import Literal
from mailserver.imap.grammar import (
    acl,
    anystate,
    append,
    compress,
    copy,
    expunge,
    flags,
    idle,
    listing,
    mailbox,
    nonauth,
    quota,
    sort,
)
from mailserver.imap.grammar.cursor import BadSyntax, Cursor
from mailserver.store.model.search import All, NumberSet
from tests.unit.imap.feeding import parse


def uids(*ranges):
    return NumberSet(tuple(ranges), True)


def seqs(*ranges):
    return NumberSet(tuple(ranges), False)


NONE = frozenset()
HELLO = Literal(5, False, b"hello")

CASES = [
    # anystate
    ("NOOP", anystate.nothing, b"", anystate.NoArguments()),
    ("NOOP", anystate.nothing, b"  ", anystate.NoArguments()),
    ("NOOP", anystate.nothing, b" x", None),
    ("ID", anystate.identify, b" NIL", anystate.Id(None)),
    ("ID", anystate.identify, b" ()", anystate.Id(())),
    ("ID", anystate.identify, b' ("Name" "x" "os" NIL)', anystate.Id(((b"name", b"x"), (b"os", None)))),
    ("ID", anystate.identify, b' ("name" {5}\r\nhello)', anystate.Id(((b"name", b"hello"),))),
    ("ID", anystate.identify, b' ("name")', None),
    ("ID", anystate.identify, b"", None),
    ("ENABLE", anystate.enable, b" condstore UTF8=ACCEPT", anystate.Enable(("CONDSTORE", "UTF8=ACCEPT"))),
    ("ENABLE", anystate.enable, b"", None),
    ("ENABLE", anystate.enable, b" ", None),
    # nonauth
    ("LOGIN", nonauth.login, b" a b", nonauth.Login(b"a", b"b")),
    ("LOGIN", nonauth.login, b' "a b" ""', nonauth.Login(b"a b", b"")),
    ("LOGIN", nonauth.login, b" {5}\r\nhello {5+}\r\nhello", nonauth.Login(b"hello", b"hello")),
    ("LOGIN", nonauth.login, b" a", None),
    ("LOGIN", nonauth.login, b" a ", None),
    ("LOGIN", nonauth.login, b"  a", None),
    ("LOGIN", nonauth.login, b" a b c", None),
    ("AUTHENTICATE", nonauth.authenticate, b" plain", nonauth.Authenticate("PLAIN", None)),
    ("AUTHENTICATE", nonauth.authenticate, b" PLAIN =", nonauth.Authenticate("PLAIN", b"=")),
    ("AUTHENTICATE", nonauth.authenticate, b" PLAIN AGEAYg==", nonauth.Authenticate("PLAIN", b"AGEAYg==")),
    ("AUTHENTICATE", nonauth.authenticate, b" PLAIN !!", None),
    ("AUTHENTICATE", nonauth.authenticate, b"", None),
    # mailbox
    ("DELETE", mailbox.one, b" a/b", mailbox.Mailbox(b"a/b")),
    ("DELETE", mailbox.one, b' "a b"', mailbox.Mailbox(b"a b")),
    ("DELETE", mailbox.one, b" a b", None),
    ("DELETE", mailbox.one, b"", None),
    ("SELECT", mailbox.select, b" inbox", mailbox.Select(b"INBOX", False)),
    ("EXAMINE", mailbox.examine, b" x", mailbox.Select(b"x", True)),
    ("SELECT", mailbox.select, b" x (CONDSTORE)", mailbox.Select(b"x", False, True)),
    (
        "SELECT",
        mailbox.select,
        b" x (qresync (67890007 20050715194045000 41,43:211 (1:2 41,43)))",
        mailbox.Select(
            b"x",
            False,
            True,
            mailbox.QResync(
                67890007, 20050715194045000, uids((41, 41), (43, 211)), (seqs((1, 2)), uids((41, 41), (43, 43)))
            ),
        ),
    ),
    (
        "SELECT",
        mailbox.select,
        b" x (QRESYNC (1 0))",
        mailbox.Select(b"x", False, True, mailbox.QResync(1, 0, None, None)),
    ),
    (
        "SELECT",
        mailbox.select,
        b" x (QRESYNC (1 2 (1 1)) CONDSTORE)",
        mailbox.Select(b"x", False, True, mailbox.QResync(1, 2, None, (seqs((1, 1)), uids((1, 1))))),
    ),
    ("SELECT", mailbox.select, b" x (QRESYNC (1 2 1:*))", None),
    ("SELECT", mailbox.select, b" x (QRESYNC (1 2 $))", None),
    ("SELECT", mailbox.select, b" x (FOO)", None),
    ("SELECT", mailbox.select, b" x ()", None),
    ("CREATE", mailbox.create, b" x", mailbox.Create(b"x")),
    ("CREATE", mailbox.create, b" x (USE (\\Sent \\Junk))", mailbox.Create(b"x", ("\\Sent", "\\Junk"))),
    ("CREATE", mailbox.create, b" x (USE ())", mailbox.Create(b"x")),
    ("CREATE", mailbox.create, b" x (USE (Sent))", None),
    ("CREATE", mailbox.create, b" x (FOO)", None),
    ("RENAME", mailbox.rename, b" a INBOX", mailbox.Rename(b"a", b"INBOX")),
    ("RENAME", mailbox.rename, b" a", None),
    ("STATUS", mailbox.status, b" x (messages UIDNEXT)", mailbox.Status(b"x", ("MESSAGES", "UIDNEXT"))),
    ("STATUS", mailbox.status, b" x (MESSAGES MESSAGES)", mailbox.Status(b"x", ("MESSAGES",))),
    ("STATUS", mailbox.status, b" x MESSAGES", mailbox.Status(b"x", ("MESSAGES",))),
    ("STATUS", mailbox.status, b" x ()", None),
    ("STATUS", mailbox.status, b" x (FOO)", None),
    ("STATUS", mailbox.status, b" x", None),
    # listing
    ("LIST", listing.listing, b' "" *', listing.List(b"", (b"*",))),
    ("LIST", listing.listing, b' "" ""', listing.List(b"", (b"",))),
    ("LIST", listing.listing, b' "" "a b%"', listing.List(b"", (b"a b%",))),
    ("LIST", listing.listing, b' () "" %', listing.List(b"", (b"%",), True)),
    ("LIST", listing.listing, b' "" (INBOX "Dr*")', listing.List(b"", (b"INBOX", b"Dr*"), True)),
    (
        "LIST",
        listing.listing,
        b' (subscribed RECURSIVEMATCH) "" * RETURN (CHILDREN STATUS (MESSAGES UNSEEN) special-use)',
        listing.List(
            b"",
            (b"*",),
            True,
            frozenset({"SUBSCRIBED", "RECURSIVEMATCH"}),
            frozenset({"CHILDREN", "STATUS", "SPECIAL-USE"}),
            ("MESSAGES", "UNSEEN"),
        ),
    ),
    ("LIST", listing.listing, b' "" * RETURN ()', listing.List(b"", (b"*",), True)),
    ("LIST", listing.listing, b' (RECURSIVEMATCH) "" *', None),
    ("LIST", listing.listing, b' (FOO) "" *', None),
    ("LIST", listing.listing, b' "" * RETURN (FOO)', None),
    ("LIST", listing.listing, b' "" * FOO', None),
    ("LIST", listing.listing, b' ""', None),
    ("LIST", listing.listing, b' "" ()', None),
    ("LSUB", listing.lsub, b' "" "*"', listing.Lsub(b"", b"*")),
    ("LSUB", listing.lsub, b" #news. comp.%", listing.Lsub(b"#news.", b"comp.%")),
    # append
    (
        "APPEND",
        append.append,
        b" inbox {5}\r\nhello",
        append.Append(b"INBOX", (append.AppendMessage(0, NONE, None, False, HELLO),)),
    ),
    (
        "APPEND",
        append.append,
        b' {5}\r\nhello (\\Seen $x) "01-Jan-1970 00:00:01 +0000" {5+}\r\nhello',
        append.Append(b"hello", (append.AppendMessage(8, frozenset({"$x"}), 1, False, HELLO),)),
    ),
    (
        "APPEND",
        append.append,
        b" x {5}\r\nhello (\\Seen) ~{5+}\r\nhello UTF8 (~{5}\r\nhello)",
        append.Append(
            b"x",
            (
                append.AppendMessage(0, NONE, None, False, HELLO),
                append.AppendMessage(8, NONE, None, False, Literal(5, True, b"hello")),
                append.AppendMessage(0, NONE, None, True, Literal(5, True, b"hello")),
            ),
        ),
    ),
    (
        "APPEND",
        append.append,
        b" x \\Seen {5}\r\nhello ",
        append.Append(b"x", (append.AppendMessage(8, NONE, None, False, HELLO),)),
    ),
    ("APPEND", append.append, b" x {5}\r\nhellox", None),
    ("APPEND", append.append, b" x UTF8 (~{5}\r\nhello", None),
    ("APPEND", append.append, b' x "hello"', None),
    ("APPEND", append.append, b" x", None),
    ("APPEND", append.append, b" x FOO {5}\r\nhello", None),
    (
        "UID REPLACE",
        append.uid_replace,
        b" 7 Drafts (\\Draft) {5}\r\nhello",
        append.Replace(uids((7, 7)), b"Drafts", append.AppendMessage(16, NONE, None, False, HELLO)),
    ),
    (
        "REPLACE",
        append.replace,
        b" * x {5}\r\nhello",
        append.Replace(seqs((None, None)), b"x", append.AppendMessage(0, NONE, None, False, HELLO)),
    ),
    ("REPLACE", append.replace, b" 1:2 x {5}\r\nhello", None),
    ("REPLACE", append.replace, b" 1 x {5}\r\nhello {5}\r\nhello", None),
    # copy, expunge, flags
    ("COPY", copy.copy, b" 1:3 x", copy.Copy(seqs((1, 3)), b"x")),
    ("UID MOVE", copy.uid_copy, b' 475 "Trash"', copy.Copy(uids((475, 475)), b"Trash")),
    ("UID COPY", copy.uid_copy, b" $ x", copy.Copy(NumberSet((), True, True), b"x")),
    ("COPY", copy.copy, b" 1", None),
    ("COPY", copy.copy, b" x 1", None),
    ("UID EXPUNGE", expunge.uid_expunge, b" 1:*", expunge.UidExpunge(uids((1, None)))),
    ("UID EXPUNGE", expunge.uid_expunge, b"", None),
    (
        "STORE",
        flags.store,
        b" 1 FLAGS ()",
        flags.StoreFlags(seqs((1, 1)), flags.StoreOp.REPLACE, False, 0, NONE),
    ),
    (
        "UID STORE",
        flags.uid_store,
        b" 1:2 +FLAGS.SILENT (\\Seen $x)",
        flags.StoreFlags(uids((1, 2)), flags.StoreOp.ADD, True, 8, frozenset({"$x"})),
    ),
    (
        "STORE",
        flags.store,
        b" 1 -flags \\Seen \\Deleted ",
        flags.StoreFlags(seqs((1, 1)), flags.StoreOp.REMOVE, False, 12, NONE),
    ),
    (
        "STORE",
        flags.store,
        b" 1 (UNCHANGEDSINCE 12121230045) +FLAGS (\\Seen)",
        flags.StoreFlags(seqs((1, 1)), flags.StoreOp.ADD, False, 8, NONE, 12121230045),
    ),
    ("STORE", flags.store, b" 1 +FLAGS", None),
    ("STORE", flags.store, b" 1 +FLAGS ", None),
    ("STORE", flags.store, b" 1 FLAG (\\Seen)", None),
    ("STORE", flags.store, b" 1 (FOO 1) +FLAGS (\\Seen)", None),
    ("STORE", flags.store, b" 1 +FLAGS (\\Seen) x", None),
    # quota, compress
    ("GETQUOTA", quota.getquota, b' ""', quota.GetQuota(b"")),
    ("GETQUOTAROOT", quota.getquotaroot, b" inbox", quota.GetQuotaRoot(b"INBOX")),
    ("SETQUOTA", quota.setquota, b' "" (storage 512)', quota.SetQuota(b"", (("STORAGE", 512),))),
    ("SETQUOTA", quota.setquota, b" x ()", quota.SetQuota(b"x", ())),
    ("SETQUOTA", quota.setquota, b" x (STORAGE)", None),
    # acl
    ("SETACL", acl.setacl, b" inbox bob lrs", acl.SetAcl(b"INBOX", b"bob", b"lrs")),
    ("SETACL", acl.setacl, b' "a b" {5}\r\nhello ""', acl.SetAcl(b"a b", b"hello", b"")),
    ("SETACL", acl.setacl, b" x -$staff +cd", acl.SetAcl(b"x", b"-$staff", b"+cd")),
    ("SETACL", acl.setacl, b" x bob", None),
    ("SETACL", acl.setacl, b" x bob lr s", None),
    ("SETACL", acl.setacl, b"", None),
    ("DELETEACL", acl.of_identifier, b" x bob", acl.OfIdentifier(b"x", b"bob")),
    ("DELETEACL", acl.of_identifier, b" x", None),
    ("LISTRIGHTS", acl.of_identifier, b' x "joe user"', acl.OfIdentifier(b"x", b"joe user")),
    ("LISTRIGHTS", acl.of_identifier, b" x a b", None),
    ("GETACL", acl.of_mailbox, b" inbox", acl.OfMailbox(b"INBOX")),
    ("MYRIGHTS", acl.of_mailbox, b' "x y"', acl.OfMailbox(b"x y")),
    ("MYRIGHTS", acl.of_mailbox, b" x y", None),
    ("COMPRESS", compress.compress, b" deflate", compress.Compress("DEFLATE")),
    ("COMPRESS", compress.compress, b"", None),
    # sort, thread
    (
        "SORT",
        sort.sort,
        b" (REVERSE date SUBJECT) UTF-8 ALL",
        sort.Sort((sort.SortKey("DATE", True), sort.SortKey("SUBJECT")), sort.Criteria(All(), "UTF-8"), False),
    ),
    (
        "UID SORT",
        sort.uid_sort,
        b" RETURN (COUNT) (ARRIVAL) US-ASCII ALL",
        sort.Sort(
            (sort.SortKey("ARRIVAL"),), sort.Criteria(All(), "US-ASCII"), True, sort.Returns(frozenset({"COUNT"}))
        ),
    ),
    ("SORT", sort.sort, b" () UTF-8 ALL", None),
    ("SORT", sort.sort, b" (FOO) UTF-8 ALL", None),
    ("SORT", sort.sort, b" (DATE) UTF-8", None),
    (
        "UID THREAD",
        sort.uid_thread,
        b" references UTF-8 ALL",
        sort.Thread("REFERENCES", sort.Criteria(All(), "UTF-8"), True),
    ),
    ("THREAD", sort.thread, b" REFERENCES", None),
]


@pytest.mark.parametrize(("name", "parser", "arguments", "value"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_command(name, parser, arguments, value):
    if value is None:
        with pytest.raises(BadSyntax):
            parse(arguments, parser, name)
    else:
        assert parse(arguments, parser, name) == value


@pytest.mark.parametrize(
    ("head", "literals", "parser", "value"),
    [
        (b" ", (), append.append_head, append.AppendHead(None)),
        (b" inbox ", (), append.append_head, append.AppendHead(b"INBOX")),
        (b" \0 (\\Seen a) ", (HELLO,), append.append_head, append.AppendHead(b"hello", 0, 8, frozenset({"a"}))),
        (b" x \0 (\\Draft) ", (HELLO,), append.append_head, append.AppendHead(b"x", 1, 16)),
        (b" x UTF8 (", (), append.append_head, append.AppendHead(b"x", utf8=True)),
        (b' x "01-Jan-1970 00:00:01 +0000" ', (), append.append_head, append.AppendHead(b"x", internaldate=1)),
        (b" 3 x ", (), append.replace_head, append.AppendHead(b"x", target=seqs((3, 3)))),
        (b" 3 ", (), append.uid_replace_head, append.AppendHead(None, target=uids((3, 3)))),
        (b" 3 x \0 ", (HELLO,), append.replace_head, None),
        (b" x", (), append.append_head, None),
        (b" x y ", (), append.append_head, None),
        (b"", (), append.append_head, None),
        (b" x (\\Seen)", (), append.append_head, None),
    ],
)
def test_what_stands_before_a_literal(head, literals, parser, value):
    if value is None:
        with pytest.raises(BadSyntax):
            parser(Cursor(head, literals))
    else:
        assert parser(Cursor(head, literals)) == value


def test_secrets_are_not_shown():
    assert "secret" not in repr(nonauth.Login(b"a", b"secret"))
    assert "secret" not in repr(nonauth.Authenticate("PLAIN", b"secret"))


@pytest.mark.parametrize(("line", "done"), [(b"DONE", True), (b"done ", True), (b"DONE x", False), (b"", False)])
def test_done(line, done):
    assert idle.is_done(line) is done
