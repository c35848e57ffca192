"""The machine and the settings: clock, limits of the kernel, certificate, and who may read what."""

from __future__ import annotations

import os
import re
import resource
import ssl
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from mailserver.config.schema import Settings
from mailserver.ops.cli import check_config
from mailserver.ops.doctor.finding import Finding

PLACE = "machine"
_SKEW_SECONDS = 2.5
_BUILT = 1_700_000_000  # the clock of a machine that runs this cannot be before it
_SOON_DAYS = 14
_INOTIFY = Path("/proc/sys/fs/inotify")
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
_TIME = rb"(?:\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z)"
_VALIDITY = re.compile(rb"\x30[\x1e-\x22]" + _TIME + _TIME, re.S)  # RFC 5280 section 4.1.2.5


def check(settings: Settings) -> Iterator[Finding]:
    """All of it."""
    for text in check_config.problems(settings):
        yield Finding(PLACE, "settings", text)
    yield from _users_file(settings)
    yield from clock(os.path.dirname(settings.storage.mailbox_path.partition("{")[0] + "x"), time.time())
    yield from _descriptors(settings)
    yield from inotify(settings, _INOTIFY)
    if settings.tls.certificate:
        yield from certificate(settings.tls.certificate, time.time())


def _users_file(settings: Settings) -> Iterator[Finding]:
    path = settings.auth.users_file
    if os.path.exists(path) and os.stat(path).st_mode & 0o007:
        yield Finding(
            PLACE, "permissions", f"{path}: everybody on this machine may read it", cure=lambda: _drop_others(path)
        )


def _drop_others(path: str) -> None:
    os.chmod(path, os.stat(path).st_mode & 0o770)


def clock(directory: str, now: float) -> Iterator[Finding]:
    """Whether the file system's clock is ours: changes of other programs are found by times."""
    if now < _BUILT:
        yield Finding(PLACE, "clock", "the clock is wrong: it shows a time long ago")
    if not os.access(directory, os.W_OK):
        return
    with tempfile.TemporaryFile(dir=directory) as file:
        skew = os.fstat(file.fileno()).st_mtime - now
    if abs(skew) > _SKEW_SECONDS:
        yield Finding(PLACE, "clock", f"{directory}: the clock of its file system differs by {skew:.0f} seconds")


def _descriptors(settings: Settings) -> Iterator[Finding]:
    servers = (settings.imap, settings.pop3, settings.smtp, settings.submission, settings.lmtp)
    wanted = 2 * sum(server.max_connections for server in servers) + 200
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (resource.RLIM_INFINITY,) and hard < wanted:
        text = f"a process may open {hard} files here; for all connections that the settings allow it takes {wanted}"
        yield Finding(PLACE, "descriptors", text, serious=False)


def inotify(settings: Settings, directory: Path) -> Iterator[Finding]:
    """Whether the kernel lets us watch the folders that clients have open; else they are looked at now and then."""
    wanted = {"max_user_watches": 2 * settings.imap.max_connections, "max_user_instances": 8}
    for name, count in wanted.items():
        try:
            there = int((directory / name).read_text())
        except (OSError, ValueError):  # another kernel
            continue
        if there < count:
            yield Finding(
                PLACE,
                "inotify",
                f"fs.inotify.{name} is {there}; {count} are needed to see new mail at once",
                serious=False,
            )


def certificate(path: str, now: float) -> Iterator[Finding]:
    """Whether one of the chain has expired, or soon will."""
    try:
        blocks = _CERTIFICATE.findall(Path(path).read_text("ascii", "replace"))
    except OSError:  # said by the check of the settings
        return
    for number, block in enumerate(blocks, 1):
        found = _VALIDITY.search(ssl.PEM_cert_to_DER_cert(block))
        if found is None:
            continue
        begins, ends = _moment(found[1], found[2]), _moment(found[3], found[4])
        days = (ends - now) / 86400
        which = f"{path}: certificate {number}"
        if now > ends:
            yield Finding(PLACE, "tls", f"{which} has expired {-days:.0f} days ago")
        elif now < begins:
            yield Finding(PLACE, "tls", f"{which} is not valid yet")
        elif days < _SOON_DAYS:
            yield Finding(PLACE, "tls", f"{which} expires in {days:.0f} days", serious=False)


def _moment(short: bytes | None, long: bytes | None) -> float:
    text = long.decode() if long else (short or b"").decode()
    if not long:
        text = ("20" if text < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
