"""Which code and which tests obey which section of which RFC.

``python -m scripts.rfc_index`` prints, by RFC and section, the lines that name it; sections with code and no test are
marked. ``--check`` fails on references that are spelled otherwise than ``RFC 9051 section 6.4.6`` and would be missed.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("mailserver", "tests", "scripts")
REFERENCE = re.compile(r"\bRFC (\d{3,5})(?: section (\d+(?:\.\d+)*|[A-Z](?:\.\d+)*)\b)?")
# RFC3501, RFC-3501, rfc 3501, RFC 3501 6.4, RFC 3501, section 6, RFC 3501 sec. 6, RFC 3501 §6 ...
WRONG = re.compile(
    r"(?<!\[)\bRFC-?(?!822)\d{3,5}\b"
    r"|\b[Rr]fc[ -]\d|\bRFC  +\d|\bRFC \d+[#/]\d|\bRFC \d+ sections?\b(?! (?:\d|[A-Z]\b))|\bRFC \d+ sections\b"
    r"|\bRFC \d+,? (?:\d+\.\d|[Ss]ec\b|Section\b|§|chapter\b)|\bRFC \d+, section\b"
)

Places = dict[tuple[int, tuple[str, ...]], list[str]]


def _files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if path != Path(__file__)]


def index() -> tuple[Places, list[str]]:
    """Return the lines by RFC and section, and the lines that are spelled otherwise."""
    places: Places = defaultdict(list)
    wrong = []
    for path in _files():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.relative_to(ROOT)}:{number}"
            if WRONG.search(line):
                wrong.append(f"{where}: {line.strip()}")
            for match in REFERENCE.finditer(line):
                section = tuple(match[2].split(".")) if match[2] else ()
                places[int(match[1]), section].append(where)
    return places, wrong


def _order(key: tuple[int, tuple[str, ...]]) -> tuple[int, list[tuple[int, str]]]:
    return key[0], [(int(part), "") if part.isdigit() else (10_000, part) for part in key[1]]


def main() -> int:
    """Print the index, or check the spelling."""
    places, wrong = index()
    if "--check" in sys.argv:
        for line in wrong:
            print(f"{line}\n    write: RFC 9051 section 6.4.6", file=sys.stderr)
        return 1 if wrong else 0
    for key in sorted(places, key=_order):
        found = places[key]
        tested = any(where.startswith("tests/") for where in found)
        title = f"RFC {key[0]}" + (f" section {'.'.join(key[1])}" if key[1] else "")
        print(title + ("" if tested or not key[1] else "   (no test names it)"))
        for where in found:
            print(f"    {where}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
