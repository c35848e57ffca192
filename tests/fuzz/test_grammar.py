"""Whatever a command says: a value, BadSyntax or BadCharset, and nothing else. FUZZ_N: how many inputs."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.imap.framer import Literal
from mailserver.imap.grammar import (
    anystate,
    append,
    compress,
    copy,
    expunge,
    fetch,
    flags,
    listing,
    mailbox,
    nonauth,
    quota,
    search,
    sort,
    syntax,
)
from mailserver.imap.grammar.cursor import BadCharset, BadSyntax, Cursor

N = int(os.environ.get("FUZZ_N", "3000"))
PARSERS = [
    *(anystate.nothing, anystate.identify, anystate.enable, nonauth.login, nonauth.authenticate),
    *(mailbox.one, mailbox.select, mailbox.examine, mailbox.create, mailbox.rename, mailbox.status),
    *(listing.listing, listing.lsub, append.append, append.replace, append.append_head, append.uid_replace_head),
    *(copy.copy, expunge.uid_expunge, fetch.fetch, fetch.uid_fetch, flags.store, search.search, sort.sort, sort.thread),
    *(quota.getquota, quota.getquotaroot, quota.setquota, compress.compress, syntax.head),
]
WORDS = (
    b' ( ) [ ] < > " \\ * % $ 1 0 1:* 4,7:9 99999999999 NIL INBOX "a b" "\\\\" \\Seen \\Foo $Junk +FLAGS FLAGS.SILENT'
    b" FLAGS UID ALL FAST BODY BODY.PEEK[ BINARY[ HEADER HEADER.FIELDS HEADER.FIELDS.NOT TEXT MIME 1.2. <0.5> RFC822"
    b" CHANGEDSINCE VANISHED UNCHANGEDSINCE CONDSTORE QRESYNC USE STATUS MESSAGES RETURN SUBSCRIBED RECURSIVEMATCH "
    b" CHARSET"
    b' UTF-8 X-Y NOT OR SEEN FROM SINCE 1-Feb-2026 "1-Feb-2026" MODSEQ KEYWORD OLDER REVERSE DATE REFERENCES UTF8'
    b' "01-Jan-1970 00:00:00 +0000" STORAGE = AGEAYg== \xff \r \n \0 \0 ~ { } + PREVIEW (LAZY) a.b'
).split(b" ")
LITERALS = [Literal(3, False, b"abc"), Literal(0, True, b""), Literal(9, False, None), Literal(2, False, b"\r\n")]


def said(parser, data: bytes, rng: random.Random) -> str:
    literals = [rng.choice(LITERALS) for _ in range(data.count(b"\0"))]
    try:
        return repr(parser(Cursor(data, literals)))
    except BadSyntax as bad:
        return bad.text
    except BadCharset as bad:
        return bad.charset


def attempt(parser, data: bytes, rng: random.Random) -> None:
    text = said(parser, data, rng)
    assert text.isprintable()


def test_words_of_the_grammar_in_any_order():
    rng = random.Random(int(os.environ.get("FUZZ_SEED", "1")))
    for n in range(N):
        words = rng.choices(WORDS, k=rng.randrange(0, 14))
        data = b" " + rng.choice((b" ", b" ", b"")).join(words)
        attempt(PARSERS[n % len(PARSERS)], data, rng)


VALID = [
    (fetch.uid_fetch, b" 1:* (FLAGS BODY.PEEK[1.HEADER.FIELDS (From To)]<0.5>) (CHANGEDSINCE 5 VANISHED)"),
    (flags.store, b" 1 (UNCHANGEDSINCE 5) +FLAGS.SILENT (\\Seen $x)"),
    (search.search, b' RETURN (MIN) CHARSET UTF-8 OR (FROM "x" SINCE 1-Feb-2026) NOT UID 1:*'),
    (listing.listing, b' (SUBSCRIBED) "" ("a" %) RETURN (STATUS (MESSAGES))'),
    (mailbox.select, b" x (QRESYNC (1 2 3:4 (1:2 3:4)))"),
    (append.append, b' x (\\Seen) "01-Jan-1970 00:00:00 +0000" \0'),
    (sort.sort, b" (REVERSE DATE) UTF-8 ALL"),
]


@pytest.mark.parametrize(("parser", "line"), VALID)
def test_mutations(parser, line):
    rng = random.Random(3)
    for _ in range(max(200, N // 10)):
        data = bytearray(line)
        for _ in range(rng.randrange(1, 4)):
            where = rng.randrange(len(data))
            if rng.random() < 0.5:
                data[where] = rng.randrange(256)
            else:
                del data[where]
        attempt(parser, bytes(data), rng)


@settings(max_examples=min(N, 300), deadline=None)
@given(st.binary(max_size=60), st.sampled_from(PARSERS))
def test_any_octets(data, parser):
    attempt(parser, b" " + data, random.Random(4))
