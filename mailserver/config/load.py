"""From a TOML file to `Settings`. All errors are found at once, each with file, line and what was probably meant."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli

from mailserver.config.schema import Settings

PLACES = ("./mailserver.toml", "/etc/mailserver/mailserver.toml")
VARIABLE = "MAILSERVER_CONFIG"
_PATHS = {("storage", "mailbox_path"), ("storage", "index_path"), ("auth", "users_file"), ("queue", "path")} | {
    ("tls", "certificate"),
    ("tls", "private_key"),
    ("delivery", "aliases_file"),
    ("queue", "relay_password_file"),
}
_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?\Z")
_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*[.=]""")


class ConfigError(Exception):
    """The file cannot be used; ``errors`` are lines for the administrator."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def find(named: str | None, environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the file to read: the one named, ``$MAILSERVER_CONFIG``, or the first of the usual places;

    None: defaults.
    """
    environment = os.environ if environment is None else environment
    if named or environment.get(VARIABLE):
        return Path(named or environment[VARIABLE])
    return next((path for path in map(Path, PLACES) if path.exists()), None)


def load(path: Path) -> Settings:
    """Read a file.

    Relative paths in it are relative to the file. Raises `ConfigError`; `OSError` if it cannot be read.
    """
    return parse(path.read_bytes(), str(path), path.absolute().parent)


