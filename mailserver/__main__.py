"""``python -m mailserver``: serve, or one of the commands."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import mailserver
from mailserver.ops import log as logging
from mailserver.ops.cli.common import complain
from mailserver.ops.cli.failure import Failure

# command -> module with HELP, add_arguments(parser), run(arguments) -> status
COMMANDS = {
    "check-config": "mailserver.ops.cli.check_config",
    "doctor": "mailserver.ops.cli.doctor",
    "export": "mailserver.ops.cli.exporting",
    "import": "mailserver.ops.cli.importing",
    "mailbox": "mailserver.ops.cli.mailbox",
    "queue": "mailserver.ops.cli.queue",
    "user": "mailserver.ops.cli.user",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        complain(f"{message}; try --help")
        raise SystemExit(os.EX_USAGE)


def _command(words: Sequence[str]) -> tuple[Any, argparse.Namespace]:
    if words and words[0] in COMMANDS:
        module = importlib.import_module(COMMANDS[words[0]])
        parser = _Parser(prog=f"mailserver {words[0]}", description=module.HELP)
        module.add_arguments(parser)
        return module, parser.parse_args(words[1:])
    if words and not words[0].startswith("-"):
        complain(f"{words[0]}: no such command; there are {', '.join(COMMANDS)}")
        raise SystemExit(os.EX_USAGE)
    from mailserver.ops.cli import serve

    parser = _Parser(prog="mailserver", description=mailserver.__doc__, epilog=_epilog(), formatter_class=_Raw)
    parser.add_argument("--version", action="version", version=f"mailserver {mailserver.__version__}")
    serve.add_arguments(parser)
    return serve, parser.parse_args(words)


_Raw = argparse.RawDescriptionHelpFormatter


def _epilog() -> str:
    modules = {name: importlib.import_module(path) for name, path in COMMANDS.items()}
    return "commands:\n" + "\n".join(f"  {name:14} {module.HELP}" for name, module in modules.items())


def main(words: Sequence[str] | None = None) -> int:
    """Run; return the exit status. Errors are one line on standard error."""
    module, arguments = _command(sys.argv[1:] if words is None else words)
    try:
        status: int = module.run(arguments)
    except Failure as failure:
        complain(str(failure))
        return failure.status
    except BrokenPipeError:  # the reader of our output has seen enough
        return os.EX_OK
    except KeyboardInterrupt:
        complain("interrupted")
        return 128 + signal.SIGINT
    except Exception as error:  # a fault of ours: the log line has the trace, in one line, under the id
        identity = logging.get("app").exception("fault")
        complain(f"internal fault {identity}: {type(error).__name__}: {error}")
        return os.EX_SOFTWARE
    return status


if __name__ == "__main__":
    raise SystemExit(main())
