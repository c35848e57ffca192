"""What the kernel was asked for, in which order: everything is synced before OK is written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.concurrency.model import Model, message
from tests.program import Program

CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,write,sendto,sendmsg,unlink"


def traced(folder: Path) -> list[str]:
    """System calls of APPEND and COPY, COPY's after a line with BETWEEN."""
    trace = folder / "trace"
    wrapper = ["strace", "-f", "-y", "-s", "120", "-e", CALLS, "-o", str(trace)]
    with Program(folder, durability="strict", wrapper=wrapper) as program:
        try:
            with Model(program.ports["imap"]) as model:
                model.require("CREATE Work")
                model.require("SELECT INBOX")
                model.require("APPEND INBOX {}", message("first"))
                model.require("NOOP")
                model.command("BETWEEN")
                model.require("UID COPY 1 Work")
        finally:
            program.kill()
    return trace.read_text().splitlines()


def position(lines: list[str], pattern: str) -> int:
    found = [i for i, line in enumerate(lines) if re.search(pattern, line)]
    assert found, f"{pattern} is not in\n" + "\n".join(lines)
    return found[0]


def test_ok_means_on_disk(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    lines = traced(tmp_path)
    middle = position(lines, "Unknown command BETWEEN")
    append, copy = lines[:middle], lines[middle:]
    append = append[position(append, "CREATE completed") :]
    order = [
        position(append, r"f(data)?sync\(\d+<[^>]*/alice/tmp/[^>]*>"),
        position(append, r"rename\w*\(.*/alice/tmp/.*/alice/new/"),
        position(append, r"f(data)?sync\(\d+<[^>]*/alice/new>"),
        position(append, r"f(data)?sync\(\d+<[^>]*/alice/dovecot-uidlist>"),
        position(append, r"APPENDUID"),
    ]
    assert order[0] < order[1] < min(order[2:4]) < max(order[2:4]) < order[4]
    written = position(append, r"write\(\d+<[^>]*/alice/dovecot-uidlist>")
    assert written < order[3]
    order = [
        position(copy, r"link\w*\(.*/alice/(new|cur)/.*/alice/\.Work/(new|cur)/"),
        position(copy, r"f(data)?sync\(\d+<[^>]*/alice/\.Work/(new|cur)>"),
        position(copy, r"f(data)?sync\(\d+<[^>]*/alice/\.Work/dovecot-uidlist>"),
        position(copy, r"COPYUID"),
    ]
    assert order[0] < min(order[1:3]) < max(order[1:3]) < order[3]
