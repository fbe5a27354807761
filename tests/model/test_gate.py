import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from streamer.core.features import State
from streamer.core.forecaster import MIX, Forecaster, OneByOne
from streamer.core.grid import Floats, Row
from streamer.core.levels import Levels
from streamer.model.dataset import TrainingSet
from streamer.model.gate import Beginning, SymbolScore, judge, replay, verdict
from tests.model.helpers import STEP, training_set, walk

NAN = float("nan")


LOGS = Levels(np.array([True, True]))


@dataclass(frozen=True, eq=False)
class Scripted(OneByOne):
    """Predicts for each row the change that a table has for it, `(T, len(targets))`; the state counts rows."""

    changes: Floats
    symbols: tuple[str, ...] = ("A", "B")
    targets: tuple[str, ...] = ("A", "B")
    id: str = "scripted"
    as_of: int = 0
    change: Levels = LOGS
    adjusted: int = -1

    def initial_state(self) -> State:
        return {"rows": np.zeros(1, np.int64)}

    def trained_state(self) -> State:
        return self.initial_state()

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        index = int(state["rows"][0])
        served = self.changes[index]
        return {"rows": state["rows"] + 1}, np.stack([served, *np.full((2, *served.shape), 1e3)])

    def shares(self, state: State) -> Mapping[str, Floats]:
        return {}


def truth(history: TrainingSet) -> Floats:
    """The changes that will really come, `(rows, n)`; zero after the last row."""
    changes = np.zeros(history.prices.shape)
    changes[:-1] = np.diff(np.log(history.prices), axis=0)
    return changes


def scripted(history: TrainingSet, share: float) -> Forecaster:
    """Knows `share` of each change: its errors are about 1 - share of persistence's."""
    return Scripted(share * truth(history))


def scores(*triples: tuple[int, float, float | None, float]) -> dict[str, SymbolScore]:
    return {str(index): SymbolScore(*triple) for index, triple in enumerate(triples)}


HISTORY = training_set(walk(200))


def test_errors_are_in_price_units_over_the_gate_slice_alone() -> None:
    report = judge(scripted(HISTORY, 0.0), None, HISTORY, 150, 0.0)
    moves = np.diff(HISTORY.prices, axis=0)[150:]
    for column, name in enumerate("AB"):
        assert report.symbols[name].n == 49
        assert report.symbols[name].persistence == pytest.approx(np.sqrt((moves[:, column] ** 2).mean()))


def test_what_was_served_is_judged_not_the_bare_network() -> None:
    assert judge(scripted(HISTORY, 0.5), None, HISTORY, 150, 0.0).ratio == pytest.approx(0.5, abs=1e-3)


def test_without_an_incumbent_the_challenger_must_really_beat_persistence() -> None:
    assert judge(scripted(HISTORY, 0.01), None, HISTORY, 150, 0.5).promoted
    equal = judge(scripted(HISTORY, 0.0), None, HISTORY, 150, 0.5)
    assert (equal.ratio, equal.promoted) == (1.0, False)
    assert "must be below 1" in equal.reason


def test_an_incumbent_may_be_missed_by_the_tolerance_and_no_more() -> None:
    incumbent = scripted(HISTORY, 0.5)
    assert judge(scripted(HISTORY, 0.46), incumbent, HISTORY, 150, 0.1).promoted
    worse = judge(scripted(HISTORY, 0.44), incumbent, HISTORY, 150, 0.1)
    assert not worse.promoted
    assert worse.ratio == pytest.approx(1.12, abs=1e-3)
    assert "must not exceed 1.1000" in worse.reason


def test_a_challenger_that_loses_to_persistence_is_rejected_whatever_it_replaces() -> None:
    report = judge(scripted(HISTORY, -0.2), scripted(HISTORY, -0.5), HISTORY, 150, 0.1)
    assert report.ratio < 1.0 < report.persistence_ratio
    assert not report.promoted


def test_a_perfect_symbol_does_not_decide_for_the_others() -> None:
    report = verdict(scores((10, 0.0, None, 1.0), (10, 2.0, None, 1.0)), 0.0)
    assert math.isfinite(report.ratio)
    assert report.ratio == pytest.approx(math.sqrt(1e-6 * 2.0))


def test_a_blank_symbol_and_a_still_one_do_not_count() -> None:
    report = verdict(scores((10, 0.5, None, 1.0), (0, 0.0, None, 0.0), (10, 0.0, None, 0.0)), 0.0)
    assert report.ratio == 0.5
    assert report.promoted


