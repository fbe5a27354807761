"""`streamer train`: one training, for people on a file of prices, for the daemon on its history."""

import argparse
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from streamer.commands.arguments import broker_unless_given, count
from streamer.commands.terminal import progress, say
from streamer.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from streamer.core.levels import Change
    from streamer.model.dataset import TrainingSet
    from streamer.model.fit import FitResult, PoolResult
    from streamer.model.pool import Pool
    from streamer.model.store import ModelStore
    from streamer.settings import Settings

_Result = TypeVar("_Result")

_EPILOG = """\
examples:
  streamer train prices.csv --output model
  streamer train prices.csv -c streamer.yaml --output model --json
  streamer train newer.csv --champion model --output challenger     must be no worse, on rows that neither has seen
  streamer train london.csv tokyo.csv --output models               one model for both

The file has a time column, then one column of prices per symbol; its step is found from its rows. The newest share of
the rows (gate.fraction) is kept from the fit: on it the new model meets the champion, or "same as the last price". One
that is promoted is then fitted again on all rows (fit.refit). Several files with the same columns are one training: a
stream each, named as its file, and FOLDER a store of models.

It is for seeing what a training gives. A daemon trains its own models and serves no others; what they would have been
worth on a file, `streamer backtest` says.
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
    parser.add_argument(
        "data", type=Path, nargs="+", metavar="DATA", help="prices: .csv, .parquet, or one history .npz"
    )
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configuration (YAML or JSON)")
    parser.add_argument("-o", "--output", type=Path, default=Path("model"), metavar="FOLDER", help="default: model")
    parser.add_argument(
        "--champion",
        type=Path,
        metavar="FOLDER",
        help="model to be compared with (of several files: the store of theirs, as --output made it)",
    )
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
    from streamer.model import process

    if arguments.background:
        process.step_back()  # before anything is done: to read the settings takes half a second
    elif arguments.attached:
        process.end_with_parent()
    from streamer.config import load

    settings = load(arguments.config, os.environ, broker_unless_given(arguments.config))
    if arguments.background:
        process.limit_memory(arguments.memory_limit or settings.retrain.memory_limit)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what it says of the processor hides what we say
    pool = _histories(arguments.data, settings)
    if _is_single(pool):
        _tell(arguments, _fit(arguments, settings, pool.sets[""]), _summary, _show)
    else:
        _tell(arguments, _fit_pool(arguments, settings, pool), _pool_summary, _show_pool)
    return ExitCode.STOPPED


def _tell(
    arguments: argparse.Namespace,
    result: _Result,
    summary: Callable[[_Result], Mapping[str, Any]],
    show: Callable[[_Result, Path], None],
) -> None:
    if arguments.json:
        print(json.dumps(summary(result)))
    else:
        show(result, arguments.output)


def _is_single(pool: "Pool") -> bool:
    """Whether it is one history without a name, whose model goes to a folder of its own."""
    return list(pool.sets) == [""]


def _histories(paths: list[Path], settings: "Settings") -> "Pool":
    """One history, or of several files those of streams with their names."""
    from streamer.model.pool import Pool, difference

    if len(paths) == 1:
        return Pool.load(paths[0]) if paths[0].suffix == ".npz" else Pool({"": _history(paths[0], settings)})
    first, by_name = paths[0], {path.stem: path for path in paths}
    for path in paths:
        if (other := by_name[path.stem]) is not path:
            raise UsageError(f"{path} and {other} have one name, which is to be their stream's: rename one")
    sets = {name: _history(path, settings) for name, path in by_name.items()}
    usable = sets[first.stem].usable()
    for name, path in by_name.items():
        if differs := difference(sets[name].usable(), usable):
            raise UsageError(f"{path} has other {differs} than {first}: train it by itself")
    return Pool.of(sets)


def _history(path: Path, settings: "Settings") -> "TrainingSet":
    from dataclasses import replace

    from streamer.frames import found_step, milliseconds, read_prices, training_set
    from streamer.service.wiring import engine_settings

    engine = engine_settings(settings)
    prices = read_prices(path, engine.symbols)
    step = found_step(milliseconds(prices.index), str(path))
    if step != engine.step:
        say(f"{path}: the rows keep a step of {step / 1000:g} s, which is used")
    history = training_set(prices, replace(engine, step=step))
    if switched := _switched(history, engine.changes(prices.columns)):
        say(f"{path}: not all prices of {switched} are positive, differences are learned there")
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
    champion = artifact.read(_model_folder(arguments.champion), key) if arguments.champion else None
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


def _model_folder(path: Path) -> Path:
    """UsageError where it holds no model, but perhaps models."""
    from streamer.model.artifact import MANIFEST

    within = sorted(path.glob(f"*/*/{MANIFEST}"))
    if within and not (path / MANIFEST).exists():
        raise UsageError(f"--champion: {path} is a store of models: name one of them, such as {within[0].parent}")
    return path


def _fit_pool(arguments: argparse.Namespace, settings: "Settings", pool: "Pool") -> "PoolResult":
    from streamer.model.fit import fit_pool
    from streamer.service import wiring

    key = settings.models.signing_key
    champions = {}
    if arguments.champion:
        store = _store(arguments.champion, key)
        champions = {name: store.load(name, found[0].id) for name in pool.sets if (found := store.list(name))}
        if not champions:
            raise UsageError(
                f"--champion: {arguments.champion} is no store with a model of {next(iter(pool.sets))!r} or another of "
                "these streams: name the folder that --output made"
            )
    specs = wiring.network_spec(settings), wiring.fit_spec(settings), wiring.gate_spec(settings)
    with _losses(quiet=arguments.json) as said:
        result = fit_pool(pool, *specs, champions, said, arguments.threads)
    store = _store(arguments.output, key)
    for name, artifact in result.artifacts.items():
        store.save(name, artifact)
    return result


def _store(folder: Path, key: bytes | None) -> "ModelStore":
    from streamer.model.store import ModelStore

    return ModelStore(str(folder), keep=1, key=key)


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


def _pool_summary(result: "PoolResult") -> dict[str, Any]:
    """Of each stream, its model says more."""
    figures = result.report.figures()
    return {
        "streams": len(result.artifacts),
        **{name: figures[name] for name in ("ratio", "persistence_ratio", "promoted", "reason")},
        "seconds": {phase: round(spent, 3) for phase, spent in result.seconds.items()},
    }


def _show_pool(result: "PoolResult", folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stream", "model", "ticks", "skill", "to champion or persistence")
    for name, artifact in result.artifacts.items():
        gate = artifact.manifest.gate
        flat, ratio = gate["persistence_ratio"], gate["ratio"]
        skill = "-" if flat is None else f"{1 - flat:+.4f}"
        table.add_row(
            name, artifact.id, str(artifact.manifest.span.rows), skill, "-" if ratio is None else f"{ratio:.4f}"
        )
    console = Console()
    console.print(table)
    console.print(f"models of {len(result.artifacts)} streams in {folder}, {result.report.reason}")
