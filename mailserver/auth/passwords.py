"""Password fields: ``{SCHEME}data`` as Dovecot writes them, verified; new ones are ``{ARGON2ID}``.

``{SCHEME.hex}``, ``.b64`` and ``.base64`` say how the data is encoded. No prefix means CRYPT, whose data names its own
method (``$6$``, ``$2y$``, ``$y$``, ``$argon2id$`` ...). passlib does the crypt family and Argon2; bcrypt is called
directly, for passlib's handler fails with bcrypt 5; yescrypt goes to the system's libcrypt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import warnings
from collections.abc import Callable

import bcrypt

from mailserver.auth import crypt
from mailserver.auth.hmacmd5 import cram_md5_contexts

with warnings.catch_warnings():  # passlib 1.7.4 imports the deprecated crypt and asks argon2 for its version
    warnings.simplefilter("ignore", DeprecationWarning)
    from passlib.crypto.digest import lookup_hash
    from passlib.hash import argon2, bsdi_crypt, des_crypt, md5_crypt, sha1_crypt, sha256_crypt, sha512_crypt

    argon2.set_backend("argon2_cffi")

MAX_PASSWORD = 1024  # octets; hashing must not be made to work on megabytes
BCRYPT_OCTETS = 72  # bcrypt knows no more of a password, and version 5 of the package refuses longer ones
# Argon2id with the smallest memory OWASP's password storage sheet advises: 19 MiB, two passes. A login opens several
# connections, and each of them hashes.
_NEW = argon2.using(type="ID", memory_cost=19456, time_cost=2, parallelism=1)

# off by default in Dovecot 2.4 too
WEAK = frozenset(
    {
        "MD5",
        "MD5-CRYPT",
        "DES-CRYPT",
        "SMD5",
        "LDAP-MD5",
        "PLAIN-MD4",
        "PLAIN-MD5",
        "CRAM-MD5",
        "HMAC-MD5",
        "DIGEST-MD5",
    }
)
CLEAR = frozenset({"PLAIN", "CLEAR", "CLEARTEXT"})
_FIELD = re.compile(r"\{([A-Za-z0-9-]+)(?:\.([A-Za-z0-9]+))?\}(.*)", re.DOTALL)


class BadField(ValueError):
    """The stored field is not understood: unknown scheme, damaged data."""


class WeakScheme(BadField):
    """The scheme is weak and not allowed by the settings."""


def hash_new(password: bytes) -> str:
    """Return a field for a new password."""
    return "{ARGON2ID}" + str(_NEW.hash(password))


def split_field(field: str) -> tuple[str, str, str]:
    """Return scheme and encoding in capitals, and the data."""
    match = _FIELD.fullmatch(field)
    if match is None:
        return "CRYPT", "", field
    return match[1].upper(), (match[2] or "").upper(), match[3]


def cleartext_of(field: str) -> bytes | None:
    """Return the password itself if the field holds it, as APOP needs."""
    scheme, encoding, data = split_field(field)
    if scheme not in CLEAR:
        return None
    return _decode(data, encoding, 0) if encoding else data.encode("utf-8", "surrogateescape")


def verify(field: str, password: bytes, user: str = "", *, allow_weak: bool = False) -> bool:
    """Say whether ``password`` is the one of ``field``. ``user`` is hashed along by {DIGEST-MD5} only.

    Raises `BadField`, or `WeakScheme` when the scheme is weak and ``allow_weak`` is not set.
    """
    scheme, encoding, data = split_field(field)
    check = _SCHEMES.get(scheme)
    if check is None:
        raise BadField(f"unknown password scheme {scheme}")
    if scheme == "CRYPT" and not allow_weak and (data.startswith("$1$") or len(data) == 13):
        scheme = "MD5-CRYPT" if data.startswith("$1$") else "DES-CRYPT"
    if scheme in WEAK and not allow_weak:
        raise WeakScheme(f"password scheme {scheme} is weak; auth.allow_weak_schemes would accept it")
    if len(password) > MAX_PASSWORD:
        return False
    try:
        return check(data, encoding, password, user)
    except (ValueError, TypeError, binascii.Error) as error:
        raise BadField(f"damaged password field of scheme {scheme}") from error


_Check = Callable[[str, str, bytes, str], bool]


def _decode(data: str, encoding: str, size: int, default: str = "B64") -> bytes:
    """Undo the encoding. With none given, data of twice the digest's ``size`` is hexadecimal, as Dovecot guesses."""
    octets = data.encode("utf-8", "surrogateescape")
    encoding = encoding or ("HEX" if size and len(octets) == 2 * size else default)
    if encoding == "HEX":
        return bytes.fromhex(data)
    if encoding in ("B64", "BASE64"):
        return base64.b64decode(octets + b"=" * (-len(octets) % 4), validate=True)
    raise BadField(f"unknown encoding {encoding}")


def _text(data: str, encoding: str) -> str:
    return _decode(data, encoding, 0).decode("utf-8", "surrogateescape") if encoding else data


def _plain(data: str, encoding: str, password: bytes, user: str) -> bool:
    return hmac.compare_digest(_text(data, encoding).encode("utf-8", "surrogateescape"), password)


