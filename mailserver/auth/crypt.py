"""The system's libcrypt, for what passlib does not know: yescrypt, Debian's scheme in /etc/shadow, and its kin."""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache

_DATA_SIZE = 131072  # libcrypt's struct crypt_data: 32 KiB in libxcrypt, 128 KiB in glibc's own


@cache
def _library() -> ctypes.CDLL | None:
    for name in ("libcrypt.so.1", "libcrypt.so.2", ctypes.util.find_library("crypt")):
        try:
            library = ctypes.CDLL(name) if name else None
        except OSError:
            continue
        if library is not None and hasattr(library, "crypt_r"):
            library.crypt_r.restype = ctypes.c_char_p
            library.crypt_r.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
            return library
    return None


def crypt(password: bytes, setting: str) -> str | None:
    """Hash ``password`` as ``setting`` (a whole hash will do) says; None when libcrypt is missing or does not know it.

    ctypes releases the GIL, so other threads go on meanwhile.
    """
    library = _library()
    if library is None or b"\0" in password:
        return None
    data = ctypes.create_string_buffer(_DATA_SIZE)
    found: bytes | None = library.crypt_r(password, setting.encode("utf-8", "surrogateescape"), data)
    text = found.decode("ascii", "replace") if found else ""
    return None if not text or text.startswith("*") else text
