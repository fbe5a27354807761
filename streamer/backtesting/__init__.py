"""Backtests: the daemon's engine over a table of prices, with its trainings, and what that would have been worth."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from streamer.backtesting.result import Result
from streamer.backtesting.rows import check
from streamer.backtesting.run import Backtest, Learning, Options, Record, Reporter, Schedule
from streamer.config import load
from streamer.core.outcome import Swap
from streamer.errors import UsageError
from streamer.frames import price_table
from streamer.model.forecaster import LstmForecaster
from streamer.notebook import NO_BROKER
from streamer.service import fitting, wiring
from streamer.settings import Settings

__all__ = ["Backtest", "Options", "Record", "Result", "backtest", "prepare", "stream_name"]

_NAMED = 5  # streams of a store, in an error


def backtest(
    frame: pd.DataFrame,
    settings: Settings | Mapping[str, Any] | None = None,
    *,
    train_fraction: float = 0.9,
    retrain_every: int | None = None,
    swap_after: int = 1,
    schedule: str | None = None,
    models: str | None = None,
    stream: str | None = None,
) -> Result:
    """Run the engine over `frame` and say how good its forecasts were.

    frame: indexed by time (UTC without a zone), or with the time in its first column; a column of prices per symbol,
    NaN where blank. settings: as of `streamer run`, or values by dotted key such as `{"fit.seed": 3}`; None: defaults.
    train_fraction, retrain_every, swap_after: see `Options`. schedule: URL of a model store whose recorded swaps are
    repeated instead of training. models: URL of an empty model store, to record models and swaps in. stream: name of
    the stream in these stores; None: that of the daemon's first partition.

    Raises StreamerError: UsageError for a frame that cannot be used, ConfigError, TrainingError, ArtifactError.
    """
    known = settings if isinstance(settings, Settings) else load(None, {}, {**NO_BROKER, **(settings or {})})
    prices = price_table(frame, known.feed.symbols, "the frame")
    options = Options(train_fraction=train_fraction, retrain_every=retrain_every, swap_after=swap_after)
    record = None if models is None else Record(wiring.model_store(known, models), stream or stream_name(known))
    run = prepare(prices, known, options, schedule=schedule, stream=stream, record=record)
    run.run()
    return Result(run)


def prepare(
    prices: pd.DataFrame,
    settings: Settings,
    options: Options,
    *,
    name: str = "the frame",
    schedule: str | None = None,
    stream: str | None = None,
    record: Record | None = None,
    reporter: Reporter | None = None,
) -> Backtest:
    """A backtest of a table as `frames.price_table` gives it, to be run; arguments as those of `backtest`."""
    engine = wiring.engine_settings(settings)
    rows = check(prices, engine, name)
    models = _learning(settings) if schedule is None else _schedule(schedule, stream or stream_name(settings), settings)
    return Backtest(rows, engine, options, models, record, reporter)


def stream_name(settings: Settings) -> str:
    """Name of the stream that a daemon gives to ticks without a key on its first partition."""
    return f"{settings.kafka.topics.prices}-0"


def _learning(settings: Settings) -> Learning:
    config = fitting.configuration(settings)
    return Learning(
        lambda history, champion: fitting.train(config, settings.retrain.time_limit, history, champion),
        LstmForecaster.from_artifact,
    )


def _schedule(url: str, stream: str, settings: Settings) -> Schedule:
    store = wiring.model_store(settings, url)
    swaps = [Swap(**swap) for swap in store.swaps(stream)]
    if not swaps:
        known = [name for name in store.streams() if store.swaps(name)]
        if not known:
            raise UsageError(f"no swap is recorded in {url}: a schedule is the store of a daemon, or of a backtest")
        there = f"{', '.join(map(repr, known[:_NAMED]))}{', ...' if len(known) > _NAMED else ''}"
        raise UsageError(f"no swap of stream {stream!r} is recorded in {url}: name another ({there}) with --stream")
    return Schedule(swaps, lambda model_id: LstmForecaster.from_artifact(store.load(stream, model_id)))
