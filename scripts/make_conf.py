"""Write ``conf/mailserver.toml`` from the schema: every setting with its default, commented, and what it does."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
import typing
from pathlib import Path
from typing import Any

from mailserver.config.schema import Settings

TARGET = Path(__file__).resolve().parent.parent / "conf" / "mailserver.toml"
HEAD = """\
# Settings of the mail server, every one with its default. Remove the "#" before the line you want to change.
# Found as --config FILE, $MAILSERVER_CONFIG, ./mailserver.toml, /etc/mailserver/mailserver.toml, in this order.
# `python -m mailserver check-config` lists all errors at once. Relative paths are relative to this file.
# This file is generated: `make conf`.
"""


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _about(field: dataclasses.Field[Any]) -> list[str]:
    text = field.metadata["text"]
    low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
    bounds = f"{low} to {high}" if high is not None else f"at least {low}" if low is not None else ""
    if choices and field.type != "int | str":
        last = ", " if isinstance(field.metadata["default"], list) else " or "
        bounds = last.join(f'"{choice}"' for choice in choices)
    if bounds and not field.name.endswith("port"):
        text += f" ({bounds})"
    return [f"# {line}" for line in textwrap.wrap(text, 116, break_on_hyphens=False)]


def _section(kind: type[Any]) -> list[str]:
    lines = []
    for field in dataclasses.fields(kind):
        if "text" in field.metadata and not field.metadata.get("library"):
            lines += [*_about(field), f"# {field.name} = {_value(field.metadata['default'])}", ""]
    return lines


def text() -> str:
    """Return the whole file."""
    lines = [HEAD, *_section(Settings)]
    for name, kind in typing.get_type_hints(Settings).items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            lines += [f"[{name}]  # {kind.__doc__}", "", *_section(kind)]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text())
    print(TARGET, file=sys.stderr)
