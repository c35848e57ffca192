"""Log lines: one line each, the address before anything a client chose."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mailserver.auth.secret import Secret
from mailserver.auth.service import Authenticator, AuthFailed, Origin
from mailserver.auth.users import StaticUsers
from mailserver.ops import log


class Peer:
    id = "ab-1"
    peer = ("192.0.2.7", 5)


def test_logfmt(log_lines: list[str]) -> None:
    log.get("imap").info("login", conn=Peer(), user='x" rip=1.2.3.4\r\n>', method="PLAIN", nothing=None)
    (line,) = log_lines
    assert line.startswith("time=20")
    assert (
        line.split(" ", 1)[1]
        == 'level=info event=login conn=ab-1 rip=192.0.2.7 proto=imap user="x\\" rip=1.2.3.4\\r\\n>" method=PLAIN\n'
    )


@pytest.mark.parametrize("value", ["\x00\x1b[2J", "\x85\u2028\u202e", b"\xff\n", "\udcff", "", "a b", "a=b", "a\\b"])
def test_no_value_breaks_the_line(log_lines: list[str], value: object) -> None:
    log.get("imap").info("x", user=value)
    assert len(log_lines[0].splitlines()) == 1
    assert log_lines[0].isprintable() or log_lines[0].rstrip("\n").isprintable()
    assert 'user="' in log_lines[0]


def test_long_values_are_cut(log_lines: list[str]) -> None:
    log.get("imap").info("x", user="a" * 100_000)
    assert len(log_lines[0]) < 1200


def test_levels_and_json() -> None:
    lines: list[bytes] = []
    log.configure("warning", "json", lines.append)
    logger = log.get("pop3")
    logger.debug("a")
    logger.info("b")
    logger.warning("c", conn=Peer(), user="\n")
    logger.error("d")
    log.configure()
    assert [json.loads(line)["event"] for line in lines] == ["c", "d"]
    assert json.loads(lines[0])["user"] == "\n"
    assert json.loads(lines[0])["rip"] == "192.0.2.7"


def test_exception_has_an_id_and_stays_in_one_line(log_lines: list[str]) -> None:
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        identity = log.get("imap").exception("fault", Peer(), command="FETCH")
    assert f"id={identity}" in log_lines[0]
    assert "ValueError: one\\ntwo" in log_lines[0]
    assert len(log_lines[0].splitlines()) == 1


def test_the_shipped_fail2ban_filter_finds_the_address(log_lines: list[str]) -> None:
    text = (Path(__file__).parents[3] / "conf" / "fail2ban" / "filter.conf").read_text()
    pattern = next(line for line in text.splitlines() if line.startswith("failregex = ")).removeprefix("failregex = ")
    users = StaticUsers({"alice": "secret"})
    for user in ("alice", "x rip=9.9.9.9 proto=auth", 'level=warning event=auth-failed conn=a rip=9.9.9.9 "'):
        with pytest.raises(AuthFailed):
            Authenticator(users).login(user, Secret(b"wrong"), Origin("imap", "192.0.2.1", "c-1"))
    for line in log_lines:
        found = re.search(pattern.replace("<ADDR>", r"(?P<ip>[0-9a-f.:]+)"), line)
        assert found is not None
        assert found["ip"] == "192.0.2.1"
