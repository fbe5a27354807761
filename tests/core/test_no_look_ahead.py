"""Nothing at or before a time depends on anything after it."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.engine import ForecastEngine
from streamer.core.tick import Tick
from tests.core.fakes import fake
from tests.core.helpers import FEW, SMALL, lasting, put_into_service, tick_sequences, vectors, walk


def outcomes(ticks: Sequence[Tick]) -> list[object]:
    """All that comes out, bit by bit, with a model trained on what was seen at each tenth tick and swapped in."""
    engine = ForecastEngine(SMALL)
    found = []
    for count, tick in enumerate(ticks, 1):
        found.append(lasting(engine.process(tick)))
        if count % 10 == 0 and len(engine.history):
            put_into_service(engine, fake(engine, f"m{count}", engine.symbols))
    return found


@FEW
@given(ticks=tick_sequences(max_size=60), data=st.data())
def test_other_prices_later_change_no_forecast_before(ticks: list[Tick], data: st.DataObject) -> None:
    """Through features, scale, training, swaps and calibration: the tick at `cut` is the last that stays."""
    ticks = [*walk(15, start=ticks[0].time - 15_000), *ticks]
    cut = data.draw(st.integers(0, len(ticks) - 1))
    later = [Tick(tick.time, data.draw(vectors()), tick.record_time) for tick in ticks[cut + 1 :]]
    assert outcomes(ticks)[: cut + 1] == outcomes([*ticks[: cut + 1], *later])[: cut + 1]


@FEW
@given(ticks=tick_sequences(max_size=40))
def test_ending_earlier_changes_no_forecast_before(ticks: list[Tick]) -> None:
    half = len(ticks) // 2
    assert outcomes(ticks)[:half] == outcomes(ticks[:half])
