"""What an import or an export would do; nothing is changed for knowing it."""

from __future__ import annotations

from dataclasses import dataclass

from mailserver.transfer.merge import change
from mailserver.transfer.model import Origin
from mailserver.transfer.naming import Mapping
from mailserver.transfer.record import Record


@dataclass(frozen=True, slots=True)
class Planned:
    """Of one folder."""

    name: str
    source: str
    messages: int  # to import
    octets: int
    present: int
    changed: int  # their flags changed at the source since the last time
    gone: int  # at the source


def plan(origin: Origin, record: Record, mapping: Mapping) -> list[Planned]:
    """Of all folders. SourceError, OSError."""
    planned = []
    for found in origin.folders():
        name = mapping.apply(found.name)
        if name is None:
            continue
        contents = origin.contents(found)
        known = record.of(contents.folder).messages
        fresh = [item for item in contents.items if item.key not in known]
        changed = sum(item.key in known and change(known[item.key], item) is not None for item in contents.items)
        present = len(contents.items) - len(fresh)
        planned.append(
            Planned(
                *(name, contents.folder.source, len(fresh), sum(item.size for item in fresh)),
                *(present, changed, len(known) - present),
            )
        )
    return planned
