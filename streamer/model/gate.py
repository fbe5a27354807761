"""The promotion gate: challenger against incumbent on rows that neither the fit nor early stopping saw."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from streamer.core.features import State
from streamer.core.forecaster import MIX, Forecaster
from streamer.core.grid import Floats
from streamer.core.levels import Levels
from streamer.core.scoring import mean_ratio
from streamer.model.dataset import TrainingSet


@dataclass(frozen=True, slots=True)
class SymbolScore:
    """Number of forecasts scored of one symbol, and RMSEs in price units; `incumbent` None without one.

    beside: the challenger's on the rows that the incumbent is judged on, which may be fewer; None: on all.
    """

    n: int
    challenger: float
    incumbent: float | None
    persistence: float
    beside: float | None = None


@dataclass(frozen=True, slots=True)
class GateReport:
    """Verdict and figures.

    ratio: geometric mean over symbols of the challenger's RMSE over its rival's (the incumbent's, or without
    one persistence's). persistence_ratio: the same over persistence's. Both NaN where nothing was scored.
    seconds: wall time of the replays. state: the challenger's after the last row.
    """

    symbols: Mapping[str, SymbolScore]
    ratio: float
    persistence_ratio: float
    promoted: bool
    reason: str
    seconds: float
    state: State = field(default_factory=dict)

    def within(self, common: "GateReport") -> "GateReport":
        """Its own figures, with the verdict on all streams."""
        return replace(self, promoted=common.promoted, reason=common.reason)

    def figures(self) -> dict[str, Any]:
        """For the manifest: all but the wall time, NaN as None."""
        return {
            "symbols": {
                name: {
                    "n": score.n,
                    "rmse": score.challenger,
                    "incumbent_rmse": score.incumbent,
                    "rmse_beside_incumbent": score.beside,
                    "persistence_rmse": score.persistence,
                }
                for name, score in self.symbols.items()
            },
            "ratio": None if math.isnan(self.ratio) else self.ratio,
            "persistence_ratio": None if math.isnan(self.persistence_ratio) else self.persistence_ratio,
            "promoted": self.promoted,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Beginning:
    """Where a replay begins: with the row `row` of the grid, in `state` (None: zero), its mix anew at `mix_row`."""

    row: int = 0
    state: State | None = None
    mix_row: int = 0


_ZERO = Beginning()


def judge(
    challenger: Forecaster,
    incumbent: Forecaster | None,
    training_set: TrainingSet,
    from_row: int,
    tolerance: float,
    beginning: Beginning = _ZERO,
    incumbent_beginning: Beginning = _ZERO,
) -> GateReport:
    """Replay both over the rows of the grid; compare them from the row `from_row` on, and from the later beginning.

    A forecast counts if it would have been sent (at a tick, after a first price) and its target price was really
    seen, in the same session. A target that the incumbent lacks has persistence for its incumbent.
    """
    started = time.perf_counter()
    targets = challenger.targets
    last, actual = _cells(training_set, targets, from_row)
    counted = np.isfinite(last) & np.isfinite(actual)
    own = training_set.change.take([training_set.symbols.index(target) for target in targets])

    def error(forecaster: Forecaster, changes: Floats) -> Floats:
        into = _levels(forecaster, targets, own).into(own, last, changes[from_row:-1])
        return np.where(counted, own.apply(last, into) - actual, 0.0)

    def rmse(errors: Floats, skipped: int = 0) -> Floats:
        n = np.maximum(counted[skipped:].sum(axis=0), 1)
        result: Floats = np.sqrt(np.square(errors[skipped:]).sum(axis=0) / n)
        return result

    flat = rmse(np.where(counted, last - actual, 0.0))
    changes, state = replay(challenger, training_set, targets, beginning)
    errors = error(challenger, changes)
    new, old, beside = rmse(errors), None, None
    if incumbent is not None:
        skipped = max(0, incumbent_beginning.row - from_row)
        theirs, _ = replay(incumbent, training_set, targets, incumbent_beginning)
        old, beside = rmse(error(incumbent, theirs), skipped), rmse(errors, skipped)
    scores = {
        name: SymbolScore(
            int(counted[:, column].sum()),
            float(new[column]),
            None if old is None else float(old[column]),
            float(flat[column]),
            None if beside is None else float(beside[column]),
        )
        for column, name in enumerate(targets)
    }
    return replace(verdict(scores, tolerance, time.perf_counter() - started), state=state)


def together(reports: Mapping[str, GateReport], tolerance: float) -> GateReport:
    """One verdict on a model for several streams, by the scores of all their symbols; of one stream, its own report."""
    if len(reports) == 1:
        return next(iter(reports.values()))
    scores = {f"{name} {symbol}": score for name, each in reports.items() for symbol, score in each.symbols.items()}
    found = verdict(scores, tolerance, sum(each.seconds for each in reports.values()))
    return replace(found, reason=f"{found.reason}, over {len(reports)} streams")


def verdict(scores: Mapping[str, SymbolScore], tolerance: float, seconds: float = 0.0) -> GateReport:
    """Decide: without an incumbent, better than persistence; else not worse than it, nor than persistence.

    tolerance: share by which the ratio to an incumbent may exceed 1.
    """
    scored = [score for score in scores.values() if score.n]
    flat = mean_ratio([(score.challenger, score.persistence) for score in scored])
    rivals = [
        (score.challenger if score.beside is None else score.beside, score.incumbent)
        for score in scored
        if score.incumbent is not None
    ]
    ratio = mean_ratio(rivals) if rivals else flat
    if math.isnan(flat):
        promoted, reason = False, "rejected: no price moved in the gate slice"
    elif not rivals:
        promoted = flat < 1.0
        reason = f"{_word(promoted)}: RMSE {flat:.4f} of persistence's, must be below 1"
    elif math.isnan(ratio):
        promoted, reason = False, "rejected: the incumbent was perfect, or has been fitted on every row there is"
    else:
        promoted = ratio <= 1.0 + tolerance and flat <= 1.0
        reason = (
            f"{_word(promoted)}: RMSE {ratio:.4f} of the incumbent's, must not exceed {1.0 + tolerance:.4f}, "
            f"and {flat:.4f} of persistence's, must not exceed 1"
        )
    return GateReport(dict(scores), ratio, flat, promoted, reason, seconds)


def _word(promoted: bool) -> str:
    return "promoted" if promoted else "rejected"


def replay(
    forecaster: Forecaster, training_set: TrainingSet, targets: tuple[str, ...], beginning: Beginning = _ZERO
) -> tuple[Floats, State]:
    """Changes of its own levels as the forecaster would serve them, `(T, len(targets))`; and its state after all rows.

    Zero, as persistence has it, for a target that it does not forecast, and in the rows before `beginning`.
    """
    column = {name: index for index, name in enumerate(forecaster.targets)}
    known = [index for index, name in enumerate(targets) if name in column]
    chosen = [column[targets[index]] for index in known]
    fresh = {name: value for name, value in forecaster.initial_state().items() if name.startswith(MIX)}
    state = forecaster.initial_state() if beginning.state is None else beginning.state
    changes = []
    for index, row in enumerate(training_set.rows(forecaster.symbols, forecaster.change)):
        change = np.zeros(len(targets))
        if index >= beginning.row:
            if fresh and index == beginning.mix_row:
                state = {**state, **fresh}
            state, predicted = forecaster.step(state, row)
            change[known] = predicted[0, chosen]
        changes.append(change)
    return np.array(changes), state


def _levels(forecaster: Forecaster, targets: tuple[str, ...], own: Levels) -> Levels:
    """Levels of its changes of `targets`, `own` where it has none."""
    known = [index for index, name in enumerate(targets) if name in forecaster.symbols]
    return own.replaced(known, forecaster.change.take([forecaster.symbols.index(targets[index]) for index in known]))


def _cells(training_set: TrainingSet, targets: tuple[str, ...], from_row: int) -> tuple[Floats, Floats]:
    """Last price seen at each row and actual price of the next, `(T - from_row - 1, m)`; NaN: not scored."""
    last, actual = [], []
    ticks = set(training_set.times.tolist())
    seen = np.full(len(targets), np.nan)
    for index, row in enumerate(training_set.rows(targets)):
        if index > from_row:
            actual.append(np.where(row.is_break, np.nan, row.prices))
        seen = np.where(np.isnan(row.prices), seen, row.prices)
        if index >= from_row:
            last.append(seen if row.time in ticks else np.full(len(targets), np.nan))
    return np.array(last[:-1]).reshape(-1, len(targets)), np.array(actual).reshape(-1, len(targets))