@pytest.mark.parametrize("incumbent", [None, 0.0])
def test_nothing_scored_is_rejected(incumbent: float | None) -> None:
    report = verdict(scores((0, 0.0, incumbent, 0.0)), 0.1)
    assert not report.promoted
    assert "no price moved" in report.reason
    assert report.figures()["ratio"] is None, "NaN is no JSON"


def test_a_perfect_incumbent_cannot_be_beaten() -> None:
    assert not verdict(scores((10, 0.5, 0.0, 1.0)), 0.1).promoted


def test_a_blank_price_is_not_scored() -> None:
    prices = walk(200)
    prices[160, 0] = NAN
    report = judge(Scripted(np.zeros((200, 2))), None, training_set(prices), 150, 0.0)
    assert [report.symbols[name].n for name in "AB"] == [48, 49]


def test_the_first_row_of_a_session_is_not_scored() -> None:
    history = replace(HISTORY, breaks=HISTORY.breaks.copy())
    history.breaks[170] = True
    report = judge(Scripted(np.zeros((200, 2))), None, history, 150, 0.0)
    assert report.symbols["A"].n == 48


def test_a_missing_step_sends_no_forecast_and_is_no_price() -> None:
    """The row before it has no target, and from it no forecast is sent for the row after it."""
    kept = np.delete(np.arange(200), 180)
    history = replace(HISTORY, times=HISTORY.times[kept], breaks=HISTORY.breaks[kept], prices=HISTORY.prices[kept])
    report = judge(Scripted(np.zeros((200, 2))), None, history, 150, 0.0)
    assert report.symbols["A"].n == 47


def test_a_symbol_is_not_scored_before_its_first_price() -> None:
    prices = walk(200)
    prices[:190, 1] = NAN
    report = judge(Scripted(np.zeros((200, 2))), None, training_set(prices), 150, 0.0)
    assert report.symbols["B"].n == 9


def test_an_incumbent_of_other_symbols_is_matched_by_name() -> None:
    """It reads symbols that the history lacks as blank, and a target that it lacks is persistence's."""
    changes = truth(HISTORY)
    incumbent = Scripted(
        np.stack([np.full(200, 9.0), 0.5 * changes[:, 0]], axis=1), symbols=("Z", "A"), targets=("Z", "A")
    )
    report = judge(scripted(HISTORY, 0.0), incumbent, HISTORY, 150, 0.0)
    assert report.symbols["A"].incumbent == pytest.approx(0.5 * report.symbols["A"].persistence, rel=1e-2)
    assert report.symbols["B"].incumbent == report.symbols["B"].persistence
    assert set(report.symbols) == {"A", "B"}


def test_rows_before_the_gate_slice_do_not_matter() -> None:
    changes = truth(HISTORY)
    changes[:150] = 5.0
    assert judge(Scripted(changes), None, HISTORY, 150, 0.0).ratio == pytest.approx(1e-6)
    assert HISTORY.times[150] == 151 * STEP


def test_an_incumbent_of_log_returns_is_judged_where_the_history_has_differences() -> None:
    """What it cannot read is blank to it, and from such a price it forecasts what persistence does."""
    prices = walk(200)
    prices[170:180, 1] -= 150.0
    history = training_set(prices)
    assert history.change.changes == ("log_return", "difference")
    moves = np.diff(prices[:, 1], append=0.0)
    share = np.log1p(0.5 * moves / np.where(prices[:, 1] > 0.0, prices[:, 1], np.inf))
    incumbent = ReadsLogs(np.stack([np.zeros(200), np.where(prices[:, 1] > 0.0, share, 9.0)], axis=1))

    report = judge(Scripted(np.zeros((200, 2)), change=history.change), incumbent, history, 150, 0.0)

    known = np.where(prices[150:-1, 1] > 0.0, 0.5, 1.0)
    expected = np.sqrt(np.square(known * moves[150:-1]).mean())
    assert report.symbols["B"].incumbent == pytest.approx(expected)


@dataclass(frozen=True, eq=False)
class ReadsLogs(Scripted):
    """Takes log returns of all it reads, as their features do."""

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        assert not (row.prices <= 0.0).any()
        return super().step(state, row)


def at(row: int, mix_row: int = 0) -> Beginning:
    """A scripted forecaster's state before the row `row`."""
    return Beginning(row, {"rows": np.array([row])}, mix_row)


def test_a_replay_that_begins_later_serves_nothing_before_and_the_same_after() -> None:
    model = scripted(HISTORY, 0.5)
    whole, end = replay(model, HISTORY, ("A", "B"))
    later, same_end = replay(model, HISTORY, ("A", "B"), at(120))
    assert not later[:120].any()
    assert later[120:].tobytes() == whole[120:].tobytes()
    assert end == same_end == {"rows": np.array([200])}