def parse(content: bytes, name: str = "mailserver.toml", folder: Path | None = None) -> Settings:
    """Turn the text of a file into settings. Raises `ConfigError`."""
    try:
        text = content.decode("utf-8")
        table = tomli.loads(text)
    except (tomli.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError([f"{name}: {error}"]) from error
    reader = _Reader(name, text, folder)
    settings: Settings = reader.section(Settings, table, ())
    reader.look_across(settings)
    if reader.errors:
        raise ConfigError([line for _, line in sorted(reader.errors)])
    if folder is None:
        return settings
    users = os.path.join(folder, settings.auth.users_file)  # the default, too, is beside the file
    return dataclasses.replace(settings, auth=dataclasses.replace(settings.auth, users_file=users))


class _Reader:
    def __init__(self, name: str, text: str, folder: Path | None) -> None:
        self._name = name
        self._lines = _line_numbers(text)
        self._folder = folder
        self.errors: list[tuple[int, str]] = []

    def error(self, where: tuple[str, ...], text: str) -> None:
        line = self._lines.get(where) or self._lines.get(where[:1]) or 0
        place = f"{self._name}:{line}" if line else self._name
        self.errors.append((line, f"{place}: {'.'.join(where)}: {text}"))

    def section(self, kind: type[Any], table: Mapping[str, Any], where: tuple[str, ...]) -> Any:
        fields = {f.name: f for f in dataclasses.fields(kind)}
        hints = typing.get_type_hints(kind)
        values: dict[str, Any] = {}
        for key, value in table.items():
            found = fields.get(key)
            if found is None or found.metadata.get("library"):
                self.error((*where, key), self._unknown(key, where, found is not None, fields))
            elif dataclasses.is_dataclass(hints[key]):
                if isinstance(value, dict):
                    values[key] = self.section(typing.cast(type[Any], hints[key]), value, (*where, key))
                else:
                    self.error((*where, key), f"is a section: write [{key}]")
            else:
                problem = _problem(value, hints[key], found.metadata)
                if problem:
                    self.error((*where, key), problem)
                else:
                    values[key] = self._finished(value, (*where, key))
        return kind(**values)

    def _unknown(self, key: str, where: tuple[str, ...], elsewhere: bool, fields: Mapping[str, Any]) -> str:
        if elsewhere and key in ("mailbox_path", "certificate", "private_key"):
            return f"stands once, in [{'storage' if key == 'mailbox_path' else 'tls'}]"
        names = [name for name, f in fields.items() if not f.metadata.get("library")]
        near = difflib.get_close_matches(key, names, 1, 0.6)
        if near:
            return f"unknown name; did you mean {near[0]}?"
        home = next((name for name, names in _SECTIONS.items() if key in names), "")
        if home:
            return f"unknown name; it belongs into [{home}]"
        if where:
            return f"unknown name in [{where[-1]}]"
        return "unknown name; sections are " + ", ".join(f"[{name}]" for name in _SECTIONS)

    def _finished(self, value: Any, where: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return tuple(value)
        if where in _PATHS and value and self._folder is not None:
            return os.path.join(self._folder, value)
        return value

    def look_across(self, settings: Settings) -> None:
        """Find what is wrong only together."""
        tls = settings.tls
        if bool(tls.certificate) != bool(tls.private_key):
            missing = "private_key" if tls.certificate else "certificate"
            self.error(("tls", missing), "certificate and private_key are needed together")
        if problem := _prefix_problem(settings.storage.shared_prefix):
            self.error(("storage", "shared_prefix"), problem)
        if settings.webhook.url and not re.match(r"https?://[^/]", settings.webhook.url):
            self.error(("webhook", "url"), 'must begin with "http://" or "https://"')
        name, colon, value = settings.delivery.spam_header.partition(":")
        if not name.strip() or not colon or not value.strip():
            self.error(("delivery", "spam_header"), 'must be a field and its value, as "X-Spam-Flag: YES"')
        for text in settings.server.nameservers:
            try:
                host, colon, port = text.rpartition(":")
                numbered = colon and port.isdigit() and (":" not in host or host.endswith("]"))
                ipaddress.ip_address((host if numbered else text).strip("[]"))
            except ValueError:
                self.error(("server", "nameservers"), f"{text}: is no address")
        if settings.queue.retry_first_seconds > settings.queue.retry_longest_seconds:
            self.error(("queue", "retry_first_seconds"), "is more than retry_longest_seconds")


def _prefix_problem(prefix: str) -> str:
    if not prefix:
        return ""
    levels = prefix.removesuffix("/").split("/")
    if not prefix.endswith("/") or not all(levels) or {".", ".."} & set(levels):
        return 'must be levels of a mailbox name, each with "/" behind it, as "Other Users/"'
    if levels[0].upper() == "INBOX":
        return "may not begin with INBOX"
    if not prefix.isprintable() or re.search(r'[*%"\\]', prefix):
        return "may hold no wildcards, quotes, backslashes and control characters"
    return ""


def _sections() -> dict[str, set[str]]:
    hints = typing.get_type_hints(Settings)
    kinds = {f.name: hints[f.name] for f in dataclasses.fields(Settings) if dataclasses.is_dataclass(hints[f.name])}
    return {name: {f.name for f in dataclasses.fields(kind)} for name, kind in kinds.items()}


_SECTIONS = _sections()


def _problem(value: Any, hint: Any, about: Mapping[str, Any]) -> str:
    """Say what is wrong with a value, "" if nothing."""
    if hint is bool:
        return "" if isinstance(value, bool) else "must be true or false"
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            return 'must be a list of texts, as ["a", "b"]'
        return next((f"{word}: {found}" for word in value if (found := _word_problem(word, about["choices"]))), "")
    if isinstance(value, int) and not isinstance(value, bool) and hint is not str:
        return _range_problem(value, about["low"], about["high"])
    if isinstance(value, str) and hint is not int:
        return _word_problem(value, about["choices"])
    if hint is str:
        return 'must be a text in quotes, as "..."'
    return "must be a whole number" + (f" or {_listed(about['choices'])}" if about["choices"] else "")


def _range_problem(value: int, low: int | None, high: int | None) -> str:
    if low is not None and value < low:
        return f"must be at least {low}"
    if high is not None and value > high:
        return f"must be at most {high}"
    return ""


def _word_problem(value: str, choices: tuple[str, ...]) -> str:
    if "\0" in value:
        return "holds a NUL"
    return f"must be {_listed(choices)}" if choices and value not in choices else ""


def _listed(choices: tuple[str, ...]) -> str:
    return " or ".join(f'"{choice}"' for choice in choices)


def _line_numbers(text: str) -> dict[tuple[str, ...], int]:
    """Find on which line each key stands; tomli does not say. Good enough for a message, not a parser."""
    found: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            section = tuple(part.strip("\"' ") for part in header[1].split("."))
            found.setdefault(section, number)
            continue
        key = _KEY.match(line)
        if key:
            found.setdefault((*section, key[1]), number)
            dotted = line.split("=")[0].split(".")
            found.setdefault((*section, *(part.strip("\"' ") for part in dotted)), number)
    return found
