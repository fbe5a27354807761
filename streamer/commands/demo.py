"""`streamer demo`: see it work, with nothing else installed."""

import argparse
import asyncio
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.commands.interrupt import stop_on_signals
from streamer.commands.terminal import LINE_SECONDS, is_live, say
from streamer.errors import ExitCode

if TYPE_CHECKING:
    from streamer.demonstration import Reporter, Summary
    from streamer.settings import Settings


_EPILOG = """\
examples:
  streamer demo                                   until Ctrl-C
  streamer demo --ticks 1500 --json
  streamer demo --rate 20 --ticks 6000 --keep     slower, to look at its metrics meanwhile

It starts a Kafka broker inside its own process, feeds it two sawtooth prices, and runs the daemon against it: the
forecasts are the last price until the first model is trained, then that model's. The table compares both errors over
all forecasts since then. Ctrl-C ends it.
"""


def add_parser(commands: Any) -> None:
    """Add `demo` to the commands."""
    parser = commands.add_parser(
        "demo",
        help="see it work, with nothing else installed",
        description="Run the daemon on an embedded broker with prices that can be learned, and sum up.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--ticks", type=types.count, metavar="N", help="ticks to feed (default: 3000, then one a second until Ctrl-C)"
    )
    parser.add_argument(
        "--rate", type=types.rate, default=150.0, metavar="N", help="ticks a second (default 150); 0: no pause"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument(
        "--port", type=types.port, default=9108, metavar="N", help="of the live page and metrics (default 9108)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with the models and the daemon's log")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Run the demo in a folder of its own, which is kept if it fails."""
    folder = Path(tempfile.mkdtemp(prefix="streamer-demo-"))
    try:
        summary = _run(arguments, folder)
    except BaseException:
        say(f"the daemon's log is {folder / 'daemon.log'}")
        raise
    if arguments.keep:
        say(f"models and log are in {folder}")
    else:
        shutil.rmtree(folder)
    if arguments.json:
        print(json.dumps(summary))
    else:
        _print_table(summary)
    return ExitCode.STOPPED


def _run(arguments: argparse.Namespace, folder: Path) -> "Summary":
    from streamer.demonstration import demo_settings, embedded_broker
    from streamer.service import logs
    from streamer.settings import Topics

    port = _free_port(arguments.port)
    with (folder / "daemon.log").open("w") as log, embedded_broker(list(Topics().model_dump().values())) as address:
        logs.configure("info", "text", log)
        settings = demo_settings(address, folder / "models", port)
        say(f"live page: http://{settings.http.host}:{port} (metrics at /metrics)")
        with _reporter(arguments.ticks) as reporter:
            return asyncio.run(_demonstrate(settings, arguments, reporter))


async def _demonstrate(settings: "Settings", arguments: argparse.Namespace, reporter: "Reporter") -> "Summary":
    from streamer.demonstration import Demonstration

    stop = asyncio.Event()
    stop_on_signals(stop)
    return await Demonstration(settings, arguments.ticks, arguments.rate, reporter, stop).run()


def _free_port(wanted: int) -> int:
    """`wanted`, or another if someone listens there."""
    try:
        with socket.create_server(("127.0.0.1", wanted)) as server:
            port: int = server.getsockname()[1]
            return port
    except OSError:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        say(f"port {wanted} is taken, using {port}")
        return port


# Progress, on standard error


@contextmanager
def _reporter(total: int | None) -> "Iterator[Reporter]":
    """A progress bar on a terminal, plain lines elsewhere."""
    if not is_live(sys.stderr):
        yield _Lines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Bar(progress, progress.add_task("", total=total))


class _Bar:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress = progress
        self._task = task

    def stage(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def forecasts(self, count: int) -> None:
        self._progress.update(self._task, completed=count)


class _Lines:
    def __init__(self, total: int | None) -> None:
        self._of = "" if total is None else f" of {total}"
        self._said_at = time.monotonic()

    def stage(self, text: str) -> None:
        self._said_at = time.monotonic()
        say(text)

    def forecasts(self, count: int) -> None:
        if time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            say(f"{count}{self._of} forecasts")


# The result


def _print_table(summary: "Summary") -> None:
    from rich.console import Console
    from rich.table import Table

    retrains = ", ".join(f"{count} {outcome}" for outcome, count in summary["retrains"].items()) or "none"
    table = Table()
    table.add_column("symbol")
    for heading in ("scored", "RMSE", "RMSE of last price", "skill"):
        table.add_column(heading, justify="right")
    for symbol, scores in summary["symbols"].items():
        figures = (_figure(scores[name]) for name in ("rmse", "persistence_rmse", "skill"))
        table.add_row(symbol, str(scores["n"]), *figures)
    console = Console()
    console.print(f"{summary['ticks']} ticks, {summary['forecasts']} forecasts, trainings: {retrains}")
    console.print("Errors of the forecasts since a model first served:")
    console.print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
