"""Restored and continued equals never stopped, bit for bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import checkpoint, snapshot
from streamer.core.engine import ForecastEngine
from streamer.core.levels import Change
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.errors import SnapshotError
from tests.core.fakes import FakeForecaster, fake, shelf
from tests.core.helpers import (
    FEW,
    MODERATE,
    SMALL,
    START,
    STEP,
    forecast_of,
    lasting,
    put_into_service,
    run,
    tick_sequences,
    walk,
)

EMPTY = shelf()


def restart(engine: ForecastEngine, *models: FakeForecaster) -> ForecastEngine:
    """`engine` through a snapshot, under the same settings."""
    restored = checkpoint.restore(engine.settings, checkpoint.save(engine, {}), shelf(*models).load)
    assert restored.notices == ()
    return restored.engine


@MODERATE
@given(ticks=tick_sequences(), cut=st.integers(0, 40), change=st.sampled_from(Change))
def test_restored_equals_never_stopped(ticks: list[Tick], cut: int, change: Change) -> None:
    """Also with nothing seen yet, in the middle of a late run, and before the ring is full."""
    engine = ForecastEngine(replace(SMALL, change=change))
    run(engine, ticks[:cut])
    restored = restart(engine)

    for tick in ticks[cut:]:
        assert lasting(restored.process(tick)) == lasting(engine.process(tick))
    assert checkpoint.save(restored, {}) == checkpoint.save(engine, {})


@FEW
@given(ticks=tick_sequences(), cut=st.integers(0, 30), swap_at=st.none() | st.integers(0, 30))
def test_restored_equals_never_stopped_with_a_model_in_service_and_with_a_swap(
    ticks: list[Tick], cut: int, swap_at: int | None
) -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(12, start=START - 20 * STEP))
    first = fake(engine)
    put_into_service(engine, first)
    run(engine, ticks[:cut])
    restored = restart(engine, first)

    for i, tick in enumerate(ticks[cut:]):
        if i == swap_at:
            # Trained on what both still hold: a restart leaves the ring, and the service reads back the rest.
            second = replace(fake(restored, "m2"), as_of=int(engine.ring.times[-1]))
            for each in (engine, restored):
                put_into_service(each, second)
        assert lasting(restored.process(tick)) == lasting(engine.process(tick))
    assert checkpoint.save(restored, {}) == checkpoint.save(engine, {})


def test_a_snapshot_says_the_same_after_it_was_restored() -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(30))
    model = fake(engine)
    put_into_service(engine, model)
    run(engine, walk(40)[30:])
    data = checkpoint.save(engine, {"offset": 17, "note": ["x", None]})

    restored = checkpoint.restore(SMALL, data, shelf(model).load)

    assert restored.extra == {"offset": 17, "note": ["x", None]}
    assert checkpoint.save(restored.engine, restored.extra) == data


def test_restoring_does_not_tie_two_engines_together() -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(30))
    before = checkpoint.save(engine, {})

    run(restart(engine), walk(50)[30:])

    assert checkpoint.save(engine, {}) == before


def test_a_training_that_was_wanted_is_still_wanted_after_a_restart() -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(SMALL.first))
    assert engine.policy.wanted == "schedule"

    restored = restart(engine)
    assert restored.policy.wanted == "schedule"
    restored.policy.ended()
    assert restart(restored).policy.wanted is None


def test_a_shorter_interval_between_trainings_takes_effect_at_once() -> None:
    engine = ForecastEngine(replace(SMALL, every=1_000))
    run(engine, walk(SMALL.first + 1))

    restored = checkpoint.restore(replace(SMALL, every=10), checkpoint.save(engine, {}), EMPTY.load).engine
    steps = run(restored, walk(40)[SMALL.first + 1 :])

    due = [i for i, step in enumerate(steps) if step.training]
    assert due[0] <= 10, "ticks after the restart"
    assert np.diff(due).tolist() == [10] * (len(due) - 1)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("window", replace(SMALL, window=8)),
        ("step", replace(SMALL, step=2 * STEP)),
        ("change", replace(SMALL, change=Change.DIFFERENCE)),
        ("change", replace(SMALL, change=Change.AUTO)),
        ("targets", replace(SMALL, targets=("A",))),
        ("symbols", replace(SMALL, symbols=("B", "A"))),
        ("coverage", replace(SMALL, coverage=0.5)),
        ("scoring_window", replace(SMALL, scoring_window=100)),
    ],
)
def test_under_other_settings_the_ring_is_kept_and_a_training_wanted(name: str, settings: EngineSettings) -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(20))
    model = fake(engine)
    put_into_service(engine, model)
    run(engine, walk(22)[20:])

    restored = checkpoint.restore(settings, checkpoint.save(engine, {"offset": 3}), shelf(model).load)

    assert restored.extra == {"offset": 3}
    assert len(restored.notices) == 1
    assert name in restored.notices[0]
    assert restored.engine.policy.wanted == "settings_changed"
    assert restored.engine.model_id == "persistence"
    fresh = ForecastEngine(settings)
    run(fresh, walk(22)[-SMALL.window :])
    assert restored.engine.ring.times.tolist() == fresh.ring.times.tolist()
    assert restored.engine.ring.prices.tobytes() == fresh.ring.prices.tobytes()
    assert lasting(restored.engine.process(walk(23)[22])) == lasting(fresh.process(walk(23)[22]))


def test_under_other_settings_the_ring_is_kept_across_a_restart_of_time() -> None:
    engine = ForecastEngine(SMALL)
    run(engine, [*walk(20), *walk(SMALL.late_reset + 1, start=START - 50 * STEP)])
    assert np.diff(engine.ring.times).min() < 0, "or the test does not show what it should"

    restored = checkpoint.restore(replace(SMALL, coverage=0.5), checkpoint.save(engine, {}), EMPTY.load).engine

    assert restored.ring.times.tolist() == engine.ring.times.tolist()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(replace(SMALL, max_gap=9), id="max_gap"),
        pytest.param(replace(SMALL, max_stale=9), id="max_stale"),
        pytest.param(replace(SMALL, late_reset=9), id="late_reset"),
        pytest.param(replace(SMALL, max_ahead=9), id="max_ahead"),
        pytest.param(replace(SMALL, history=99), id="history"),
        pytest.param(replace(SMALL, every=99), id="every"),
    ],
)
def test_settings_that_do_not_shape_an_engine_may_change(settings: EngineSettings) -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(20))
    model = fake(engine)
    put_into_service(engine, model)

    restored = checkpoint.restore(settings, checkpoint.save(engine, {}), shelf(model).load)

    assert restored.notices == ()
    assert restored.engine.model_id == "m1"


def test_where_the_champion_cannot_be_loaded_persistence_serves_and_a_training_is_wanted() -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(20))
    put_into_service(engine, fake(engine))

    restored = checkpoint.restore(SMALL, checkpoint.save(engine, {}), EMPTY.load)

    assert restored.engine.policy.wanted == "champion_lost"
    (notice,) = restored.notices
    assert "m1" in notice
    assert "m1 is gone" in notice
    assert restored.engine.lost_model == "m1"
    forecast = forecast_of(restored.engine.process(walk(21)[20]))
    assert (forecast.model, forecast.yhat.tolist()) == ("persistence", forecast.last.tolist())


def test_a_lost_champion_is_named_until_another_serves_in_its_place() -> None:
    """Through further restarts, and the nearest to go back to is itself: its store may only have been away."""
    engine = ForecastEngine(SMALL)
    run(engine, walk(20))
    older, lost = fake(engine, "m1"), fake(engine, "m2")
    put_into_service(engine, older)
    run(engine, walk(21)[20:])
    put_into_service(engine, lost)
    for _ in range(2):
        engine = checkpoint.restore(SMALL, checkpoint.save(engine, {}), shelf(older).load).engine
        assert engine.lost_model == "m2"
        assert engine.earlier_models() == ("m2", "m1")

    put_into_service(engine, replace(older, as_of=1))

    assert engine.lost_model is None
    assert restart(engine, older).lost_model is None
    engine.swap(None)
    assert restart(engine).lost_model is None


def test_what_was_reverted_stays_so_after_a_restart_and_under_other_settings() -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(20))
    put_into_service(engine, fake(engine))
    engine.revert("m1", None)

    assert restart(engine).reverted == ("m1",)
    other = replace(SMALL, coverage=0.5)
    assert checkpoint.restore(other, checkpoint.save(engine, {}), EMPTY.load).engine.reverted == ("m1",)


def test_a_schedule_is_taken_up_again_after_a_restart() -> None:
    """Swaps that the snapshot holds are not repeated, those to come are."""
    ticks = walk(60)
    live = ForecastEngine(SMALL)
    models = []
    for i, tick in enumerate(ticks):
        live.process(tick)
        if i in (15, 35):
            models.append(fake(live, f"m{i}"))
            put_into_service(live, models[-1])
    load = shelf(*models).load
    never_stopped = ForecastEngine(SMALL, live.swaps, load)
    run(never_stopped, ticks[:30])

    data = checkpoint.save(never_stopped, {})
    restored = checkpoint.restore(SMALL, data, load, live.swaps).engine
    # Read back by the service after a restart, beside the snapshot.
    older = slice(0, 30 - SMALL.window)
    held = never_stopped.history
    restored.history.prepend(held.times[older], held.breaks[older], held.prices[older])

    for tick in ticks[30:]:
        assert lasting(restored.process(tick)) == lasting(never_stopped.process(tick))
    assert restored.swaps == live.swaps


def test_a_schedule_longer_than_the_swaps_that_a_snapshot_names_is_taken_up_again() -> None:
    ticks = walk(60)
    live = ForecastEngine(SMALL)
    schedule, models = [], []
    for i, tick in enumerate(ticks):
        live.process(tick)
        if i > 5:
            models.append(fake(live, f"m{i}", symbols=("A",)))
            schedule.append(put_into_service(live, models[-1]))
    load = shelf(*models).load
    again = ForecastEngine(SMALL, schedule, load)
    run(again, ticks[:50])
    assert again.swaps[0] != schedule[0], "or the test does not show what it should"

    restored = checkpoint.restore(SMALL, checkpoint.save(again, {}), load, schedule).engine

    models_used = [forecast_of(step).model for step in run(restored, ticks[50:])]
    assert models_used == [forecast_of(step).model for step in run(again, ticks[50:])]
    assert models_used[-1] == "m58"


def full() -> tuple[dict[str, Any], dict[str, np.ndarray], FakeForecaster]:
    engine = ForecastEngine(SMALL)
    run(engine, walk(20))
    model = fake(engine)
    put_into_service(engine, model)
    run(engine, walk(22)[20:])
    meta, arrays = snapshot.unpack(checkpoint.save(engine, {}))
    return meta, arrays, model


ARRAYS = sorted(name for name in full()[1] if not name.startswith("model."))


OF_LATE = {"market.unseen", "adjustments", "rhythm"}
"""What older snapshots do not have."""


@pytest.mark.parametrize(
    ("name", "damage"),
    [*((name, "longer") for name in ARRAYS), *((name, "absent") for name in ARRAYS if name not in OF_LATE)],
)
def test_a_snapshot_whose_arrays_do_not_fit_is_refused(name: str, damage: str) -> None:
    """Its checksum is right: it was made by something else."""
    meta, arrays, model = full()
    array = arrays.pop(name)
    if damage == "longer":
        arrays[name] = np.concatenate([array, array])

    with pytest.raises(SnapshotError):
        checkpoint.restore(SMALL, snapshot.pack(meta, arrays), shelf(model).load)


def test_a_snapshot_from_before_there_were_inputs_and_rhythms_is_taken_up_whole() -> None:
    meta, arrays, model = full()
    del meta["rhythm"], arrays["rhythm.left"], meta["settings"]["inputs"]

    restored = checkpoint.restore(SMALL, snapshot.pack(meta, arrays), shelf(model).load)

    assert restored.notices == ()
    assert restored.engine.model_id == model.id
    assert restored.engine.is_expected(START)


@pytest.mark.parametrize("name", sorted(full()[0].keys() - OF_LATE))
def test_a_snapshot_whose_header_lacks_an_entry_is_refused(name: str) -> None:
    meta, arrays, model = full()
    del meta[name]

    with pytest.raises(SnapshotError):
        checkpoint.restore(SMALL, snapshot.pack(meta, arrays), shelf(model).load)


def test_an_older_snapshot_without_what_came_later_is_taken_as_it_is() -> None:
    meta, arrays, model = full()
    for each in OF_LATE:
        meta.pop(each, None)
        arrays.pop(each, None)

    restored = checkpoint.restore(SMALL, snapshot.pack(meta, arrays), shelf(model).load)

    assert restored.notices == ()
    assert restored.engine.model_id == model.id
    assert restored.engine.adjustments == ()
    assert restored.engine.market.unseen.tolist() == [0.0, 0.0]
