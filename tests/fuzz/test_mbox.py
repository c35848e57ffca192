"""The mbox format beside a slow and simple reader, and beside a list in memory; ``FUZZ_N`` is how often."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailserver.mail.lines import to_crlf
from mailserver.store.formats.mbox import fromline, parser, quoting
from mailserver.store.formats.mbox.entry import Box, Marks
from mailserver.store.formats.mbox.folder import MboxFolder
from mailserver.store.formats.mbox.parser import Numbering, Window
from tests.mboxes import addition, check, contents, simple, stored
from tests.messages import corpus

_COUNT = int(os.environ.get("FUZZ_N", "300"))
_SETTINGS = settings(
    max_examples=_COUNT, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
_PIECES = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"\r",
        b" ",
        b">",
        b">From ",
        b"From ",
        b"From me\n",
        b"\nFrom a@b Mon Jan  1 00:00:00 2024\n",
        b"From a@b Tue Feb 29 23:59 EST 2000 remote from x\n",
        b"Subject: x\n",
        b"Status: RO\n",
        b"x-status : F\n",
        b"X-UID: 3\n",
        b"X-Keywords: a\n b\n",
        b"X-IMAPbase: 1 0000000009\n",
        b"\nContent-Length: 5\n",
        b"X",
        b"\0",
        b"\xff",
        b"a: b\r\n\r\n",
    ]
)
_OCTETS = st.lists(_PIECES | st.binary(max_size=3), max_size=14).map(b"".join)


def _message(octets: bytes) -> bytes:
    return to_crlf(octets)


_MESSAGES = _OCTETS.map(_message)
_MARKS = st.builds(
    Marks,
    flags=st.integers(0, 31),
    keywords=st.frozensets(st.sampled_from(["work", "home", "$Label1", "x" * 70]), max_size=3),
    recent=st.booleans(),
).map(lambda marks: marks._replace(recent=marks.recent and not marks.flags & 8))


@given(_OCTETS)
@_SETTINGS
def test_any_file(file: bytes) -> None:
    """As the simple reader finds it (but for Content-Length), each octet in one place."""
    file = file.replace(b"Content-Length", b"Content-Lengt")
    window = Window(lambda offset, count: file[offset : offset + count], len(file))
    start = 0 if window.from_line(0) else parser.next_from(window, 0, len(file))
    if start < 0:
        assert simple(file) == []
        return
    found = [entry for entry, _ in parser.parse(window, start, Numbering())]
    assert len(found) == len(simple(file))
    at = start
    for entry in found:
        assert at == entry.offset < entry.header <= entry.body <= entry.end <= entry.next
        assert fromline.date(file[entry.offset : entry.header]) is not None
        assert file[entry.end : entry.next] in (b"", b"\n", b"\r\n")
        at = entry.next
    assert at == len(file)


@given(_OCTETS, st.integers(1, 5), st.booleans())
@_SETTINGS
def test_pieces_are_the_whole(octets: bytes, count: int, crlf: bool) -> None:
    quoter, unquoter = quoting.Quoter(crlf=crlf), quoting.Unquoter(verbatim=False)
    message = _message(octets)
    pieces = [message[i : i + count] for i in range(0, len(message), count)]
    stored = b"".join([*map(quoter.convert, pieces), quoter.finish()])
    assert stored == (quoting.quote(message) if crlf else quoting.to_lf(quoting.quote(message)))
    pieces = [stored[i : i + count] for i in range(0, len(stored), count)]
    served = b"".join([*map(unquoter.convert, pieces), unquoter.finish()])
    assert served == quoting.served(stored, verbatim=False) == message


@given(_OCTETS, st.data())
@_SETTINGS
def test_any_changes_to_any_file(file: bytes, data: st.DataObject) -> None:
    """Whatever was there and whatever is done: the messages, their flags and UIDs are those of a list in memory."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mbox"
        path.write_bytes(file)
        folder = MboxFolder(str(path), sync=False)
        with folder.hold():
            box = folder.load()
            before = [stored(octets) for octets in _contents(folder, box)]
            box = folder.assign(box, 4711, uidnext=data.draw(st.integers(1, 3)))
            check(folder, box)
            assert not box.unwritten
            assert _contents(folder, box) == before
            model = {e.uid: (m, e.marks) for e, m in zip(box.entries, before, strict=True)}
            highest = box.uidnext - 1
            for _ in range(data.draw(st.integers(1, 5))):
                what = data.draw(st.sampled_from(["append", "flag", "expunge", "foreign", "load"]))
                known = box
                if what == "append":
                    many = data.draw(st.lists(st.tuples(_MESSAGES, _MARKS), min_size=1, max_size=3))
                    box = folder.append(box, [addition(m, marks, count=5) for m, marks in many])
                    for number, (m, marks) in enumerate(many, known.uidnext):
                        model[number] = (stored(m), marks)
                elif what == "flag" and model:
                    marks_of = data.draw(st.dictionaries(st.sampled_from(sorted(model)), _MARKS, max_size=3))
                    box = folder.set_flags(box, marks_of)
                    model.update({uid: (model[uid][0], marks) for uid, marks in marks_of.items()})
                elif what == "expunge" and model:
                    gone = data.draw(st.sets(st.sampled_from(sorted(model))))
                    box = folder.expunge(box, gone)
                    model = {uid: value for uid, value in model.items() if uid not in gone}
                elif what == "foreign" and path.read_bytes().endswith(b"\n"):
                    with path.open("ab") as f:
                        f.write(b"From x@y Mon Jan  1 00:00:00 2024\nSubject: foreign\n\ntext\n\n")
                    box = folder.assign(folder.load(box), 4711)
                    model[known.uidnext] = (b"Subject: foreign\r\n\r\ntext\r\n", Marks())
                elif what == "load":
                    box = folder.load(replace(box, fingerprint=box.fingerprint._replace(mtime=1)))
                    box = box if box.base else folder.assign(box, 4711)
                check(folder, box)
                assert box.base is not None
                assert known.base is not None
                assert box.base.uidvalidity == known.base.uidvalidity
                assert box.uidnext > highest
                highest = box.uidnext - 1
                assert {e.uid: e.marks for e in box.entries} == {uid: marks for uid, (_, marks) in model.items()}
                assert contents(folder, box) == {uid: message for uid, (message, _) in model.items()}


def _contents(folder: MboxFolder, box: Box) -> list[bytes]:
    found = []
    for entry in box.entries:
        with folder.open(entry) as message:
            found.append(message.read())
    return found


def test_corpus(tmp_path: Path) -> None:
    """Each message octet for octet, in files of either kind."""
    messages = [_message(message) for message in corpus()]
    for first in (b"", b"From a@b Mon Jan  1 00:00:00 2024\r\nSubject: first\r\n\r\ntext\r\n\r\n"):
        path = tmp_path / f"mbox{len(first)}"
        path.write_bytes(first)
        folder = MboxFolder(str(path), sync=False)
        with folder.hold():
            box = folder.assign(folder.load(), 1)
            box = folder.append(box, [addition(message, count=1000) for message in messages])
            assert list(contents(folder, box).values())[-len(messages) :] == [stored(m) for m in messages]
            check(folder, box)
