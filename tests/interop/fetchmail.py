"""fetchmail, which remembers the unique-ids of what it brought."""

from __future__ import annotations

from pathlib import Path

from tests.interop.serving import PASSWORD, run


def delivered_files(folder: Path) -> list[bytes]:
    """What a program brought, as files that are called 0, 1, 2 ..."""
    return [path.read_bytes() for path in sorted(folder.glob("[0-9]*"), key=lambda path: int(path.name))]


def fetchmail(port: int, home: Path, options: str, accept: tuple[int, ...] = (0,), server: str = "uidl") -> list[bytes]:
    """Run it for user1; return what it brought this time."""
    folder = home / "fetched"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*"):
        path.unlink()
    mda = f"/bin/sh -c 'n=$(ls {folder} | wc -l); cat > {folder}/$n'"
    account = f"user user1 password {PASSWORD}"
    poll = f"poll 127.0.0.1 protocol pop3 port {port} bad-header accept {server} {account}"
    (home / "fetchmailrc").write_text(f'{poll} {options} no rewrite mda "{mda}"\n')
    (home / "fetchmailrc").chmod(0o600)
    arguments = ["--fetchmailrc", home / "fetchmailrc", "--invisible", "--sslproto", "", "--silent"]
    run(["fetchmail", *arguments], home, accept=accept, environment={"FETCHMAILHOME": str(home)})
    return delivered_files(folder)
