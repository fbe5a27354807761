"""`streamer train`: one training, for people on a file of prices, for the daemon on its history."""

import argparse
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.commands.arguments import broker_unless_given, count
from streamer.commands.terminal import progress, say
from streamer.errors import ExitCode

if TYPE_CHECKING:
    from streamer.core.levels import Change
    from streamer.model.dataset import TrainingSet
    from streamer.model.fit import FitResult
    from streamer.settings import Settings

_EPILOG = """\
examples:
  streamer train prices.csv --output model
  streamer train prices.csv -c streamer.yaml --output model --json
  streamer train prices.csv --champion model --output challenger    must be no worse than that one

The file has a time column, then one column of prices per symbol; its step is found from its rows. The newest share of
the rows (gate.fraction) is kept from the fit: on it the new model meets the champion, or "same as the last price". One
that is promoted is then fitted again on all rows (fit.refit).
"""


def add_parser(commands: Any) -> None:
    """Add `train` to the commands."""
    parser = commands.add_parser(
        "train",
        help="train a model on a file of prices",
        description="Train a model, judge it at the gate, and write it to a folder.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="prices: .csv, .parquet, or a history .npz")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument("-o", "--output", type=Path, default=Path("model"), metavar="FOLDER", help="default: model")
    parser.add_argument("--champion", type=Path, metavar="FOLDER", help="model in service, to be compared with")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="processors to use (default 1)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--background", action="store_true", help="give way to all other work, and end when stdin ends")
    parser.add_argument("--attached", action="store_true", help="end when stdin ends")
    parser.add_argument(
        "--memory-limit", type=int, metavar="BYTES", help="with --background (default: retrain.memory_limit)"
    )
    parser.set_defaults(handler=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Train; exit code 0 whether promoted or rejected, as both are answers."""
    from streamer.config import load

    settings = load(arguments.config, os.environ, broker_unless_given(arguments.config))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what it says of the processor hides what we say
    if arguments.background:
        from streamer.model.process import background

        background(arguments.memory_limit or settings.retrain.memory_limit)
    elif arguments.attached:
        from streamer.model.process import end_with_parent

        end_with_parent()
    history = _history(arguments.data, settings)
    result = _fit(arguments, settings, history)
    if arguments.json:
        print(json.dumps(_summary(result)))
    else:
        _show(result, arguments.output)
    return ExitCode.STOPPED


def _history(path: Path, settings: "Settings") -> "TrainingSet":
    from dataclasses import replace

    from streamer.model.dataset import TrainingSet

    if path.suffix == ".npz":
        return TrainingSet.load(path)
    from streamer.frames import found_step, milliseconds, read_prices, training_set
    from streamer.service.wiring import engine_settings

    engine = engine_settings(settings)
    prices = read_prices(path, engine.symbols)
    step = found_step(milliseconds(prices.index), str(path))
    if step != engine.step:
        say(f"the rows keep a step of {step / 1000:g} s, which is used")
    history = training_set(prices, replace(engine, step=step))
    if switched := _switched(history, engine.changes(prices.columns)):
        say(f"not all prices of {switched} are positive, differences are learned there")
    return history


def _switched(history: "TrainingSet", changes: list["Change"]) -> str:
    """The symbols that `auto` takes differences of, with commas; empty where there are none."""
    named = zip(history.symbols, changes, history.change.changes, strict=True)
    return ", ".join([symbol for symbol, wanted, found in named if wanted == "auto" and found == "difference"])


def _fit(arguments: argparse.Namespace, settings: "Settings", history: "TrainingSet") -> "FitResult":
    from streamer.model import artifact
    from streamer.model.fit import fit
    from streamer.service import wiring

    key = settings.models.signing_key
    champion = artifact.read(arguments.champion, key) if arguments.champion else None
    with _losses(quiet=arguments.json) as said:
        return fit(
            history,
            wiring.network_spec(settings),
            wiring.fit_spec(settings),
            wiring.gate_spec(settings),
            champion,
            arguments.output,
            said,
            arguments.threads,
            key,
        )


@contextmanager
def _losses(quiet: bool) -> Iterator[Callable[..., None]]:
    """Progress with the losses."""
    with progress("training", None, quiet=quiet) as advance:

        def said(step: int, total: int, loss: float, stop_loss: float) -> None:
            beside = "refit on all rows" if math.isnan(stop_loss) else f"stop slice {stop_loss:.4f}"
            advance(step, f"loss {loss:.4f}, {beside}", total)

        yield said


def _summary(result: "FitResult") -> dict[str, Any]:
    return {
        "model": result.model_id,
        "promoted": result.promoted,
        **{name: value for name, value in result.report.figures().items() if name != "promoted"},
        "seconds": {phase: round(spent, 3) for phase, spent in result.seconds.items()},
    }


def _show(result: "FitResult", folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("symbol", "forecasts", "RMSE", "persistence", "skill", "champion", "beside it")
    for name, score in result.report.symbols.items():
        skill = f"{1 - score.challenger / score.persistence:+.4f}" if score.persistence else "-"
        errors = (score.challenger, score.persistence, score.incumbent, score.beside)
        own, flat, champion, beside = ("-" if error is None else f"{error:.6g}" for error in errors)
        table.add_row(name, str(score.n), own, flat, skill, champion, beside)
    console = Console()
    console.print(table)
    console.print(f"model {result.model_id} in {folder}, {result.report.reason}")
