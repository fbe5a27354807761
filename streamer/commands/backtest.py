"""`streamer backtest`: what the daemon's forecasts of a file of prices would have been worth."""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands import arguments as types
from streamer.commands.terminal import LINE_SECONDS, is_live, say
from streamer.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from streamer.backtesting import Backtest, Record, Result
    from streamer.backtesting.run import Reporter
    from streamer.settings import Settings

_SHOWN = 40  # symbols in the table: the rest is in the files
_PIPED_WIDTH = 200  # columns, where no terminal says how many it has
_MARK = ".backtest"  # in the folder of models, so that a daemon's models are never taken for ours

_EPILOG = """\
examples:
  streamer backtest prices.csv -o result
  streamer backtest prices.csv -o result --targets AAPL,MSFT --retrain-every 0 --json
  streamer backtest prices.csv -o again --schedule result/models    the same models, without training

The engine of `streamer run` goes over the file: each row is forecast before it is read, and models are trained on what
came before. The first rows are history only; of the rest FOLDER gets predicted.csv, test_data.csv, report.html,
summary.json and the models. The step is found from the rows. Ctrl-C ends it and writes what is done.
"""


def add_parser(commands: Any) -> None:
    """Add `backtest` to the commands."""
    parser = commands.add_parser(
        "backtest",
        help="find out what the forecasts of a file of prices would have been worth",
        description="Run the daemon's engine over a file, with its trainings, and score it beside the last price.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="prices: .csv or .parquet, a time column, then a symbol each"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("backtest"), metavar="FOLDER", help="default: backtest"
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument(
        "--train-fraction", type=types.share, default=0.9, metavar="N", help="share that is history only (default 0.9)"
    )
    parser.add_argument(
        "--retrain-every", type=types.natural, metavar="N", help="ticks (default: retrain.every); 0: train once"
    )
    parser.add_argument(
        "--swap-after", type=types.natural, default=1, metavar="N", help="ticks from a training's last row (default 1)"
    )
    parser.add_argument("--targets", metavar="A,B", help="symbols to forecast (default: feed.targets, else all)")
    parser.add_argument("--seed", type=types.natural, metavar="N", help="default: fit.seed")
    parser.add_argument("--schedule", metavar="URL", help="model store whose recorded swaps replace training")
    parser.add_argument("--stream", metavar="NAME", help="stream in the model stores (default: kafka.topics.prices-0)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Run it; 0 at the end, and after a Ctrl-C that left something to write."""
    from streamer.backtesting import Options, prepare
    from streamer.frames import read_prices
    from streamer.service import logs

    logs.configure("warning", "text")
    settings = _settings(arguments)
    prices = read_prices(arguments.data, settings.feed.symbols)
    options = Options(
        train_fraction=arguments.train_fraction,
        retrain_every=arguments.retrain_every,
        swap_after=arguments.swap_after,
    )
    with _reporter() as reporter:
        backtest = prepare(
            prices,
            settings,
            options,
            name=str(arguments.data),
            schedule=arguments.schedule,
            stream=arguments.stream,
            reporter=reporter,
        )
        if arguments.schedule is None:  # only now: what is refused must not cost an earlier result its models
            backtest.record = _record(arguments, settings)
        for notice in backtest.rows.notices:
            say(notice)
        result = _run(backtest)
    for notice in result.notices[len(backtest.rows.notices) :]:
        say(notice)
    result.write(arguments.output)
    if arguments.json:
        print(json.dumps(result.summary, ensure_ascii=False))
    else:
        _show(result, arguments.output)
    return ExitCode.STOPPED


def _settings(arguments: argparse.Namespace) -> "Settings":
    from streamer.config import load

    overrides: dict[str, Any] = dict(types.broker_unless_given(arguments.config))
    if arguments.targets is not None:
        overrides["feed.targets"] = [name.strip() for name in arguments.targets.split(",")]
    if arguments.seed is not None:
        overrides["fit.seed"] = arguments.seed
    return load(arguments.config, os.environ, overrides)


def _record(arguments: argparse.Namespace, settings: "Settings") -> "Record":
    """FOLDER/models, without what an earlier backtest left there: its swaps would be taken for this one's."""
    from streamer.backtesting import Record, stream_name
    from streamer.service.wiring import model_store

    folder: Path = arguments.output / "models"
    try:
        if folder.exists() and any(folder.iterdir()):
            if not (folder / _MARK).exists():
                raise UsageError(f"{folder} is there already and is no backtest's: choose another FOLDER")
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return Record(model_store(settings, str(folder)), arguments.stream or stream_name(settings))


def _run(backtest: "Backtest") -> "Result":
    """To the end, or to a Ctrl-C or SIGTERM."""
    from streamer.backtesting import Result

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        backtest.run()
    except KeyboardInterrupt:
        if not backtest.trail.done:
            raise
        say("interrupted: writing what is done")
        return Result(backtest, interrupted=True)
    finally:
        signal.signal(signal.SIGTERM, before)
    return Result(backtest)


# Progress, on standard error


@contextmanager
def _reporter() -> "Iterator[Reporter]":
    """A progress bar on a terminal, plain lines elsewhere."""
    if not is_live(sys.stderr):
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield _Bar(progress, progress.add_task("", total=None, left=""))


class _Bar:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress = progress
        self._task = task

    def stage(self, text: str) -> None:
        self._progress.update(self._task, description=text)

    def note(self, text: str) -> None:
        self._progress.console.print(f"streamer: {text}", markup=False, highlight=False, soft_wrap=True)

    def rows(self, done: int, total: int, seconds_left: float | None) -> None:
        self._progress.update(self._task, completed=done, total=total, left=_Countdown(seconds_left))


class _Countdown:
    """The time left when it is shown: it goes on through a training, in which no row is done."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def __str__(self) -> str:
        return _left(None if self._end is None else max(0.0, self._end - time.monotonic()))


class _Lines:
    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def stage(self, text: str) -> None:
        self._said_at = time.monotonic()
        say(text)

    def note(self, text: str) -> None:
        say(text)

    def rows(self, done: int, total: int, seconds_left: float | None) -> None:
        if time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            say(f"{done} of {total} rows, {_left(seconds_left)}")


def _left(seconds: float | None) -> str:
    return "time left not known yet" if seconds is None else f"{seconds // 60:.0f}:{seconds % 60:02.0f} left"


# The result


def _show(result: "Result", folder: Path) -> None:
    from rich.console import Console

    from streamer.backtesting.result import formatted

    summary = result.summary
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    trainings = ", ".join(f"{count} {outcome}" for outcome, count in summary["trainings"].items()) or "none"
    span = f"{summary['first']} to {summary['last']}"
    console.print(f"{summary['forecast_rows']} rows forecast, {span}; trainings: {trainings}")
    others = [name for name in result.scores.columns if name.endswith("_rmse")]
    errors = {"n": "scored", "rmse": "RMSE", **{name: name.removesuffix("_rmse") for name in others}, "skill": "skill"}
    intervals = {
        "coverage": "coverage",
        "width": "width",
        "winkler": "Winkler",
        "persistence_winkler": "persistence's Winkler",
    }
    for headings in (errors, intervals):
        console.print(_table(summary["symbols"], headings))
    if len(summary["symbols"]) > _SHOWN:
        console.print(f"and {len(summary['symbols']) - _SHOWN} symbols more, in {folder / 'summary.json'}")
    ratio, coverage, winkler = (formatted(name, summary[name]) for name in ("ratio", "coverage", "winkler_ratio"))
    console.print(
        f"RMSE over that of the last price: {ratio}; coverage: {coverage}; "
        f"interval score over the last price's: {winkler}"
    )
    console.print(f"report: {folder / 'report.html'}")


def _table(symbols: dict[str, dict[str, Any]], headings: dict[str, str]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from streamer.backtesting.result import formatted

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("symbol", overflow="fold")
    for heading in headings.values():
        table.add_column(heading, justify="right", overflow="fold")
    for symbol, figures in list(symbols.items())[:_SHOWN]:
        table.add_row(Text(symbol), *(formatted(name, figures[name]) for name in headings))
    return table
