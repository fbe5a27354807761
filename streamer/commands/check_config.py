"""`streamer check-config`: what a configuration comes to, or all that is wrong with it."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from streamer.errors import ExitCode, UsageError

_EPILOG = """\
examples:
  streamer check-config config/streamer.yaml
  STREAMER_KAFKA__BOOTSTRAP_SERVERS=broker:9092 streamer check-config --json

exit codes: 0 the settings can be used (not that the broker is there); 3 they cannot.
"""


def add_parser(commands: Any) -> None:
    """Add `check-config` to the commands."""
    parser = commands.add_parser(
        "check-config",
        help="show the effective settings, or what is wrong with them",
        description="Print the settings that a file and the environment come to, secrets masked. Problems go to"
        " standard error, one a line.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="the same, as other commands take it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of YAML")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Print the settings or the problems."""
    from streamer.config import SettingsError, load

    if arguments.file and arguments.config:
        raise UsageError("check-config: give the file once, as FILE or as -c FILE")
    try:
        settings = load(arguments.file or arguments.config, os.environ)
    except SettingsError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps(settings.model_dump(), indent=2, ensure_ascii=False))
    else:
        print(settings.effective(), end="")
    return ExitCode.STOPPED
