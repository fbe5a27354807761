"""Fitting of the linear experts: ridge regression, the symbols' coefficients around what all have in common.

Per expert: `pool` minimises the squared error over all targets, then each target's own coefficients are drawn towards
it (hierarchical shrinkage; A. Gelman, J. Hill, "Data Analysis Using Regression and Multilevel Models", 2007, ch. 12).
Thin symbols so borrow from the others. How heavy the penalty is, the stop slice says. Old rows count for less: markets
change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.core import experts
from streamer.core.experts import Experts, Layout
from streamer.core.grid import Floats

PENALTIES = tuple(round(10.0 ** (power / 4.0), 4) for power in range(-12, 3))
"""0.001 to 3.2, in units of the number of rows, a target's own in those of the mean; for regressors of unit size."""

_POOLED = 1.0 / 3.0  # the common coefficients have more data behind them
_OWN = 10.0  # what is a symbol's own has to be clear before it counts
_DECAY = 0.5 ** (1.0 / 8000.0)  # of a row's weight, per row that has come since
STOP_CLIP = 5.0
"""At which the changes of a stop slice are cut, in sigmas, as in the mix: one jump must not choose."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """What the experts learn from, of row t for the change to row t + 1.

    features: `(T, n, F)`. hidden: of each target, `(T, m, units)`. columns: of the targets among the symbols, `(m,)`.
    y, mask: next changes over volatility, and where they count, `(T, m)`.
    """

    layout: Layout
    features: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.float32]
    columns: npt.NDArray[np.intp]
    y: npt.NDArray[np.float32]
    mask: Bools

    def moments(self, start: int, end: int, clip: float = np.inf) -> "Moments":
        """Moments of the changes within the rows `[start, end)`, each cut at `clip` sigmas."""
        return Moments([self._moment(target, start, end, clip) for target in range(len(self.columns))])

    def _moment(self, target: int, start: int, end: int, clip: float) -> "Moment":
        # The change from the last row leads out of the slice.
        kept = start + np.flatnonzero(self.mask[start : max(start, end - 1), target])
        y = np.clip(self.y[kept, target].astype(np.float64), -clip, clip)
        hidden = self.hidden[kept, target : target + 1].astype(np.float64)
        features, column = self.features[kept].astype(np.float64), self.columns[target : target + 1]
        x = self.layout.basis(features[:, column], features[..., 0], hidden, column)[:, 0]
        weight = _DECAY ** (end - kept)
        weighted = x * weight[:, None]
        return Moment(weighted.T @ x, weighted.T @ y, float(weight @ (y * y)), float(weight.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """Of one target: products of the regressors `(w, w)`, with the changes `(w,)`, of the changes; sum of weights."""

    gram: Floats
    cross: Floats
    square: float
    count: float

    def of(self, columns: Bools) -> "Moment":
        """The same for some of the regressors."""
        return Moment(self.gram[np.ix_(columns, columns)], self.cross[columns], self.square, self.count)

    def __add__(self, other: "Moment") -> "Moment":
        """That of two histories together."""
        return Moment(
            self.gram + other.gram, self.cross + other.cross, self.square + other.square, self.count + other.count
        )

    def error(self, coefficients: Floats) -> float:
        """Sum of squared errors of these coefficients."""
        return float(self.square - 2.0 * coefficients @ self.cross + coefficients @ self.gram @ coefficients)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Those of all targets."""

    each: Sequence[Moment]

    def of(self, columns: Bools) -> "Moments":
        """The same for some of the regressors."""
        return Moments([moment.of(columns) for moment in self.each])

    def solve(self, penalty: float) -> Floats:
        """Coefficients of each target, `(m, w)`; zero where nothing was seen at all."""
        gram, cross = sum(m.gram for m in self.each), sum(m.cross for m in self.each)
        total = max(1.0, sum(m.count for m in self.each))
        identity = np.eye(len(self.each[0].gram))
        common = np.linalg.solve(gram + _POOLED * penalty * total * identity, cross)
        # The same for each, whatever its number of rows: few of them do not outweigh it.
        drawn = _OWN * penalty * total / len(self.each) * identity
        own = [np.linalg.solve(m.gram + drawn, m.cross - m.gram @ common) for m in self.each]
        return np.asarray(common + np.array(own), np.float64)

    def __add__(self, other: "Moments") -> "Moments":
        """Those of two histories together."""
        return Moments([mine + theirs for mine, theirs in zip(self.each, other.each, strict=True)])

    def loss(self, coefficients: Floats) -> float:
        """Mean over targets of the log of their squared error over persistence's: the gate's measure."""
        logs = [
            np.log(max(moment.error(own) / moment.square, 1e-12))
            for moment, own in zip(self.each, coefficients, strict=True)
            if moment.square > 0.0
        ]
        return float(np.mean(logs)) if logs else 0.0


def choose_penalties(layout: Layout, learned: Moments, held_out: Moments) -> list[float]:
    """For each expert the penalty whose fit on what is `learned` errs least on what is `held_out`."""
    chosen = []
    for name in experts.NAMES:
        columns = layout.columns(name)
        own, other = learned.of(columns), held_out.of(columns)
        losses = [other.loss(own.solve(penalty)) for penalty in PENALTIES]
        chosen.append(PENALTIES[int(np.argmin(losses))])
    return chosen


def for_rows(penalties: Sequence[float], few: int, many: int) -> list[float]:
    """Penalties that were best with `few` rows, for `many`, of which each has to tell less from chance."""
    return [penalty * few / many for penalty in penalties]


def fit(layout: Layout, moments: Moments, penalties: Sequence[float]) -> Experts:
    """Experts with these penalties, one for each, fitted on the changes of `moments`."""
    coefficients = np.zeros((len(moments.each), len(experts.NAMES), layout.width))
    for index, (name, penalty) in enumerate(zip(experts.NAMES, penalties, strict=True)):
        columns = layout.columns(name)
        coefficients[:, index, columns] = moments.of(columns).solve(penalty)
    return Experts(layout, coefficients)
