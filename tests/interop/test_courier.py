"""A Maildir goes from Courier to this server, back, and on to Dovecot: no POP3 client downloads anything twice."""

from __future__ import annotations

import os
import poplib
from pathlib import Path

import pytest

from tests.interop import courier
from tests.interop.dovecot import Dovecot
from tests.interop.serving import PASSWORD, serve
from tests.messages import corpus


def listed(port: int) -> list[tuple[int, int, str]]:
    """Number, size and unique-id of every message."""
    client = poplib.POP3("127.0.0.1", port, timeout=30)
    client.user("user1")
    client.pass_(PASSWORD)
    sizes, ids = client.list()[1], client.uidl()[1]
    client.quit()
    return [(int(a.split()[0]), int(a.split()[1]), b.split()[1].decode()) for a, b in zip(sizes, ids, strict=True)]


def couriers(maildir: Path) -> list[tuple[int, int, str]]:
    """The same from Courier."""
    words = [line.split() for line in courier.session(maildir, "LIST", "UIDL")]
    pairs = [(int(w[0]), w[1]) for w in words if len(w) == 2 and w[0].isdigit()]
    half = len(pairs) // 2
    return [(n, int(size), uidl) for (n, size), (_, uidl) in zip(pairs[:half], pairs[half:], strict=True)]


def fill(maildir: Path, first: int, count: int) -> None:
    """Mail with LF, as a local delivery agent leaves it; the later of two names sorts first now and then."""
    for part in ("cur", "new", "tmp"):
        (maildir / part).mkdir(parents=True, exist_ok=True)
    for number, octets in enumerate(corpus()[first : first + count], first):
        name = f"15{number:08d}.M{number * 7 % 11}P1.host"
        path = maildir / ("new" if number % 3 else "cur") / (name if number % 3 else f"{name}:2,S")
        path.write_bytes(octets.replace(b"\r\n", b"\n"))
    os.utime(maildir / "new")


def test_from_courier_and_back_and_on_to_dovecot() -> None:
    with Dovecot() as dovecot:
        maildir = dovecot.mail_root / "user1"
        fill(maildir, 0, 12)
        (maildir / "courierpop3dsizelist").write_text(
            "/2 41 1100000000\n1500000004.M6P1.host:2, 1 40:1100000000\n1500000001.M7P1.host:2, 1 7:1000000000\n"
        )
        before = couriers(maildir)  # it keeps the old ones, and writes version 3
        assert {"UID40-1100000000", "UID7-1000000000"} < {uidl for _, _, uidl in before}
        before = couriers(maildir)
        with serve(dovecot.mail_root) as app:
            ours = listed(app.ports["pop3"])
            assert [(n, uidl) for n, _, uidl in ours] == [(n, uidl) for n, _, uidl in before]
            # Courier believes the two sizes that the list made up
            assert sum(a != b for a, b in zip(ours, before, strict=True)) == 2
            fill(maildir, 12, 3)
            later = listed(app.ports["pop3"])
            assert later[: len(ours)] == ours
            assert len(later) == len(ours) + 3
        assert [uidl for _, _, uidl in couriers(maildir)][: len(ours)] == [uidl for _, _, uidl in before]
        (maildir / "courierpop3dsizelist").unlink()
        with serve(dovecot.mail_root) as app:
            kept = listed(app.ports["pop3"])
        assert kept == later
        dovecot.own(dovecot.mail_root)
        assert listed(dovecot.pop3_port) == later


@pytest.mark.parametrize(
    "text",
    [
        "/3 40 111\n{0} 40 20:111:0\n{1} 32 0:0:0\n{2} 32 8:0:1\n",
        "/2 40 111\n{2} 32 8:0\n{0} 40 20:99\n{1} 32 0:5\n",
        "/3 40\n{0} 32 7:4:0\n{1} 32 8:4:0\n{2} 32 9:4:0\n",
    ],
)
def test_lists_are_read_as_courier_reads_them(tmp_path: Path, text: str) -> None:
    maildir = tmp_path / "mail" / "user1"
    names = ["1500000002.M1P1.h:2,S", "1500000001.b+'é h:2,", "1500000003.M1P1,S=9:2,RS"]
    for part in ("cur", "new", "tmp"):
        (maildir / part).mkdir(parents=True)
    for name in names:
        (maildir / "cur" / name).write_bytes(b"a: b\n\nc\n")
    (maildir / "courierpop3dsizelist").write_text(text.format(*names))
    with serve(tmp_path / "mail") as app:
        ours = listed(app.ports["pop3"])
    assert [uidl for _, _, uidl in ours] == [uidl for _, _, uidl in couriers(maildir)]
