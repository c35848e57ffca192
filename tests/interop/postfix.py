"""A Postfix of its own for a test: in a temporary directory, on a free loopback port, stopped at the end.

Must be started by root; `available` says whether a test can use it. All mail goes on to ``transport``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

_PROGRAM = "/usr/sbin/postfix"

_MAIN = """
compatibility_level = 3.6
queue_directory = {base}/spool
data_directory = {base}/data
maillog_file = {base}/log/mail.log
maillog_file_prefixes = {base}/log
myhostname = postfix.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
default_transport = {transport}
relay_transport = {transport}
local_transport = error:none
alias_maps =
alias_database =
biff = no
disable_dns_lookups = yes
smtpd_forbid_bare_newline = yes
{extra}
"""

_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def available() -> bool:
    return os.path.exists(_PROGRAM) and os.geteuid() == 0


class Postfix:
    """``with Postfix("lmtp:inet:127.0.0.1:24") as p: p.port``. ``extra``: further lines of main.cf."""

    def __init__(self, transport: str, extra: str = "") -> None:
        # not below pytest's folder, which Postfix's own user may not enter
        self._base = Path(tempfile.mkdtemp(prefix="postfix-"))
        self._base.chmod(0o755)
        self._config = self._base / "etc"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        for name in ("etc", "spool", "data", "log"):
            (self._base / name).mkdir(parents=True)
        shutil.chown(self._base / "data", "postfix")
        (self._config / "main.cf").write_text(_MAIN.format(base=self._base, transport=transport, extra=extra))
        (self._config / "master.cf").write_text(_MASTER.format(port=self.port))

    @property
    def log(self) -> str:
        path = self._base / "log" / "mail.log"
        return path.read_text() if path.exists() else ""

    def _run(self, word: str) -> None:
        command = [_PROGRAM, "-c", str(self._config), word]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 or word == "stop", done.stderr + self.log

    def __enter__(self) -> Postfix:
        self._run("start")
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                assert time.monotonic() < deadline, self.log
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run("stop")
        shutil.rmtree(self._base, ignore_errors=True)
