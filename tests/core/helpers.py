"""What several tests of the core share: small settings, sequences of ticks, and comparison bit by bit."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from streamer.core.engine import ForecastEngine
from streamer.core.forecaster import Forecaster
from streamer.core.levels import Change
from streamer.core.outcome import Forecast, Step, Swap
from streamer.core.settings import EngineSettings
from streamer.core.tick import Tick

STEP = 1_000
START = 1_000_000

SMALL = EngineSettings(
    step=STEP,
    change=Change.LOG_RETURN,
    window=5,
    max_gap=3,
    max_stale=4,
    late_reset=3,
    max_ahead=5_000,
    max_symbols=3,
    scoring_window=2_400,
    first=7,
    every=10,
    history=60,
)
"""Every limit is near, so that a few dozen ticks meet them all."""

# Deadlines are off: the machine may be busy, and no test is about speed. Sequences of ticks are large examples,
# and to explain a failure by varying them takes minutes.
MODERATE = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
FEW = settings(MODERATE, max_examples=25)


def bits(value: Any) -> Any:
    """`value` in a form that is equal only where every bit is: NaN equals NaN, and 0.0 is not -0.0."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, *[bits(getattr(value, each.name)) for each in fields(value)])
    return value


def lasting(step: Step) -> Any:
    """`step` bit by bit, without the spacing: that warning is given once per process, not once per stream."""
    return [bits(getattr(step, each.name)) for each in fields(step) if each.name != "spacing"]


def run(engine: ForecastEngine, ticks: Iterable[Tick]) -> list[Step]:
    """Process all `ticks`."""
    return [engine.process(tick) for tick in ticks]


def forecast_of(step: Step) -> Forecast:
    """The forecast in `step`, which has to be one."""
    assert isinstance(step.outcome, Forecast), step.outcome
    return step.outcome


def walk(
    count: int, symbols: Sequence[str] = ("A", "B"), *, start: int = START, seed: int = 0, step: int = STEP
) -> list[Tick]:
    """`count` ticks without gaps of prices that walk at random."""
    rng = np.random.default_rng(seed)
    prices = 100.0 * np.exp(np.cumsum(rng.normal(scale=0.01, size=(count, len(symbols))), axis=0))
    return [Tick(start + i * step, dict(zip(symbols, row.tolist(), strict=True))) for i, row in enumerate(prices)]


def put_into_service(engine: ForecastEngine, model: Forecaster, start: str | None = None) -> Swap:
    """Catch `model` up at one go and swap it in."""
    ready = engine.catch_up(model, start)
    assert ready.advance(len(engine.history))
    return engine.swap(ready)


_usable = st.floats(1.0, 200.0)
_blank = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0])


def vectors(
    symbols: Sequence[str] = ("A", "B"), extra: Sequence[str] = ("C", "D")
) -> st.SearchStrategy[dict[str, float]]:
    """Price vectors in which anything may be blank or absent, and `extra` symbols seldom turn up."""
    usual = {symbol: st.one_of(_usable, _usable, _usable, _blank) for symbol in symbols}
    seldom = {symbol: st.one_of(_usable, _blank) for symbol in extra}
    plain = st.fixed_dictionaries(dict.fromkeys(symbols, _usable))
    return st.one_of(
        plain,
        plain,
        st.fixed_dictionaries({}, optional=usual),
        st.fixed_dictionaries({}, optional={**usual, **seldom}),
    )


@st.composite
def tick_sequences(
    draw: st.DrawFn,
    max_size: int = 40,
    symbols: Sequence[str] = ("A", "B"),
    extra: Sequence[str] = ("C", "D"),
) -> list[Tick]:
    """Ticks as a bad feed sends them, made for `SMALL`.

    Gaps on both sides of `max_gap`, duplicates with the same and with other prices, jumps back, restarts after
    `late_reset` late ticks, blanks, new symbols, times off the grid and times far ahead of their record's.
    """
    moves = st.sampled_from([1] * 14 + [2, 3, 4, 5, 6, 0, 0, -1, -2, -7, -30, "again", "again", "ahead"])
    now = START
    ticks: list[Tick] = []
    for move in draw(st.lists(moves, min_size=1, max_size=max_size)):
        if move == "again" and ticks:
            ticks.append(ticks[-1])
            continue
        time = now + (move if isinstance(move, int) else 20) * STEP
        behind = draw(st.sampled_from([None, 0, -4_000, -5_000, 3_000]))
        if move == "ahead":
            behind = draw(st.sampled_from([-6_000, -7_500, -3_600_000]))
        else:
            now = time
        sent = time + draw(st.sampled_from([0, 0, 0, 1, 999]))
        prices: Mapping[str, float] = draw(vectors(symbols, extra))
        ticks.append(Tick(sent, prices, None if behind is None else time + behind))
    return ticks
