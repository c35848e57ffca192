"""``make run``: try the server without root and without touching anything outside this folder.

Makes, in ./run, what is not there yet: a self-signed certificate, two users with random passwords, settings with ports
above 1024 on loopback. Then serves until Ctrl-C. Delete ./run to begin anew.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "run"
PYTHON = ROOT / ".venv" / "bin" / "python"
USERS = ("alice", "bob")

SETTINGS = """\
hostname = "localhost"
domains = ["localhost", "example.com"]

[storage]
mailbox_path = "mail"

[tls]
certificate = "cert.pem"
private_key = "key.pem"

[imap]
host = "127.0.0.1"
port = 2143
ssl_port = 2993

[pop3]
host = "127.0.0.1"
port = 2110
ssl_port = 2995

[smtp]
host = "127.0.0.1"
port = 2525

[submission]
host = "127.0.0.1"
port = 2587
ssl_port = 2465

[lmtp]
port = -1

[http]
port = 2090

[queue]
path = "queue"

[server]
log_level = "debug"
"""

HELP = """
Users (passwords are in run/passwords.txt):
{users}

Send:         swaks --server 127.0.0.1:2525 --from you@example.org --to alice@localhost
Submit:       swaks --server 127.0.0.1:2587 --tls --auth-user alice --auth-password {first} \\
                --from alice@localhost --to bob@localhost
Read (IMAP):  curl -k -u alice:{first} 'imaps://127.0.0.1:2993/INBOX;UID=*'
Read (POP3):  curl -k -u alice:{first} pop3s://127.0.0.1:2995/1
Thunderbird:  account alice@localhost, manual configuration, server 127.0.0.1, user name alice
              IMAP 2143 STARTTLS or 2993 SSL/TLS; POP3 2110 or 2995; SMTP 2587 STARTTLS or 2465 SSL/TLS
              (the certificate is self-signed: confirm the exception)
Metrics:      curl http://127.0.0.1:2090/metrics
"""


def _prepare_python() -> None:
    """Make the virtual environment and go on in it."""
    if Path(sys.prefix) == PYTHON.parent.parent:
        return
    if not PYTHON.exists():
        print("making .venv ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(ROOT / ".venv")], check=True)
    probe = subprocess.run(
        [str(PYTHON), "-c", "import mailserver, cryptography, argon2"], cwd=ROOT, capture_output=True
    )
    if probe.returncode:
        install = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-e", ".[cert]"]
        subprocess.run(install, check=True, cwd=ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", "scripts.run_demo"])


def _users() -> dict[str, str]:
    """Make the users, once; return their passwords."""
    from mailserver.auth.passwords import hash_new
    from mailserver.auth.users import UserFile

    noted = RUN / "passwords.txt"
    if not noted.exists():
        users = UserFile(RUN / "users")
        passwords = {name: secrets.token_urlsafe(9) for name in USERS}
        for name, password in passwords.items():
            users.add(name, hash_new(password.encode()))
        noted.touch(0o600)
        noted.write_text("".join(f"{name} {password}\n" for name, password in passwords.items()))
    return dict(line.split() for line in noted.read_text().splitlines())


def main() -> int:
    """Prepare ./run and serve."""
    os.chdir(ROOT)
    _prepare_python()
    from scripts.certificate import write_certificate

    RUN.mkdir(mode=0o700, exist_ok=True)
    settings = RUN / "mailserver.toml"
    if not settings.exists():
        settings.write_text(SETTINGS)
    if not (RUN / "cert.pem").exists():
        write_certificate(RUN, "localhost")
    passwords = _users()
    users = "\n".join(f"    {name}  {password}" for name, password in passwords.items())
    print(HELP.format(users=users, first=passwords["alice"]), flush=True)
    os.execv(PYTHON, [str(PYTHON), "-m", "mailserver", "--config", str(settings), *sys.argv[1:]])


if __name__ == "__main__":
    raise SystemExit(main())
