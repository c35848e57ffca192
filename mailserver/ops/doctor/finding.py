"""What a check says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailserver.store.errors import StoreError


@dataclass(slots=True)
class Finding:
    """Something that is not as it should be. ``cure`` puts it right (OSError, StoreError); None: a person must look."""

    place: str  # "machine", or a user's name
    kind: str  # for programs: "permissions", "index", ...
    text: str
    serious: bool = True  # mail may be lost or not be seen; False: advice
    cure: Callable[[], object] | None = field(default=None, repr=False)
    fixed: bool = False

    def fix(self) -> None:
        """Do what can be done; what cannot is left as it was."""
        if self.cure is not None:
            try:
                self.cure()
            except (OSError, StoreError) as error:
                self.text += f" (could not be fixed: {error})"
            else:
                self.fixed = True
