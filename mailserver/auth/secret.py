"""A secret is a type: it does not print itself."""

from __future__ import annotations

import hmac


class Secret:
    """Octets that no log line, traceback or message shows. `reveal` is the only way to them."""

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes) -> None:
        self._octets = bytes(octets)

    def reveal(self) -> bytes:
        """Return the octets."""
        return self._octets

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._octets, other._octets)

    def __hash__(self) -> int:
        return hash(self._octets)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written anywhere")
