"""What the commands share: output, and the settings they begin with."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from mailserver.config.load import ConfigError, find, load
from mailserver.config.schema import Settings
from mailserver.ops.cli.failure import Failure, explain


def say(text: str) -> None:
    """Write a line to standard output; what its encoding does not have, by its number."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"mailserver: {text}\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """Write a value as JSON. Names of files may have octets that are no text, and a terminal another alphabet."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    say(text)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings; else $MAILSERVER_CONFIG, ./mailserver.toml, /etc/..."
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def config_path(arguments: argparse.Namespace) -> Path | None:
    """Return the file of settings, None if there is none."""
    return find(arguments.config)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """Read the settings; the defaults if there is no file. Raises `Failure`."""
    path = config_path(arguments)
    if path is None:
        return Settings()
    try:
        return load(path)
    except ConfigError as error:
        raise Failure(os.EX_CONFIG, "\nmailserver: ".join(error.errors)) from error
    except OSError as error:
        raise explain(error, path) from error
