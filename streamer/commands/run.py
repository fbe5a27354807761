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

SIGHUP, or POST /-/reload with the bearer token, reads FILE, the STREAMER_ variables that it was started with, and the
files that hold secrets anew. What they come to is checked whole, as at the start, and then taken over, in each
partition between two ticks; or refused whole, with the reason in the log and the answer, and all goes on as before.
kafka.*, http.host, http.port, models.url, models.hmac_key and models.hmac_key_file need a restart: a reload that would
change one of them is refused, and names it. A change of feed.step, symbols, targets, inputs, change or window,
input.assemble, scoring.window or interval.coverage lets the streams begin anew on their last feed.window ticks, as a
restart with it would.
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
    from streamer.commands.interrupt import ignore_hangups, on_hangup, stop_on_signals

    ignore_hangups()  # the first may come before there is anything to reload
    from streamer.config import Settings, load
    from streamer.service import interpreter, logs
    from streamer.service.daemon import Daemon

    def read_again() -> Settings:
        return load(arguments.config, os.environ, again=True)

    settings = load(arguments.config, os.environ)
    logs.configure(settings.log.level, settings.log.format)
    interpreter.settle()

    async def serve() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        daemon = Daemon(settings, stop, schedule=arguments.schedule, load=read_again)
        with on_hangup(daemon.ask_for_reload):
            await daemon.run()

    asyncio.run(serve())
    return ExitCode.STOPPED
