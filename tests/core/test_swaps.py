"""Swaps: models caught up beside the stream, put in between two ticks, and repeated from their record."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import checkpoint
from streamer.core.catchup import CatchUp
from streamer.core.engine import ForecastEngine
from streamer.core.outcome import Step
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from tests.core.fakes import FakeForecaster, fake, shelf
from tests.core.helpers import (
    FEW,
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

Train = Callable[[ForecastEngine, str], FakeForecaster]


def trained_elsewhere(engine: ForecastEngine, model_id: str) -> FakeForecaster:
    """A model whose history ends at a time that the stream never had."""
    return replace(fake(engine, model_id), as_of=1)


class Live:
    """A stream on which models are trained, caught up in slices while ticks go on, and swapped in."""

    def __init__(self, settings: EngineSettings = SMALL) -> None:
        self.engine = ForecastEngine(settings)
        self.models: list[FakeForecaster] = []
        self.steps: list[Step] = []
        self._ready: CatchUp | None = None

    def process(self, ticks: list[Tick], slice_size: int = 2) -> "Live":
        """Process `ticks`; after each, a slice of the catch-up, and the swap once it is done."""
        for tick in ticks:
            self.steps.append(self.engine.process(tick))
            if self._ready is not None and self._ready.advance(slice_size):
                self.engine.swap(self._ready)
                self._ready = None
        return self

    def train(self, train: Train = fake) -> "Live":
        """Train on what is held now, without beginning to catch up."""
        self.models.append(train(self.engine, f"m{len(self.models)}"))
        return self

    def catch_up(self) -> "Live":
        """Begin to bring the newest model up to the present."""
        self._ready = self.engine.catch_up(self.models[-1])
        return self

    def again(self, settings: EngineSettings | None = None) -> ForecastEngine:
        """A fresh engine on the schedule that this run recorded."""
        return ForecastEngine(settings or self.engine.settings, self.engine.swaps, shelf(*self.models).load)


def forecasts(steps: list[Step]) -> list[object]:
    """All that subscribers see, bit by bit; a schedule asks for no trainings."""
    return [lasting(replace(step, training=None)) for step in steps]


@pytest.mark.parametrize("train", [fake, trained_elsewhere], ids=["trained state", "ring"])
@pytest.mark.parametrize("slice_size", [2, 3, 100])
def test_a_schedule_gives_the_same_forecasts_as_the_run_that_recorded_it(train: Train, slice_size: int) -> None:
    ticks = walk(60)
    live = Live().process(ticks[:15]).train(train).process(ticks[15:25]).catch_up()
    live.process(ticks[25:45], slice_size).train(train).catch_up().process(ticks[45:], slice_size)
    assert [swap.start for swap in live.engine.swaps] == ["trained" if train is fake else "ring"] * 2

    again = live.again()

    assert forecasts(run(again, ticks)) == forecasts(live.steps)
    assert again.swaps == live.engine.swaps


@FEW
@given(
    before=tick_sequences(max_size=20, extra=()),
    between=tick_sequences(max_size=10, extra=()),
    slice_size=st.sampled_from([2, 5]),
    train=st.sampled_from([fake, trained_elsewhere]),
)
def test_a_schedule_repeats_a_swap_among_gaps_restarts_and_blanks(
    before: list[Tick], between: list[Tick], slice_size: int, train: Train
) -> None:
    first = walk(8, start=START - 50 * STEP)
    after = walk(12, start=START + 500 * STEP, seed=3)
    live = Live().process(first + before).train(train).catch_up().process(between + after, slice_size)
    assert len(live.engine.swaps) == 1

    again = live.again()

    assert forecasts(run(again, first + before + between + after)) == forecasts(live.steps)


def test_a_schedule_tells_two_ticks_of_the_same_time_apart() -> None:
    """Time restarts, and the swap comes when it passes an hour for the second time."""
    first, second = walk(30), walk(30, seed=1)
    live = Live().process(first).process(second[:10]).train().catch_up().process(second[10:])
    assert first[0].time < live.engine.swaps[0].after < first[-1].time

    again = live.again()

    assert forecasts(run(again, first + second)) == forecasts(live.steps)


def test_a_catch_up_whose_first_row_has_left_the_history_is_given_up() -> None:
    """It could still be swapped in, but no schedule could repeat that swap."""
    engine = ForecastEngine(replace(SMALL, history=10))
    ticks = walk(40)
    run(engine, ticks[:12])
    model = fake(engine)
    run(engine, ticks[12:20])
    ready = engine.catch_up(model)
    assert not ready.advance(5)
    run(engine, ticks[20:25])

    with pytest.raises(LookupError, match="m1"):
        ready.advance(100)


def test_a_swap_with_an_unseen_tick_is_refused() -> None:
    engine = ForecastEngine(SMALL)
    run(engine, walk(10))
    ready = engine.catch_up(fake(engine))
    assert ready.advance(0)
    engine.process(walk(11)[10])

    with pytest.raises(ValueError, match="m1 has not seen every tick"):
        engine.swap(ready)
    assert engine.model_id == "persistence"

    assert ready.advance(1)
    swap = engine.swap(ready)
    assert (swap.model, swap.after, swap.start) == ("m1", walk(11)[10].time, "trained")
    assert engine.swaps == [swap]
    assert engine.model_id == "m1"


def test_the_forecast_after_a_swap_is_the_first_that_carries_the_new_model() -> None:
    ticks = walk(12)
    engine = ForecastEngine(SMALL)
    before = run(engine, ticks[:10])[-1]
    put_into_service(engine, fake(engine))

    assert forecast_of(before).model == "persistence"
    after = engine.process(ticks[10])
    assert forecast_of(after).model == "m1"
    assert after.scored == 2, "the forecast that was open is scored all the same"


def test_swapping_a_model_for_itself_changes_no_forecast() -> None:
    """Retrained to the same weights, with the state that its whole history leaves: nothing is shaken."""
    ticks = walk(60)
    plain, swapped = (ForecastEngine(replace(SMALL, symbols=("A", "B"))) for _ in range(2))
    for engine in (plain, swapped):
        run(engine, ticks[:20])
        put_into_service(engine, fake(engine, "same"))
        run(engine, ticks[20:30])
    ready = swapped.catch_up(fake(swapped, "same"))
    run(plain, ticks[30:40])
    run(swapped, ticks[30:40])
    assert ready.advance(100)
    swapped.swap(ready)

    assert forecasts(run(swapped, ticks[40:])) == forecasts(run(plain, ticks[40:]))


def test_a_model_caught_up_in_slices_stands_where_one_is_that_saw_every_tick() -> None:
    """Blank rows for missing steps included, none twice and none left out."""
    ticks = [tick for i, tick in enumerate(walk(60)) if i not in (12, 13, 31, 40, 41, 42, 43, 44)]
    live = Live().process(ticks[:15]).train().catch_up().process(ticks[15:])
    everything = live.models[0].trained_on(live.engine.history, (0, 1), STEP)

    assert live.engine.serving is not None
    for name, array in live.engine.serving.state.items():
        np.testing.assert_array_equal(array, everything.trained[name], err_msg=name)


def test_a_model_trained_elsewhere_starts_at_zero_on_the_ring() -> None:
    ticks = walk(20)
    engine = ForecastEngine(SMALL)
    run(engine, ticks)
    model = trained_elsewhere(engine, "m1")

    swap = put_into_service(engine, model)

    assert swap.start == "ring"
    ring_only = ForecastEngine(SMALL)
    run(ring_only, ticks[-SMALL.window :])
    expected = fake(ring_only).trained
    assert engine.serving is not None
    # The first row of the ring has no row before it, in the one as in the other.
    np.testing.assert_array_equal(engine.serving.state["h0"], expected["h0"])


def test_a_start_on_the_ring_takes_no_notice_of_what_lies_before_it() -> None:
    """A restored engine holds nothing before its ring, and has to come to the same forecasts."""
    ticks = [tick for i, tick in enumerate(walk(20)) if i not in (13, 14)]
    engine = ForecastEngine(SMALL)
    run(engine, ticks)
    assert engine.ring.times[0] == ticks[13].time, "or the gap is not where the test wants it"
    restored = checkpoint.restore(SMALL, checkpoint.save(engine, {}), shelf().load).engine
    model = trained_elsewhere(engine, "m1")
    states = []
    for each in (engine, restored):
        put_into_service(each, model, "ring")
        assert each.serving is not None
        states.append(each.serving.state["h0"].tolist())

    assert states[0] == states[1]


def test_a_start_on_the_trained_state_is_refused_where_its_row_is_gone() -> None:
    engine = ForecastEngine(replace(SMALL, history=10))
    run(engine, walk(10))
    model = fake(engine)
    run(engine, walk(40)[10:])

    with pytest.raises(LookupError, match="m1"):
        engine.catch_up(model, "trained")


def test_a_catch_up_that_the_stream_has_outrun_says_so() -> None:
    engine = ForecastEngine(replace(SMALL, history=10))
    ticks = walk(40)
    run(engine, ticks[:10])
    ready = engine.catch_up(fake(engine))
    run(engine, ticks[10:])

    with pytest.raises(LookupError, match="m1"):
        ready.advance(100)
    with pytest.raises(LookupError, match="m1"):
        engine.swap(ready)
    assert engine.model_id == "persistence"


def test_a_catch_up_goes_on_where_it_was_when_older_history_is_put_before() -> None:
    ticks = walk(40)
    source = ForecastEngine(SMALL)
    run(source, ticks[:20])
    restored = checkpoint.restore(SMALL, checkpoint.save(source, {}), shelf().load).engine
    ready = restored.catch_up(fake(source), "ring")
    ready.advance(2)
    older = slice(0, 20 - SMALL.window)
    restored.history.prepend(source.history.times[older], source.history.breaks[older], source.history.prices[older])
    run(restored, ticks[20:30])
    assert ready.advance(100)
    restored.swap(ready)

    from_the_ring_on = ForecastEngine(SMALL)
    run(from_the_ring_on, ticks[20 - SMALL.window : 30])
    assert restored.serving is not None
    np.testing.assert_array_equal(restored.serving.state["h0"], fake(from_the_ring_on).trained["h0"])


def test_a_symbol_that_joins_while_a_model_catches_up_is_read_from_then_on() -> None:
    """The repetition of the run, which knows the symbol when it catches up, comes to the same forecasts."""
    ticks = walk(40, ("A", "B", "C"))
    late_c = [replace(tick, prices={"A": tick.prices["A"], "B": tick.prices["B"]}) for tick in ticks[:20]]
    sequence = late_c + ticks[20:]
    other = ForecastEngine(SMALL)
    run(other, ticks[:10])
    model = fake(other, "m0", symbols=("A", "B", "C"))
    live = Live()
    live.models.append(model)
    live.process(sequence[:19]).catch_up().process(sequence[19:], slice_size=2)
    assert live.engine.swaps[0].after > sequence[20].time, "or the symbol joined after the swap"

    assert forecasts(run(live.again(), sequence)) == forecasts(live.steps)


def test_a_schedule_without_a_way_to_load_models_is_refused() -> None:
    live = Live().process(walk(10)).train().catch_up().process(walk(12)[10:])

    with pytest.raises(ValueError, match="load"):
        run(ForecastEngine(SMALL, live.engine.swaps), walk(20))


def test_only_the_newest_swaps_are_kept() -> None:
    ticks = walk(60)
    engine = ForecastEngine(SMALL)
    for tick in ticks:
        engine.process(tick)
        put_into_service(engine, fake(engine, symbols=("A",)))

    assert [swap.after for swap in engine.swaps] == [tick.time for tick in ticks[-32:]]


# Reverts


def after(live: Live, *, swaps: int) -> ForecastEngine:
    """The engine of `live` after `swaps` models m0, m1, ... with some ticks before, between and behind."""
    for number in range(swaps):
        live.process(walk(60)[10 * number : 10 * (number + 1)]).train()
        put_into_service(live.engine, live.models[-1])
    live.process(walk(60)[10 * swaps : 10 * (swaps + 1)])
    return live.engine


def revert(live: Live) -> str:
    """Go back as the service does; returns the id of the model that serves then."""
    engine = live.engine
    back = engine.earlier_models()
    by_id = {model.id: model for model in live.models}
    ready = engine.catch_up(by_id[back[0]]) if back else None
    assert ready is None or ready.advance(100)
    return engine.revert(engine.model_id, ready).model


def test_a_revert_goes_back_model_by_model_and_at_last_to_persistence() -> None:
    live = Live()
    engine = after(live, swaps=3)

    served = []
    for tick in walk(60)[40:43]:
        served.append(revert(live))
        live.process([tick])

    assert served == ["m1", "m0", "persistence"]
    assert engine.reverted == ("m2", "m1", "m0")
    assert [forecast_of(step).model for step in live.steps[-3:]] == served
    assert engine.serving is None


def test_a_revert_goes_back_to_persistence_where_that_served_before() -> None:
    live = Live()
    engine = after(live, swaps=1)
    revert(live)
    live.process(walk(60)[20:30]).train()
    put_into_service(engine, live.models[-1])
    live.process(walk(60)[30:31])

    assert revert(live) == "persistence"
    assert engine.reverted == ("m0", "m1")


def test_a_reverted_model_is_never_put_into_service_again() -> None:
    live = Live()
    engine = after(live, swaps=2)
    revert(live)
    ready = engine.catch_up(live.models[1])
    assert ready.advance(100)

    with pytest.raises(ValueError, match="m1 was reverted"):
        engine.swap(ready)
    assert engine.model_id == "m0"


def test_only_the_model_in_service_can_be_reverted() -> None:
    engine = after(Live(), swaps=1)

    with pytest.raises(ValueError, match="m7 does not serve"):
        engine.revert("m7", None)
    assert engine.reverted == ()


def test_a_model_trained_from_a_reverted_one_may_serve() -> None:
    live = Live()
    engine = after(live, swaps=2)
    live.train()
    revert(live)

    put_into_service(engine, live.models[-1])

    assert engine.model_id == "m2"


@pytest.mark.parametrize("swaps", [1, 2])
def test_a_schedule_repeats_reverts_to_a_model_and_to_persistence(swaps: int) -> None:
    live = Live()
    after(live, swaps=swaps)
    revert(live)
    live.process(walk(60)[40:50]).train()
    put_into_service(live.engine, live.models[-1])
    live.process(walk(60)[50:])
    expected = ["m0", "persistence", "m1"] if swaps == 1 else ["m0", "m1", "m0", "m2"]
    assert [swap.model for swap in live.engine.swaps] == expected

    again = live.again()
    ticks = [*walk(60)[: 10 * (swaps + 1)], *walk(60)[40:]]

    assert forecasts(run(again, ticks)) == forecasts(live.steps)
    assert again.swaps == live.engine.swaps


def test_of_two_swaps_after_one_tick_the_later_is_the_record() -> None:
    """The earlier one never forecast anything; a schedule has nothing to repeat of it."""
    live = Live()
    engine = after(live, swaps=1)
    live.train()
    put_into_service(engine, live.models[-1])

    revert(live)

    assert [(swap.model, swap.after) for swap in engine.swaps] == [
        ("m0", walk(60)[9].time),
        ("m0", walk(60)[19].time),
    ]
    assert revert(live) == "persistence"
    live.process(walk(60)[20:])
    assert forecasts(run(live.again(), walk(60))) == forecasts(live.steps)


def test_only_the_newest_reverted_ids_are_kept() -> None:
    engine = ForecastEngine(SMALL)
    ticks = walk(70)
    run(engine, ticks[:10])
    for number in range(70):
        put_into_service(engine, fake(engine, f"m{number}"))
        engine.revert(f"m{number}", None)

    assert engine.reverted == tuple(f"m{number}" for number in range(6, 70))