@pytest.mark.parametrize("begin", [20, 149, 150])
def test_a_challenger_judged_from_a_later_beginning_has_the_figures_of_a_whole_replay(begin: int) -> None:
    whole = judge(scripted(HISTORY, 0.5), None, HISTORY, 150, 0.0)
    assert judge(scripted(HISTORY, 0.5), None, HISTORY, 150, 0.0, at(begin)).symbols == whole.symbols


def test_both_are_compared_on_the_rows_that_the_incumbent_has_not_learned_from() -> None:
    """Before row 180 it knows everything, from there on half; the challenger the other way round."""
    changes = truth(HISTORY)
    before = (np.arange(200) < 180)[:, None]
    incumbent, challenger = (Scripted(np.where(before, a, b) * changes) for a, b in ((1.0, 0.5), (0.0, 0.6)))
    report = judge(challenger, incumbent, HISTORY, 150, 0.0, incumbent_beginning=at(180))
    assert report.ratio == pytest.approx(0.4 / 0.5, rel=1e-2)
    assert report.promoted
    moves = np.diff(HISTORY.prices, axis=0)
    for column, name in enumerate("AB"):
        score = report.symbols[name]
        assert score.n == 49, "beside persistence the challenger is judged on the whole slice"
        assert score.incumbent == pytest.approx(0.5 * np.sqrt(np.square(moves[180:, column]).mean()), rel=1e-2)
        assert score.beside == pytest.approx(0.4 * np.sqrt(np.square(moves[180:, column]).mean()), rel=1e-2)
        errors = np.concatenate([moves[150:180, column], 0.4 * moves[180:, column]])
        assert score.challenger == pytest.approx(np.sqrt(np.square(errors).mean()), rel=1e-2)
        figures = report.figures()["symbols"][name]
        assert (figures["incumbent_rmse"], figures["rmse_beside_incumbent"]) == (score.incumbent, score.beside)
    assert not judge(challenger, incumbent, HISTORY, 150, 0.0).promoted, "on all rows the incumbent is better"


def test_an_incumbent_that_began_before_the_gate_slice_is_judged_on_all_of_it() -> None:
    report = judge(scripted(HISTORY, 0.5), scripted(HISTORY, 0.4), HISTORY, 150, 0.0, incumbent_beginning=at(100))
    assert report.symbols["A"].beside == report.symbols["A"].challenger
    assert report.ratio == pytest.approx(0.5 / 0.6, rel=1e-2)


def test_an_incumbent_that_has_learned_from_every_row_is_not_replaced() -> None:
    """There is nothing on which it could be beaten."""
    report = judge(scripted(HISTORY, 0.9), scripted(HISTORY, 0.1), HISTORY, 150, 0.0, incumbent_beginning=at(200))
    assert not report.promoted
    assert math.isnan(report.ratio)
    assert report.figures()["ratio"] is None
    assert report.reason == "rejected: the incumbent was perfect, or has been fitted on every row there is"


@dataclass(frozen=True, eq=False)
class Mixing(Scripted):
    """Counts rows in its mix as well, and serves that count."""

    def initial_state(self) -> State:
        return {**super().initial_state(), f"{MIX}heard": np.zeros(1)}

    def step(self, state: State, row: Row) -> tuple[State, Floats]:
        after, changes = super().step(state, row)
        heard = state[f"{MIX}heard"] + 1.0
        return {**after, f"{MIX}heard": heard}, np.full_like(changes, heard[0])


def test_a_mix_begins_anew_at_its_row_while_the_rest_goes_on() -> None:
    model = Mixing(truth(HISTORY))
    start = Beginning(100, {"rows": np.array([100]), f"{MIX}heard": np.array([7.0])}, 110)
    changes, state = replay(model, HISTORY, ("A", "B"), start)
    assert changes[99:112, 0].tolist() == [0.0, *range(8, 18), 1.0, 2.0]
    assert (int(state["rows"][0]), float(state[f"{MIX}heard"][0])) == (200, 90.0)
    never, _ = replay(model, HISTORY, ("A", "B"), replace(start, mix_row=-1))
    assert never[-1, 0] == 107.0


def test_the_report_has_the_challengers_state_after_the_last_row() -> None:
    assert judge(scripted(HISTORY, 0.5), None, HISTORY, 150, 0.0, at(120)).state == {"rows": np.array([200])}
