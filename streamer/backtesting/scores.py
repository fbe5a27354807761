"""Figures of a backtest: errors, intervals, and the copycat check."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.core.grid import Floats
from streamer.core.scoring import mean_ratio


@dataclass(frozen=True, slots=True)
class Interval:
    """Of one symbol: share of prices inside, mean width and mean interval score, both in price units.

    The score is that of R.L. Winkler, "A decision-theoretic approach to interval estimation", JASA 67 (1972): the
    width, and 2 / (1 - coverage) times the distance of a price outside. Lower is better.
    """

    coverage: float
    width: float
    winkler: float

    @classmethod
    def of(cls, actual: Floats, lower: Floats, upper: Floats, coverage: float) -> "Interval":
        """Score intervals for prices that were seen, all `(n,)`."""
        outside = np.maximum(lower - actual, 0.0) + np.maximum(actual - upper, 0.0)
        width = upper - lower
        inside = (actual >= lower) & (actual <= upper)
        score = width + 2.0 / (1.0 - coverage) * outside
        return cls(float(inside.mean()), float(width.mean()), float(score.mean()))


@dataclass(frozen=True, slots=True)
class Score:
    """Figures of one symbol over the cells with a forecast and a price; None where there is nothing to say.

    n: cells. forecast_share: of the prices that came, how many had been forecast. rmse: by forecaster, price units.
    skill: 1 - RMSE served / RMSE of persistence. with_last, with_next: correlation of the predicted change with the
    change before it, which a copycat follows, and with the change to be predicted.
    """

    symbol: str
    n: int
    forecast_share: float | None
    rmse: Mapping[str, float | None]
    skill: float | None
    interval: Interval | None
    baseline: Interval | None
    with_last: float | None
    with_next: float | None

    def figures(self) -> dict[str, float | int | None]:
        """By the names that the JSON has."""
        errors = {f"{name}_rmse": self.rmse[name] for name in FORECASTERS if name != SERVED}
        return {
            "n": self.n,
            "forecast_share": self.forecast_share,
            "rmse": self.rmse[SERVED],
            **errors,
            "skill": self.skill,
            **_named(self.interval, ""),
            **_named(self.baseline, "persistence_"),
            "correlation_last": self.with_last,
            "correlation_next": self.with_next,
        }


def _named(interval: Interval | None, prefix: str) -> dict[str, float | None]:
    names = ("coverage", "width", "winkler")
    return {prefix + name: None if interval is None else getattr(interval, name) for name in names}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One target over the scored rows, each `(rows,)`, NaN where there is none.

    actual: the price seen. before: the change between the two prices before. yhat: by forecaster.
    """

    symbol: str
    actual: Floats
    before: Floats
    yhat: Mapping[str, Floats]
    lower: Floats
    upper: Floats
    baseline_lower: Floats
    baseline_upper: Floats

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Where there is a forecast and a price, `(rows,)`."""
        result: npt.NDArray[np.bool_] = np.isfinite(self.actual) & np.isfinite(self.yhat[SERVED])
        return result

    def score(self, coverage: float) -> Score:
        """Figures of the column, its intervals made for `coverage`."""
        cells = self.scored
        n, due = int(cells.sum()), int(np.isfinite(self.actual).sum())
        share = n / due if due else None
        if not n:
            return Score(self.symbol, 0, share, dict.fromkeys(FORECASTERS), None, None, None, None, None)
        actual = self.actual[cells]
        yhat = {name: values[cells] for name, values in self.yhat.items()}
        rmse = {name: float(np.sqrt(np.mean((values - actual) ** 2))) for name, values in yhat.items()}
        last = yhat[PERSISTENCE]
        predicted = yhat[SERVED] - last
        flat = rmse[PERSISTENCE]
        return Score(
            self.symbol,
            n,
            share,
            rmse,
            1.0 - rmse[SERVED] / flat if flat > 0.0 else None,
            Interval.of(actual, self.lower[cells], self.upper[cells], coverage),
            Interval.of(actual, self.baseline_lower[cells], self.baseline_upper[cells], coverage),
            _correlation(predicted, self.before[cells]),
            _correlation(predicted, actual - last),
        )


def _correlation(a: Floats, b: Floats) -> float | None:
    """Pearson's, None where one of the two does not vary."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def changes_before(prices: Floats, first: int) -> Floats:
    """For each row from `first` on, the change between the two rows before it, blanks carried; NaN: not known.

    prices: `(rows, n)`; returns `(rows - first, n)`.
    """
    carried = _carried(prices)
    moved = np.full(prices.shape, np.nan)
    moved[2:] = carried[1:-1] - carried[:-2]
    return moved[first:]


def _carried(prices: Floats) -> Floats:
    """Each column's last price seen."""
    index = np.where(np.isfinite(prices), np.arange(len(prices))[:, None], 0)
    result: Floats = np.take_along_axis(prices, np.maximum.accumulate(index, axis=0), axis=0)
    return result


def ratio(scores: Sequence[Score], name: str = SERVED) -> float | None:
    """Geometric mean over symbols of a forecaster's RMSE over persistence's."""
    return _mean_ratio([(score.rmse[name], score.rmse[PERSISTENCE]) for score in scores])


def winkler_ratio(scores: Sequence[Score]) -> float | None:
    """Geometric mean over symbols of the interval score over that of the same calibration around persistence."""
    both = [(s.interval.winkler, s.baseline.winkler) for s in scores if s.interval and s.baseline]
    return _mean_ratio(both)


def pooled_coverage(scores: Sequence[Score]) -> float | None:
    """Share of all prices, of whatever symbol, inside their interval."""
    scored = [(score.n, score.interval.coverage) for score in scores if score.interval is not None]
    total = sum(n for n, _ in scored)
    return sum(n * coverage for n, coverage in scored) / total if total else None


def _mean_ratio(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    found = mean_ratio([(above, below) for above, below in pairs if above is not None and below is not None])
    return None if math.isnan(found) else found
