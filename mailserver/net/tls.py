"""TLS contexts of a server: version 1.2 or later, and a certificate that can be exchanged while the server runs."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from mailserver.ops import log as logging

_log = logging.get("net")


class TlsError(Exception):
    """The certificate or key cannot be used; the text names the file and the reason."""


def _no_password() -> str:
    raise TlsError("the private key is protected by a password")  # OpenSSL would ask on the terminal and wait


def _check_readable(path: Path) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror} (as uid {os.geteuid()}, gid {os.getegid()})") from error


def server_context(certificate: str | os.PathLike[str], private_key: str | os.PathLike[str]) -> ssl.SSLContext:
    """Return a context for servers.

    ``certificate`` is a PEM file with the whole chain, the server's own first. Raises `TlsError`.
    """
    chain, key = Path(certificate), Path(private_key)
    _check_readable(chain)
    _check_readable(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # RFC 8996 section 3: TLS 1.0 and 1.1 must not be used.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(chain, key, _no_password)
    except ssl.SSLError as error:
        raise TlsError(f"{chain} and {key}: {error.reason or error}") from error
    except OSError as error:
        raise TlsError(f"{chain}: {error}") from error
    return context


class TlsKeeper:
    """Holds the current context. Connections ask for `context` each time, so a reload holds for the next one."""

    def __init__(self, certificate: str | os.PathLike[str], private_key: str | os.PathLike[str]) -> None:
        self._certificate = certificate
        self._private_key = private_key
        self.context = server_context(certificate, private_key)

    def reload(self) -> bool:
        """Read the files again; when they are bad, keep the old context, log why and return False."""
        try:
            self.context = server_context(self._certificate, self._private_key)
        except TlsError as error:
            _log.error("tls-reload-failed", reason=str(error), kept="the certificate read before")
            return False
        _log.info("tls-reloaded", certificate=str(self._certificate))
        return True
