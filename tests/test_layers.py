"""Who may import whom. The imports are read from the source, so a rule holds for code that no test reaches too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "mailserver").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROTOCOLS = ("imap", "pop3", "smtp")
# pure parts: they are fed octets and give octets, so nothing of the world outside may reach them
PURE = (
    *("imap.framer", "imap.grammar", "imap.responses", "pop3.parse", "smtp.grammar", "smtp.data"),
    *(f"store.formats.mbox.{part}" for part in ("entry", "parser", "headers", "place", "quoting")),
    *("store.aclfile", "store.model.rights"),
)
NOT_IN_PURE = {"socket", "ssl", "sqlite3", "threading", "time"}
MAX_LINES = 500


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _type_only(tree: ast.Module) -> set[ast.AST]:
    """What stands under ``if TYPE_CHECKING``: it is never imported."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            found.update(inner for statement in node.body for inner in ast.walk(statement))
    return found


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules a file imports, anywhere in it."""
    tree = ast.parse(path.read_text())
    skipped = _type_only(tree)
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def _within(name: str, room: str) -> bool:
    return name == f"mailserver.{room}" or name.startswith(f"mailserver.{room}.")


def _of(*rooms: str) -> list[Path]:
    return [path for path in SOURCES if any(_within(module_of(path), room) for room in rooms)]


def _violations(paths: list[Path], forbidden: tuple[str, ...]) -> Iterator[str]:
    for path in paths:
        for name in imports(path):
            if any(_within(name, room) for room in forbidden):
                yield f"{module_of(path)} imports {name}"


def test_mail_imports_the_standard_library_only() -> None:
    allowed = sys.stdlib_module_names
    wrong = [
        f"{module_of(path)} imports {name}"
        for path in _of("mail")
        for name in imports(path)
        if not _within(name, "mail") and name.split(".")[0] not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("rooms", "forbidden"),
    [
        (("net",), (*PROTOCOLS, "store", "auth", "delivery", "mail", "config", "services", "app")),
        (("store",), (*PROTOCOLS, "net", "auth", "delivery", "config", "services", "app")),
        (("auth",), (*PROTOCOLS, "net", "store", "delivery", "services", "app")),
        (("config",), (*PROTOCOLS, "net", "store", "auth", "delivery", "services", "app", "ops")),
        (
            ("ops.log", "ops.metrics", "ops.shared"),
            (*PROTOCOLS, "net", "store", "auth", "delivery", "config", "services"),
        ),
        (("delivery",), (*PROTOCOLS, "app")),
        (("imap",), ("pop3", "smtp", "app")),
        (("pop3",), ("imap", "smtp", "app")),
        (("smtp",), ("imap", "pop3", "app")),
        (("services",), (*PROTOCOLS, "app")),
    ],
)
def test_who_may_import_whom(rooms: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    assert not list(_violations(_of(*rooms), forbidden))


def test_nothing_imports_app() -> None:
    allowed = {"mailserver.__main__", "mailserver.ops.cli.serve"}
    paths = [path for path in SOURCES if module_of(path) not in allowed and not _within(module_of(path), "testing")]
    assert not list(_violations(paths, ("app",)))


def test_pure_parts_touch_nothing_outside() -> None:
    wrong = [
        f"{module_of(path)} imports {name}"
        for path in _of(*PURE)
        for name in imports(path)
        if name.split(".")[0] in NOT_IN_PURE
    ]
    protocols = [f"{protocol}.{room}" for protocol in PROTOCOLS for room in ("session", "server", "commands", "table")]
    assert not wrong
    assert not list(_violations(_of(*PURE), (*protocols, "net", "auth", "delivery", "services", "app")))


def test_files_are_not_too_long() -> None:
    long = {module_of(path): n for path in SOURCES if (n := len(path.read_text().splitlines())) > MAX_LINES}
    assert not long


def test_packages_hold_no_code() -> None:
    """An `__init__` is a docstring; only the top one gives names, at first use."""
    for path in SOURCES:
        if path.name == "__init__.py" and path.parent != ROOT / "mailserver":
            body = ast.parse(path.read_text()).body
            assert len(body) <= 1, f"{path}: code in a package"


def _closure(start: set[str]) -> set[str]:
    paths = {module_of(path): path for path in SOURCES}
    reached: set[str] = set()
    waiting = [name for name in start if name in paths]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        waiting += [found for found in _mentioned(paths[name]) if found in paths]
    return reached


@cache
def _mentioned(path: Path) -> frozenset[str]:
    """Imports, and modules named in tables of text (``"mailserver.imap.server"``)."""
    words = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("mailserver.")
    }
    return imports(path) | words


def test_every_file_is_reached_from_a_test() -> None:
    """Code that nothing runs is not there."""
    started = {name for path in TESTS for name in _mentioned(path)}
    reached = _closure(started)
    unreached = [
        module_of(path)
        for path in SOURCES
        if path.name != "__init__.py" and module_of(path) not in reached and module_of(path) != "mailserver.__main__"
    ]
    assert not unreached
