"""Errors per symbol as metrics, read from the engines when a scrape asks for them.

Setting a gauge for each of 2,000 symbols and 4 forecasters at each tick would cost more than the forecast.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Floats = npt.NDArray[np.float64]

SERVED: Final = "served"
PERSISTENCE: Final = "persistence"

_PER_SYMBOL: Final = ("stream", "symbol")
_PER_FORECASTER: Final = ("stream", "symbol", "forecaster")


class ScoreView(Protocol):
    """What one stream's engine has scored so far: n symbols, k forecasters; only ever read."""

    @property
    def symbols(self) -> Sequence[str]:
        """Names of the n symbols."""

    @property
    def forecasters(self) -> Sequence[str]:
        """Names of the k forecasters; `served` and `persistence` give the skill."""

    @property
    def rmse(self) -> Floats:
        """(n, k), root mean squared error over the rolling window, in price units; NaN if nothing scored."""

    @property
    def squared_error_total(self) -> Floats:
        """(n, k), sum of squared errors since the start, in price units squared."""

    @property
    def scored_total(self) -> npt.NDArray[np.int64] | Floats:
        """(n,), forecasts scored since the start."""

    @property
    def coverage(self) -> Floats:
        """(n,), share of prices seen inside their interval; NaN where nothing scored."""


@dataclass(frozen=True, slots=True)
class _Scores:
    """A copy of one view's first symbols: the engine may go on while another thread renders."""

    stream: str
    symbols: list[str]
    forecasters: list[str]
    rmse: list[list[float]]
    squared_error_total: list[list[float]]
    scored_total: list[float]
    coverage: list[float]

    @classmethod
    def copy(cls, stream: str, view: ScoreView, limit: int) -> "_Scores":
        return cls(
            stream=stream,
            symbols=list(view.symbols[:limit]),
            forecasters=list(view.forecasters),
            rmse=view.rmse[:limit].tolist(),
            squared_error_total=view.squared_error_total[:limit].tolist(),
            scored_total=view.scored_total[:limit].tolist(),
            coverage=view.coverage[:limit].tolist(),
        )


class ScoreCollector:
    """A collector for a registry: the scores of all watched streams as of the last `refresh`.

    Args:
        max_symbols: Pairs of stream and symbol that are shown at most, in the order of `watch`. How many are
            left out is the metric `streamer_series_dropped`.
    """

    def __init__(self, max_symbols: int) -> None:
        self._max_symbols = max_symbols
        self._views: dict[str, ScoreView] = {}
        self._scores: list[_Scores] = []
        self._dropped = 0

    def watch(self, stream: str, view: ScoreView) -> None:
        """Show `view` as `stream`, in place of the view it had."""
        self._views[stream] = view

    def forget(self, stream: str) -> None:
        """Show `stream` no longer, from the next `refresh` on."""
        self._views.pop(stream, None)

    def refresh(self) -> None:
        """Copy what the views show now. For the engines' thread; `collect` may run in any."""
        scores, room, dropped = [], self._max_symbols, 0
        for stream, view in self._views.items():
            shown = min(len(view.symbols), room)
            if shown:
                scores.append(_Scores.copy(stream, view, shown))
            room -= shown
            dropped += len(view.symbols) - shown
        self._scores, self._dropped = scores, dropped

    def collect(self) -> Iterable[Metric]:
        """The metrics as of the last `refresh`. Nothing scored, no series."""
        families = _Families(self._dropped)
        for scores in self._scores:
            families.add(scores)
        return families.all

    def describe(self) -> Iterable[Metric]:
        """The metrics without series, from which a registry sees a clash of names."""
        return _Families(0).all


class _Families:
    def __init__(self, dropped: int) -> None:
        self._rmse = GaugeMetricFamily(
            "streamer_rmse",
            "Root mean squared error over the last forecasts scored, in price units",
            labels=_PER_FORECASTER,
        )
        self._squared_error = CounterMetricFamily(
            "streamer_squared_error",
            "Sum of the squared errors of all forecasts scored, in price units squared",
            labels=_PER_FORECASTER,
        )
        self._scored = CounterMetricFamily(
            "streamer_scored_forecasts",
            "Forecasts scored against a price seen at exactly their target time",
            labels=_PER_SYMBOL,
        )
        self._skill = GaugeMetricFamily(
            "streamer_skill_ratio",
            "1 - RMSE of the published forecast / RMSE of the last price as forecast; above 0 is better",
            labels=_PER_SYMBOL,
        )
        self._coverage = GaugeMetricFamily(
            "streamer_interval_coverage_ratio",
            "Share of the prices seen that lay inside the published interval",
            labels=_PER_SYMBOL,
        )
        self._dropped = GaugeMetricFamily(
            "streamer_series_dropped",
            "Pairs of stream and symbol whose scores are left out since there are too many",
            value=dropped,
        )
        self.all: tuple[Metric, ...] = (
            self._rmse,
            self._squared_error,
            self._scored,
            self._skill,
            self._coverage,
            self._dropped,
        )

    def add(self, scores: _Scores) -> None:
        rows = zip(
            scores.symbols,
            scores.rmse,
            scores.squared_error_total,
            scores.scored_total,
            scores.coverage,
            strict=True,
        )
        for symbol, rmse, squared_error, scored, coverage in rows:
            labels = (scores.stream, symbol)
            self._add_errors(labels, scores.forecasters, rmse, squared_error)
            self._add_skill(labels, dict(zip(scores.forecasters, rmse, strict=True)))
            if scored:
                self._scored.add_metric(labels, scored)
            if not np.isnan(coverage):
                self._coverage.add_metric(labels, coverage)

    def _add_errors(
        self, labels: tuple[str, str], forecasters: list[str], rmse: list[float], squared_error: list[float]
    ) -> None:
        for forecaster, recent, total in zip(forecasters, rmse, squared_error, strict=True):
            is_scored = not np.isnan(recent)
            if is_scored:
                self._rmse.add_metric((*labels, forecaster), recent)
            # A total of 0 is data for a forecaster without error, and none for one that was never scored. One
            # above 0 stays when the window has run empty: a counter that vanishes would read as a restart.
            if is_scored or total > 0:
                self._squared_error.add_metric((*labels, forecaster), total)

    def _add_skill(self, labels: tuple[str, str], rmse: dict[str, float]) -> None:
        served, baseline = rmse.get(SERVED, np.nan), rmse.get(PERSISTENCE, np.nan)
        if baseline > 0 and not np.isnan(served):
            self._skill.add_metric(labels, 1 - served / baseline)