def _digest(name: str, salted: bool = False, default: str = "B64") -> _Check:
    """Return the check of ``hash(password)`` or of ``hash(password + salt) + salt``."""

    def check(data: str, encoding: str, password: bytes, user: str) -> bool:
        size = hashlib.new(name, usedforsecurity=False).digest_size
        stored = _decode(data, encoding, 0 if salted else size, default)
        if len(stored) < size or (len(stored) > size and not salted):
            raise BadField("digest of the wrong length")
        found = hashlib.new(name, password + stored[size:], usedforsecurity=False).digest()
        return hmac.compare_digest(found, stored[:size])

    return check


def _md4(data: str, encoding: str, password: bytes, user: str) -> bool:
    found: bytes = lookup_hash("md4").const(password).digest()
    return hmac.compare_digest(found, _decode(data, encoding, 16, "HEX"))


def _cram_md5(data: str, encoding: str, password: bytes, user: str) -> bool:
    return hmac.compare_digest(cram_md5_contexts(password), _decode(data, encoding, 32, "HEX"))


def _digest_md5(data: str, encoding: str, password: bytes, user: str) -> bool:
    name, _, realm = user.partition("@")
    found = hashlib.md5(f"{name}:{realm}:".encode() + password, usedforsecurity=False).digest()
    return hmac.compare_digest(found, _decode(data, encoding, 16, "HEX"))


def _scram(name: str) -> _Check:
    """RFC 5802 section 3: StoredKey := H(HMAC(SaltedPassword, "Client Key"))."""

    def check(data: str, encoding: str, password: bytes, user: str) -> bool:
        rounds, salt, stored, _ = _text(data, encoding).split(",")
        if not 0 < int(rounds) <= 10_000_000:
            raise BadField("number of rounds")
        salted = hashlib.pbkdf2_hmac(name, password, base64.b64decode(salt), int(rounds))
        client = hmac.new(salted, b"Client Key", name).digest()
        return hmac.compare_digest(hashlib.new(name, client).digest(), base64.b64decode(stored))

    return check


def _pbkdf2(data: str, encoding: str, password: bytes, user: str) -> bool:
    empty, version, salt, rounds, stored = _text(data, encoding).split("$")
    if empty or version != "1" or not 0 < int(rounds) <= 10_000_000:
        raise BadField("not Dovecot's PBKDF2")
    found = hashlib.pbkdf2_hmac("sha1", password, salt.encode(), int(rounds), 20)
    return hmac.compare_digest(found, bytes.fromhex(stored))


def _argon2(data: str, encoding: str, password: bytes, user: str) -> bool:
    return bool(argon2.verify(password, _text(data, encoding)))


def _bcrypt(data: str, encoding: str, password: bytes, user: str) -> bool:
    return bcrypt.checkpw(password[:BCRYPT_OCTETS], _text(data, encoding).encode())


_CRYPT = {
    "$1$": md5_crypt,
    "$5$": sha256_crypt,
    "$6$": sha512_crypt,
    "$sha1": sha1_crypt,
    "$argon2": argon2,
    "_": bsdi_crypt,
}


def _crypt(data: str, encoding: str, password: bytes, user: str) -> bool:
    data = _text(data, encoding)
    if b"\0" in password:  # crypt would stop there
        return False
    if data.startswith(("$2a$", "$2b$", "$2y$", "$2x$")):
        return _bcrypt(data, "", password, user)
    for prefix, handler in _CRYPT.items():
        if data.startswith(prefix):
            return bool(handler.verify(password, data))
    if len(data) == 13 and "$" not in data:
        return bool(des_crypt.verify(password, data))
    found = crypt.crypt(password, data) if data.startswith("$") else None
    if found is None:  # locked accounts ("!", "*") come here too
        raise BadField("unknown kind of crypt")
    return hmac.compare_digest(found.encode(), data.encode("utf-8", "surrogateescape"))


_SCHEMES: dict[str, _Check] = {
    **dict.fromkeys(CLEAR, _plain),
    **dict.fromkeys(("CRYPT", "BLF-CRYPT", "SHA256-CRYPT", "SHA512-CRYPT", "MD5-CRYPT", "DES-CRYPT"), _crypt),
    **dict.fromkeys(("ARGON2I", "ARGON2ID", "ARGON2"), _argon2),
    "MD5": _crypt,
    "SHA": _digest("sha1"),
    "SHA1": _digest("sha1"),
    "SHA256": _digest("sha256"),
    "SHA512": _digest("sha512"),
    "SSHA": _digest("sha1", salted=True),
    "SSHA256": _digest("sha256", salted=True),
    "SSHA512": _digest("sha512", salted=True),
    "SMD5": _digest("md5", salted=True),
    "LDAP-MD5": _digest("md5"),
    "PLAIN-MD5": _digest("md5", default="HEX"),
    "PLAIN-MD4": _md4,
    "CRAM-MD5": _cram_md5,
    "HMAC-MD5": _cram_md5,
    "DIGEST-MD5": _digest_md5,
    "SCRAM-SHA-1": _scram("sha1"),
    "SCRAM-SHA-256": _scram("sha256"),
    "PBKDF2": _pbkdf2,
}
SCHEMES = frozenset(_SCHEMES)
