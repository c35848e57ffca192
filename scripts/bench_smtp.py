"""Messages a second that come in by SMTP, until the last can be read in its Maildir; beside Postfix, in turns.

smtp-source sends, ten connections at a time and one message over each; both servers deliver to a Maildir of one user.
This server answers 250 when the message can be read; Postfix when it is in its queue, so the Maildir is looked at.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SIZES = {"smtp_5k": 5_000, "smtp_50k": 50_000}
_COUNT = {"smtp_5k": 1000, "smtp_50k": 400}
_SOURCE = "/usr/sbin/smtp-source"
Target = tuple[int, str, Path]  # port, recipient, the Maildir


@contextlib.contextmanager
def ours(folder: Path, workers: int) -> Iterator[Target]:
    """Start this server as a process, durability strict."""
    folder.mkdir()
    (folder / "users").write_text("alice:{PLAIN}pass:::::\n")
    (folder / "mailserver.toml").write_text(
        f'domains = ["bench.example"]\n[storage]\nmailbox_path = "{folder}/mail"\n[smtp]\nhost = "127.0.0.1"\n'
        "[submission]\nport = -1\nssl_port = -1\n[lmtp]\nport = -1\n[http]\nport = -1\n"
        f'[queue]\npath = "{folder}/queue"\n[server]\nworkers = {workers}\n'
    )
    command = [sys.executable, "-m", "mailserver", "--smtp", "--config", str(folder / "mailserver.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline().rsplit(" ", 1)[1])
        yield port, "alice@bench.example", folder / "mail" / "alice"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def postfix() -> Iterator[Target]:
    """Start Postfix, which delivers to a Maildir by its own virtual(8)."""
    from tests.interop.postfix import Postfix

    with tempfile.TemporaryDirectory(prefix="bench-mail-") as name:
        owner = 65534
        os.chown(name, owner, owner)
        extra = (
            f"virtual_mailbox_base = {name}\nvirtual_mailbox_maps = static:alice/\nvirtual_minimum_uid = 1\n"
            f"virtual_uid_maps = static:{owner}\nvirtual_gid_maps = static:{owner}\n"
        )
        with Postfix("virtual", extra) as server:
            yield server.port, "alice@bench.example", Path(name) / "alice"


def measure(target: Target, size: int, count: int) -> float:
    """Send so many messages; return how many a second, until the last can be read."""
    port, recipient, maildir = target
    before = _messages(maildir)
    began = time.monotonic()
    options = ["-s", "10", "-m", str(count), "-l", str(size), "-f", "sender@far.example", "-t", recipient]
    subprocess.run([_SOURCE, *options, f"127.0.0.1:{port}"], check=True, capture_output=True)
    while _messages(maildir) < before + count:
        if time.monotonic() > began + 120:
            raise RuntimeError(f"{recipient}: messages are missing")
        time.sleep(0.005)
    return count / (time.monotonic() - began)


def _messages(maildir: Path) -> int:
    try:
        return len(os.listdir(maildir / "new")) + len(os.listdir(maildir / "cur"))
    except FileNotFoundError:
        return 0


def bench(chosen: list[str], rounds: int, workers: int) -> None:
    """Print a line for each workload."""
    if not chosen or not Path(_SOURCE).exists():
        return
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        targets = {"postkeep": stack.enter_context(ours(Path(name) / "ours", workers))}
        if os.geteuid() == 0:
            targets["postfix"] = stack.enter_context(postfix())
        print(f"{'workload':15}" + "".join(f"{server:>14}" for server in targets) + "  ratio  per second", flush=True)
        for workload in chosen:
            rates: dict[str, list[float]] = {server: [] for server in targets}
            for target in targets.values():
                measure(target, SIZES[workload], 50)
            for _ in range(rounds):
                for server, target in targets.items():
                    rates[server].append(measure(target, SIZES[workload], _COUNT[workload]))
            medians = [statistics.median(rate) for rate in rates.values()]
            ratio = f"{medians[0] / medians[1]:6.2f}" if len(medians) > 1 else "     -"
            print(f"{workload:15}" + "".join(f"{m:14,.0f}" for m in medians) + f" {ratio}  messages", flush=True)
