"""The `streamer` command: parses arguments, runs one command, turns errors into one line and an exit code."""

import argparse
import os
import sys
from collections.abc import Sequence

from streamer import __version__
from streamer.commands import (
    adjust,
    backtest,
    check_config,
    completion,
    data,
    demo,
    dlq,
    feed,
    models,
    run,
    tail,
    train,
    verify,
)
from streamer.commands.parser import Parser
from streamer.errors import ExitCode, StreamerError

_COMMANDS = (run, check_config, demo, backtest, data, feed, tail, dlq, train, models, adjust, verify, completion)

_EPILOG = """\
examples:
  streamer demo                               see it work, with nothing else installed
  streamer check-config config/streamer.yaml  show the effective settings
  streamer run -c config/streamer.yaml        serve forecasts from your Kafka
  streamer tail -c config/streamer.yaml       watch them
  streamer backtest prices.csv -o result      what would they have been worth?
  streamer tail --help                        what a command does, with examples

exit codes: 0 stopped as asked; 1 failed, a restart may help; 2 wrong usage; 3 a configuration or start-up that a
restart cannot mend; 130 Ctrl-C before there was anything to keep.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `streamer` with `argv` (default: the process's own); returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.handler(arguments))
    except StreamerError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 128 + 2  # as a shell reports a process that SIGINT ended
    except BrokenPipeError:
        # Whoever read our output (`head`, a pager) has had enough: no fault, and nothing more to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.STOPPED


def _say(text: str) -> None:
    print(f"streamer: {' '.join(text.split())}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="streamer",
        description="One-step-ahead forecasts of price vectors, live from Kafka, with their honest error.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"streamer {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    parser.set_defaults(root=parser)  # completion describes it
    return parser
