"""`streamer run`: the daemon."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from streamer.errors import ExitCode

_EPILOG = """\
examples:
  streamer run -c config/streamer.yaml
  STREAMER_KAFKA__BOOTSTRAP_SERVERS=broker:9092 streamer run
  streamer run -c streamer.yaml --schedule models    the swaps of an earlier run, instead of training

SIGTERM and Ctrl-C stop it after the batch in hand; a second Ctrl-C stops it at once.
"""


def add_parser(commands: Any) -> None:
    """Add `run` to the commands."""
    parser = commands.add_parser(
        "run",
        help="serve forecasts from Kafka until stopped",
        description="Consume price vectors from Kafka, publish forecasts, retrain, export metrics.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument(
        "--schedule", metavar="URL", help="model store of an earlier run, whose recorded swaps replace training"
    )
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    from streamer.config import load
    from streamer.service import logs
    from streamer.service.daemon import Daemon

    settings = load(arguments.config, os.environ)
    logs.configure(settings.log.level, settings.log.format)

    async def serve() -> None:
        stop = asyncio.Event()
        _stop_on_signals(stop)
        await Daemon(settings, stop, schedule=arguments.schedule).run()

    asyncio.run(serve())
    return ExitCode.STOPPED


def _stop_on_signals(stop: asyncio.Event) -> None:
    def asked(number: int) -> None:
        if stop.is_set() and number == signal.SIGINT:
            print("streamer: stopped at once; the next start takes up from the last commit", file=sys.stderr)
            os._exit(ExitCode.FAILURE)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
