"""`streamer run`: the daemon."""

import argparse
import asyncio
import os
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
    from streamer.commands.interrupt import stop_on_signals
    from streamer.config import load
    from streamer.service import logs
    from streamer.service.daemon import Daemon

    settings = load(arguments.config, os.environ)
    logs.configure(settings.log.level, settings.log.format)

    async def serve() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        await Daemon(settings, stop, schedule=arguments.schedule).run()

    asyncio.run(serve())
    return ExitCode.STOPPED
