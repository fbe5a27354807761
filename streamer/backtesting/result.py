"""What a backtest gives: pandas frames, a summary, and files."""

import json
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from streamer.backtesting import scores
from streamer.backtesting.rows import readable
from streamer.backtesting.run import Backtest
from streamer.backtesting.scores import Column, Score
from streamer.codec import format_time
from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.core.grid import Floats
from streamer.errors import UsageError
from streamer.frames import milliseconds

if TYPE_CHECKING:
    import plotly.graph_objects as go

PREDICTED, TEST_DATA, REPORT, SUMMARY = "predicted.csv", "test_data.csv", "report.html", "summary.json"


class Result:
    """What a backtest found, up to where it came. Read-only.

    Frames are indexed by target time (UTC), with a column per target; NaN: no forecast, or no price.
    """

    def __init__(self, backtest: Backtest, *, interrupted: bool = False) -> None:
        self._backtest = backtest
        self._done = backtest.trail.done
        self.interrupted = interrupted

    @cached_property
    def times(self) -> pd.DatetimeIndex:
        """Target times of the forecasts, as the data has them."""
        first = self._backtest.trail.first
        index = _utc(self._backtest.rows.times[first : first + self._done])
        return index.rename("timestamp")

    @property
    def targets(self) -> tuple[str, ...]:
        """What was forecast."""
        return self._backtest.rows.targets

    @property
    def coverage(self) -> float:
        """What share of prices the intervals were made for."""
        return self._backtest.settings.coverage

    @property
    def notices(self) -> tuple[str, ...]:
        """What was found odd in the data, and what was done about it."""
        return self._backtest.notices

    @property
    def predicted(self) -> pd.DataFrame:
        """Forecasts as served."""
        return self.forecasters[SERVED]

    @cached_property
    def actual(self) -> pd.DataFrame:
        """Prices that then came, as far as the engine could use them."""
        return pd.DataFrame({column.symbol: column.actual for column in self.columns}, self.times)

    @cached_property
    def lower(self) -> pd.DataFrame:
        """Lower bounds of the intervals."""
        return self._frame(self._backtest.trail.lower)

    @cached_property
    def upper(self) -> pd.DataFrame:
        """Upper bounds of the intervals."""
        return self._frame(self._backtest.trail.upper)

    @cached_property
    def forecasters(self) -> Mapping[str, pd.DataFrame]:
        """Forecasts by forecaster: as served, and what each of the others would have said."""
        return {name: self._frame(values) for name, values in self._backtest.trail.yhat.items()}

    @cached_property
    def models(self) -> "pd.Series[str]":
        """The model that made the forecasts of each time, "" where none was made."""
        return pd.Series(self._backtest.trail.models[: self._done], self.times, dtype=str)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Figures, a row per target, columns as in the summary."""
        figures = {score.symbol: score.figures() for score in self.by_symbol}
        return pd.DataFrame.from_dict(figures, orient="index").rename_axis("symbol")

    @cached_property
    def shares(self) -> pd.DataFrame:
        """Weights of the experts now and then: time, target, expert, weight."""
        times, samples = self._backtest.rows.times, self._backtest.trail.shares
        found = [
            (times[sample.row], sample.target, expert, weight)
            for sample in samples
            for expert, weight in sample.weights.items()
        ]
        frame = pd.DataFrame(found, columns=["time", "target", "expert", "weight"])
        return frame.assign(time=_utc(frame["time"].to_numpy(np.int64)))

    @cached_property
    def trainings(self) -> pd.DataFrame:
        """A row per training: time of the last row that it saw, ticks, outcome, and the gate's figures."""
        names = ["after", "ticks", "due", "outcome", "model", "ratio", "persistence_ratio", "reason"]
        times = self._backtest.rows.times
        found = [
            (
                times[each.row],
                each.ticks,
                each.due,
                each.outcome,
                each.model,
                each.figures.get("ratio"),
                each.figures.get("persistence_ratio"),
                each.reason,
            )
            for each in self._backtest.trainings
        ]
        frame = pd.DataFrame(found, columns=names)
        return frame.assign(after=_utc(frame["after"].to_numpy(np.int64)))

    @cached_property
    def swaps(self) -> pd.DataFrame:
        """A row per model that began to serve: after which tick, and how it had caught up."""
        swaps = [service.swap for service in self._backtest.services]
        found = [(swap.model, swap.after, swap.start, swap.ticks) for swap in swaps]
        frame = pd.DataFrame(found, columns=["model", "after", "start", "ticks"])
        return frame.assign(after=_utc(frame["after"].to_numpy(np.int64)))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All that is known of each target, as arrays."""
        rows, trail = self._backtest.rows, self._backtest.trail
        prices = readable(rows.prices[: trail.first + self._done], rows.symbols, self._backtest.settings)
        before = scores.changes_before(prices, trail.first)
        found = []
        for place, target in enumerate(rows.targets):
            column, cells = rows.symbols.index(target), (slice(self._done), place)
            yhat = {name: values[cells] for name, values in trail.yhat.items()}
            bounds = (trail.lower, trail.upper, trail.baseline_lower, trail.baseline_upper)
            actual = prices[trail.first :, column]
            found.append(Column(target, actual, before[:, column], yhat, *(values[cells] for values in bounds)))
        return tuple(found)

    @cached_property
    def by_symbol(self) -> tuple[Score, ...]:
        """Figures of each target."""
        return tuple(column.score(self.coverage) for column in self.columns)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """All figures, as `--json` prints them; those not of a symbol are over all targets. None: nothing to say."""
        rows, times = self._backtest.rows, milliseconds(self.times).tolist()
        served = scores.ratio(self.by_symbol)
        others = [name for name in FORECASTERS if name not in (SERVED, PERSISTENCE)]
        return {
            "rows": len(rows),
            "history_rows": self._backtest.trail.first,
            "forecast_rows": len(times),
            "first": format_time(times[0]) if times else None,
            "last": format_time(times[-1]) if times else None,
            "step_seconds": rows.step / 1000,
            "interrupted": self.interrupted,
            "ratio": served,
            "skill": None if served is None else 1.0 - served,
            **{f"{name}_ratio": scores.ratio(self.by_symbol, name) for name in others},
            "coverage": scores.pooled_coverage(self.by_symbol),
            "winkler_ratio": scores.winkler_ratio(self.by_symbol),
            "symbols": {score.symbol: score.figures() for score in self.by_symbol},
            "trainings": dict(Counter(training.outcome for training in self._backtest.trainings)),
            "models": _records(self.trainings),
            "swaps": _records(self.swaps),
            "ticks": dict(self._backtest.counts),
            "notices": list(self.notices),
        }

    def plot(self, symbol: str | None = None) -> "go.Figure":
        """Forecast, dashed, over price with the interval, as in the report. symbol: None for the first target."""
        from streamer.backtesting import figures

        return figures.prices(self, self._column(symbol))

    def plot_error(self, symbol: str | None = None) -> "go.Figure":
        """Squared error saved since the start, in percent of the last price's: a line that rises gains on it."""
        from streamer.backtesting import figures

        return figures.error(self, self._column(symbol))

    def plot_coverage(self, symbol: str | None = None) -> "go.Figure":
        """Share of the last prices inside their interval, over time."""
        from streamer.backtesting import figures

        return figures.coverage(self, self._column(symbol))

    def plot_experts(self, symbol: str | None = None) -> "go.Figure | None":
        """Weights of the experts over time; None where none were seen."""
        from streamer.backtesting import figures

        return figures.experts(self, self._column(symbol))

    def _column(self, symbol: str | None) -> Column:
        """All of a target; UsageError where there is none of that name, or no forecast of it to picture."""
        found = next((column for column in self.columns if symbol in (None, column.symbol)), None)
        if found is None:
            raise UsageError(f"{symbol!r} was not forecast: name one of {', '.join(self.targets)}")
        if not found.scored.any():
            raise UsageError(f"no forecast of {found.symbol} was scored: there is nothing to picture")
        return found

    def write(self, folder: Path | str) -> None:
        """Write predicted.csv, test_data.csv, summary.json and report.html; UsageError where that cannot be."""
        from streamer.backtesting.report import html

        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_csv(self.predicted, folder / PREDICTED)
            _write_csv(self.actual, folder / TEST_DATA)
            (folder / SUMMARY).write_text(json.dumps(self.summary, indent=1, ensure_ascii=False) + "\n")
            (folder / REPORT).write_text(html(self), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error

    def _frame(self, values: Floats) -> pd.DataFrame:
        return pd.DataFrame(values[: self._done], self.times, list(self.targets))


def formatted(name: str, value: Any) -> str:
    """A figure of the summary for people: shares, ratios and skill with fixed digits, prices with significant ones."""
    if value is None:
        return "-"
    if isinstance(value, int | str):
        return str(value)
    if name == "skill":
        return f"{value:+.4f}"
    fixed = name.endswith(("ratio", "coverage", "share")) or name.startswith("correlation")
    return f"{value:.4f}" if fixed else f"{value:.5g}"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON takes them."""
    rows = frame.astype(object).itertuples(index=False, name=None)
    return [{str(name): _plain(value) for name, value in zip(frame.columns, row, strict=True)} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return format_time(value.value // 1_000_000)
    return None if value is None or value != value else value


def _utc(times: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(times, unit="ms", utc=True))


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Blank cells where there is nothing; numbers that read back to the same bits."""
    times = [format_time(time) for time in milliseconds(frame.index).tolist()]
    frame.set_axis(pd.Index(times, name="timestamp"), axis=0).to_csv(path)
