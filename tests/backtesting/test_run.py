"""The run: when a model is trained, when it serves, and that no forecast knows what comes after it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.backtesting import Options, Record, Result
from streamer.backtesting.run import Schedule
from streamer.core.catchup import STATELESS
from streamer.core.forecaster import LSTM, PERSISTENCE, SERVED
from streamer.core.outcome import PERSISTENCE_MODEL, Swap
from streamer.errors import TrainingError, UsageError
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.store import ModelStore
from tests.backtesting.helpers import HALF, SMALL, Learner, bits, checked, run, walk
from tests.core.helpers import FEW

ONCE = Options(train_fraction=0.5, retrain_every=0)


class TestWhenAModelServes:
    @pytest.mark.parametrize("swap_after", [0, 1, 7])
    def test_the_first_row_after_the_history_is_the_first_that_it_forecasts(self, swap_after: int) -> None:
        table, learner = walk(100), Learner()
        result = Result(run(table, learner, options=replace(ONCE, swap_after=swap_after)))
        [model] = learner.models
        assert result.times[0] == table.index[50]
        assert set(result.models) == {model}
        [history] = learner.histories
        assert len(history) == 50 - 1 - swap_after
        assert result.swaps["after"].tolist() == [table.index[48]]
        assert result.swaps["ticks"].tolist() == [swap_after]

    def test_later_models_forecast_from_swap_after_ticks_on(self) -> None:
        learner = Learner()
        result = Result(run(walk(100), learner, options=Options(train_fraction=0.5, retrain_every=20, swap_after=3)))
        first, second, third = learner.models
        assert result.models.tolist() == [first] * 20 + [second] * 20 + [third] * 10
        assert [len(history) for history in learner.histories] == [46, 60, 60], "SMALL.history is 60"

    def test_rows_without_a_price_are_no_ticks_to_count(self) -> None:
        table = walk(100)
        table.iloc[[10, 11, 49, 55]] = np.nan
        learner = Learner()
        result = Result(run(table, learner, options=ONCE))
        assert len(learner.histories[0]) == 50 - 3 - 2
        assert result.models.iloc[0] == ""
        assert result.predicted.iloc[0].isna().all(), "the tick before is missing"
        assert result.predicted.iloc[2].notna().all()

    def test_a_row_is_a_whole_vector_though_the_feed_sends_parts(self) -> None:
        table = walk(60)
        expected = bits(Result(run(table, options=ONCE)))
        assert bits(Result(run(table, options=ONCE, engine=replace(SMALL, assemble="last")))) == expected

    def test_the_champion_is_handed_to_the_next_training_unless_rejected(self) -> None:
        learner = Learner(True, False, True)
        result = Result(run(walk(110), learner, options=Options(train_fraction=0.5, retrain_every=20)))
        first, _, third = learner.models
        assert learner.champions == [None, first, first]
        assert result.trainings["outcome"].tolist() == ["promoted", "rejected", "promoted"]
        assert result.models.unique().tolist() == [first, third]

    def test_without_a_promoted_model_persistence_serves(self) -> None:
        table = walk(100)
        result = Result(run(table, Learner(False), options=ONCE))
        assert set(result.models) == {"persistence"}
        np.testing.assert_array_equal(result.predicted, table.shift(1).loc[result.times])

    def test_a_training_that_fails_later_leaves_the_model_that_serves(self) -> None:
        class FailsLater(Learner):
            def train(self, history: TrainingSet, champion: Artifact | None) -> tuple[dict[str, Any], Artifact]:
                if self.histories:
                    raise TrainingError("out of memory")
                return super().train(history, champion)

        result = Result(run(walk(100), FailsLater(), options=Options(train_fraction=0.5, retrain_every=20)))
        assert result.trainings["outcome"].tolist() == ["promoted", "failed", "failed"]
        assert result.trainings["reason"].iloc[1] == "out of memory"
        assert result.models.nunique() == 1

    def test_a_first_training_that_fails_is_an_error(self) -> None:
        class Fails(Learner):
            def train(self, history: TrainingSet, champion: Artifact | None) -> tuple[dict[str, Any], Artifact]:
                raise TrainingError("out of memory")

        with pytest.raises(TrainingError, match="out of memory"):
            run(walk(100), Fails())


class TestWhatIsWrittenDown:
    def test_forecasts_stand_beside_the_price_of_their_own_row(self) -> None:
        """Persistence tells: its forecast of a row is the price of the row before."""
        table = walk(100)
        result = Result(run(table, options=ONCE))
        np.testing.assert_array_equal(result.actual, table.loc[result.times])
        np.testing.assert_array_equal(result.forecasters[PERSISTENCE], table.shift(1).loc[result.times])
        assert (result.lower < result.predicted).all(axis=None)
        assert (result.predicted < result.upper).all(axis=None)
        half = (result.predicted - result.forecasters[PERSISTENCE]) / (
            result.forecasters[LSTM] - result.forecasters[PERSISTENCE]
        )
        np.testing.assert_allclose(half, 0.5, atol=0.01)  # the fake serves half of what it says alone

    def test_the_row_after_a_missing_step_has_no_forecast(self) -> None:
        table = walk(100).drop(walk(100).index[70])
        result = Result(run(table, options=ONCE))
        missing = result.predicted.index[result.predicted.isna().any(axis=1)]
        assert missing.tolist() == [walk(100).index[71]]

    def test_times_off_the_grid_keep_their_own_time(self) -> None:
        table = walk(100)
        table.index += pd.Timedelta("13.5s")
        result = Result(run(table, options=ONCE))
        assert result.times.equals(table.index[50:].rename("timestamp"))
        assert result.predicted.notna().all(axis=None)

    def test_the_baseline_is_persistence_with_the_same_calibration(self) -> None:
        """Where no model ever serves, both are one; beside a model the baseline stays what it was."""
        table = walk(140)
        alone = run(table, Learner(False), options=ONCE).trail
        np.testing.assert_array_equal(alone.lower, alone.baseline_lower)
        beside = run(table, Learner(), options=ONCE).trail
        np.testing.assert_array_equal(beside.baseline_lower, alone.lower)
        np.testing.assert_array_equal(beside.baseline_upper, alone.upper)
        assert not np.array_equal(beside.lower, alone.lower)


class TestSchedule:
    def record(self, folder: Path, learner: Learner) -> tuple[Result, Schedule]:
        store = ModelStore(str(folder), 5)
        result = Result(
            run(
                walk(120),
                learner,
                options=Options(train_fraction=0.5, retrain_every=15, swap_after=2),
                record=Record(store, "s"),
            )
        )
        return result, Schedule([Swap(**swap) for swap in store.swaps("s")], learner.models.__getitem__)

    def test_the_recorded_swaps_give_the_same_forecasts_bit_for_bit(self, tmp_path: Path) -> None:
        learner = Learner(True, False)
        first, schedule = self.record(tmp_path, learner)
        again = Result(run(walk(120), schedule=schedule, options=Options(train_fraction=0.5)))
        assert len(schedule.swaps) == 3
        assert bits(again) == bits(first)
        assert again.swaps.equals(first.swaps)
        assert again.models.equals(first.models)
        assert again.notices == ()

    def test_a_recorded_return_to_persistence_is_repeated(self, tmp_path: Path) -> None:
        _, schedule = self.record(tmp_path, Learner())
        [first, second, *_] = schedule.swaps
        back = Swap(PERSISTENCE_MODEL, second.after, second.restarts, STATELESS, 0)
        again = Result(run(walk(120), schedule=replace(schedule, swaps=[first, back]), options=HALF))
        served = again.models.loc[pd.Timestamp(second.after, unit="ms", tz="UTC") :].iloc[2:]
        assert again.swaps["model"].tolist() == [first.model, PERSISTENCE_MODEL]
        assert set(served) == {PERSISTENCE_MODEL}
        assert again.predicted.loc[served.index].equals(again.forecasters["persistence"].loc[served.index])
        assert again.notices == ()

    def test_swaps_that_were_not_met_are_told(self, tmp_path: Path) -> None:
        _, schedule = self.record(tmp_path, Learner())
        again = Result(run(walk(120).iloc[:80], schedule=schedule, options=Options(train_fraction=0.5)))
        assert len(schedule.swaps) == 4
        assert again.notices == ("2 of 4 scheduled swaps were not met: the rows lack their ticks",)


@pytest.mark.parametrize("rows", [2, 20, 33])
def test_too_few_rows_are_refused_with_the_number_needed(rows: int) -> None:
    with pytest.raises(
        UsageError, match=r"^prices.csv: too few rows: \d+ of \d+ .* a training needs 15 .* and 2 more$"
    ):
        run(walk(rows))
    run(walk(34))


@pytest.mark.parametrize("options", [{"train_fraction": 1.0}, {"retrain_every": -1}, {"swap_after": -1}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Options(**options)


def seen_until(result: Result, rows: int) -> list[bytes]:
    return [each.to_numpy()[:rows].tobytes() for each in (*result.forecasters.values(), result.lower, result.upper)]


@FEW
@given(
    cut=st.integers(1, 58),
    future=st.lists(st.sampled_from([np.nan, 0.0, -5.0, 1e-3, 99.0, 1e9]), min_size=1, max_size=7),
    retrain_every=st.sampled_from([0, 7, 20]),
    seed=st.integers(0, 3),
)
def test_what_comes_later_changes_no_forecast(cut: int, future: Sequence[float], retrain_every: int, seed: int) -> None:
    """Nor model: of 60 scored rows, those up to `cut` stay; the forecast of the row after them is made by then."""
    options = Options(train_fraction=0.5, retrain_every=retrain_every)
    table = walk(120, seed=seed)
    other = table.copy()
    later = other.iloc[60 + cut :]
    other.iloc[60 + cut :] = np.resize(np.array(future), later.shape)
    first, second = (Result(run(each, options=options)) for each in (table, other))
    assert seen_until(first, cut + 1) == seen_until(second, cut + 1)
    assert first.models[: cut + 1].tolist() == second.models[: cut + 1].tolist()
    assert SERVED in first.forecasters


class Told:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.left: list[tuple[int, float | None]] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def rows(self, done: int, total: int, seconds_left: float | None) -> None:
        self.left.append((done, seconds_left))


def test_progress_names_the_trainings_and_knows_the_time_left_after_the_first() -> None:
    told = Told()
    run(walk(100), Learner(True, False), options=Options(train_fraction=0.5, retrain_every=20), reporter=told)
    assert told.stages == ["history: 50 rows", *(f"training {n} on {t} ticks" for n, t in ((1, 48), (2, 60), (3, 60)))]
    assert [note.split(" ", 2)[2] for note in told.notes] == ["so it was told"] * 3
    unknown = [done for done, left in told.left if left is None]
    assert unknown == [1, 48], "the first report, and the beginning of the first training"
    assert told.left[-1][0] == 100
    assert told.left[-1][1] == 0.0


def test_every_row_has_its_outcome_counted() -> None:
    table = walk(60)
    table.iloc[7] = np.nan
    backtest = run(table, options=ONCE)
    assert dict(backtest.counts) == {"forecast": 59, "no_price": 1}
    assert len(checked(table, SMALL)) == 60
