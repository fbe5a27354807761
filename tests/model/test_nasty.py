"""Feeds as bad as they come, under a real model: finite forecasts, every tick counted, and soon as good as before."""

from pathlib import Path

import numpy as np
import pytest

from streamer.core.grid import Floats
from streamer.core.outcome import Forecast
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick
from streamer.frames import read_prices
from tests.model.helpers import STEP, walk
from tests.model.live import Live, exchange_vectors, ticks_of
from tests.support import shared_data

WITHIN = 100  # ticks, after which the error has to be what it was


def test_a_halt_of_eight_days(tmp_path: Path) -> None:
    """Bitfinex, August 2016: hacked and shut; the market that opens again is another."""
    ticks = ticks_of(read_prices(shared_data("nasty/bitfinex_hack_halt_1m_2016-08.csv")))
    gaps = np.diff([tick.time for tick in ticks]) // STEP
    halt = int(gaps.argmax()) + 1
    ticks, gaps = ticks[: halt + 1_100], gaps[: halt + 1_099]
    live = Live(EngineSettings(every=0)).feed(ticks[:2_000])
    live.serve(live.train(tmp_path / "model")).feed(ticks[2_000:])

    assert live.outcomes() == {"forecast": len(ticks)}
    breaks = np.flatnonzero(gaps > 61)
    assert [i for i, step in enumerate(live.steps) if step.is_break] == (breaks + 1).tolist()
    assert sum(step.missing for step in live.steps) == (gaps[gaps <= 61] - 1).sum()
    assert live.steps[halt].scored == 0, "the price after the halt is no next minute's"
    before = live.ratio(ticks[halt - 1_000].time, ticks[halt].time)
    after = live.ratio(ticks[halt + WITHIN].time, ticks[-1].time)
    assert (after < 1.02 * before).all()


def test_exchange_ticks_with_repetitions_and_jumps_back_in_time(tmp_path: Path) -> None:
    """Beside the same vectors sorted, each once: repetitions cost restarts of time, but no accuracy."""
    ticks = exchange_vectors(shared_data("nasty/nse_mcx_futures_ticks_2025-11-17_raw.csv"))
    once = sorted({tick.time: tick for tick in reversed(ticks)}.values(), key=lambda tick: tick.time)
    settings = EngineSettings(step=1_000, every=0)
    live, sorted_out = Live(settings).feed(ticks[:500]), Live(settings)
    newest = live.engine.ring.times.max()
    model = live.train(tmp_path / "model")
    live.serve(model).feed(ticks[500:])
    sorted_out.feed([tick for tick in once if tick.time <= newest])
    sorted_out.serve(model).feed([tick for tick in once if tick.time > newest])

    outcomes = live.outcomes()
    assert outcomes.total() == len(ticks)
    assert outcomes["late"] > 100
    assert live.engine.position.restarts > 10
    assert set(live.errors) == set(sorted_out.errors), "each second that could be forecast was"
    np.testing.assert_allclose(
        live.ratio(newest + 1, ticks[-1].time), sorted_out.ratio(newest + 1, ticks[-1].time), atol=0.01
    )


@pytest.fixture(scope="module")
def bouncing() -> Floats:
    """Walks under noise of bid and ask: half of each move is taken back, which a model can learn."""
    noise = np.random.default_rng(1).normal(scale=0.1, size=(1_500, 2))
    return walk(1_500) + noise


@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_a_bad_print_a_hundred_times_off(factor: float, bouncing: Floats, tmp_path: Path) -> None:
    bad = bouncing.copy()
    bad[900, 0] *= factor
    clean, hit = Live(EngineSettings(every=0)), Live(EngineSettings(every=0))
    model = clean.feed(rows(bouncing)[:600]).train(tmp_path / "model")
    clean.serve(model).feed(rows(bouncing)[600:])
    hit.feed(rows(bad)[:600]).serve(model).feed(rows(bad)[600:])
    assert (clean.ratio(600 * STEP, 900 * STEP) < 0.95).all(), "or it would be persistence that is shown"

    assert hit.outcomes() == {"forecast": 1_500}
    assert sum(step.scored for step in hit.steps) == 2 * 1_499
    beyond = (900 + WITHIN) * STEP
    np.testing.assert_allclose(hit.ratio(beyond, 1_500 * STEP), clean.ratio(beyond, 1_500 * STEP), rtol=0.01)
    np.testing.assert_allclose(widths(hit, 900 + WITHIN), widths(clean, 900 + WITHIN), rtol=0.1)


def rows(prices: Floats) -> list[Tick]:
    """One tick per row, from the epoch on."""
    return [Tick(STEP * i, dict(zip("AB", row, strict=True))) for i, row in enumerate(prices.tolist())]


def widths(live: Live, index: int) -> Floats:
    """Of the intervals published with the tick at `index`, in prices."""
    outcome = live.steps[index].outcome
    assert isinstance(outcome, Forecast)
    return outcome.upper - outcome.lower
