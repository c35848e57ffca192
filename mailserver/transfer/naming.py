"""What folders of another server are called here. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailserver.mail import mutf7
from mailserver.store.tree import names

_CONTROL = re.compile("[\x00-\x1f\x7f\u2028\u2029]")


def level(text: str) -> str:
    """One level of a name, so that it can be one here."""
    clean = _CONTROL.sub("_", text).replace(names.SEPARATOR, "_")
    return "_" if clean in ("", ".", "..") else clean


def from_levels(levels: Sequence[str]) -> str:
    """Levels as a name of ours; the name INBOX is kept for the INBOX."""
    name = names.SEPARATOR.join(level(text) for text in levels)
    return f"{name}_" if names.canonical(name) == names.INBOX else names.canonical(name)


def from_imap(raw: str, delimiter: str, prefix: str) -> str:
    """A name that an IMAP server listed. ``prefix`` is that of personal folders: ``INBOX.`` at Courier's."""
    if raw.upper() == names.INBOX:
        return names.INBOX
    if prefix and raw[: len(prefix)].upper() == prefix.upper() and len(raw) > len(prefix):
        raw = raw[len(prefix) :]
    levels = raw.split(delimiter) if delimiter else [raw]
    return from_levels([decoded(text) for text in levels if text])


def decoded(text: str) -> str:
    """Modified UTF-7, or what it is when it is none."""
    try:
        return mutf7.decode(text)
    except ValueError:
        return text


def common_prefix(raws: Sequence[str], delimiter: str) -> str:
    """``INBOX.`` when everything lies below it, for servers that do not say what their prefix is."""
    prefix = names.INBOX + delimiter
    others = [raw for raw in raws if raw.upper() != names.INBOX]
    return prefix if delimiter and others and all(raw.upper().startswith(prefix) for raw in others) else ""


@dataclass(frozen=True, slots=True)
class Mapping:
    """What the user wants some folders to be called, those below them too; and which to leave out."""

    renamed: tuple[tuple[str, str], ...] = ()
    skipped: tuple[str, ...] = ()

    def apply(self, name: str) -> str | None:
        """The name here, None for a folder that is left out. The longest rule counts."""
        if any(_below(name, skipped) is not None for skipped in self.skipped):
            return None
        for old, new in sorted(self.renamed, key=lambda rule: -len(rule[0])):
            rest = _below(name, old)
            if rest is not None:
                return names.canonical(new + rest)
        return name


def _below(name: str, top: str) -> str | None:
    """What stands behind ``top``, if the name is it or below it."""
    if name == top:
        return ""
    return name[len(top) :] if name.startswith(top + names.SEPARATOR) else None
