"""Streams side by side on one more axis: each comes out as it would alone, bit for bit."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import experts, mix
from streamer.core.experts import Experts, Layout
from streamer.core.features import FeatureMap, Features, State
from streamer.core.grid import Floats, Row, is_whole
from streamer.core.levels import Change, Levels
from streamer.core.market_features import PEERS, MarketFeatures
from tests.core.helpers import FEW, bits

COUNTS = st.sampled_from([1, 2, 3, 7, 8, 9, 17, 130])
"""Of symbols: sums are taken in another order from 8 on, and beyond 128."""


def changes(random: np.random.Generator, n: int) -> Levels:
    kinds = random.choice([1, 2, 3])
    of = {1: [Change.LOG_RETURN], 2: [Change.DIFFERENCE], 3: [Change.LOG_RETURN, Change.DIFFERENCE]}[int(kinds)]
    return Levels.starting([of[i % len(of)] for i in range(n)])


def plain(random: np.random.Generator, n: int) -> FeatureMap:
    return Features(changes(random, n))


def market(random: np.random.Generator, n: int) -> FeatureMap:
    return MarketFeatures(changes(random, n), random.integers(0, n, size=(n, PEERS)))


def aged(state: State, random: np.random.Generator) -> State:
    """The same after any number of rows, where it counts them."""
    rows = "features.rows"
    return {**state, rows: random.integers(0, 3_000, 1).astype(np.float64)} if rows in state else state


def stacked(states: Sequence[State]) -> State:
    """As one; the axis of the streams is the first."""
    return {name: np.stack([state[name] for state in states]) for name in states[0]}


@pytest.mark.parametrize("kind", [plain, market])
@FEW
@given(n=COUNTS, streams=st.integers(1, 5), blank=st.sampled_from([0.0, 0.0, 0.1, 0.9]), seed=st.integers(0, 2**32))
def test_features(
    kind: Callable[[np.random.Generator, int], FeatureMap], n: int, streams: int, blank: float, seed: int
) -> None:
    """With blanks in some of them, a first row, breaks, bad prints and prices that stand still; of different ages."""
    random = np.random.default_rng(seed)
    features = kind(random, n)
    states = [aged(features.initial(n), random) for _ in range(streams)]
    prices = np.exp(random.normal(size=(streams, n)))
    for at in range(12):
        prices = prices * np.exp(random.normal(size=(streams, n)) * (random.random((streams, n)) < 0.8))
        now = np.where(random.random((streams, n)) < blank, np.nan, prices)
        row = Row(at, now, at == 7, is_whole(now.reshape(-1)))
        if at < streams:  # one after the other they begin
            states[at], _ = features.step(states[at], Row(at, prices[at]))
        together, found = features.step(stacked(states), row)
        alone = [features.step(state, Row(at, now[s], at == 7, row.whole)) for s, state in enumerate(states)]
        assert [bits(found[s].copy()) for s in range(streams)] == [bits(each) for _, each in alone]
        states = [state for state, _ in alone]
        expected = stacked(states)
        assert {name: bits(array) for name, array in together.items()} == {n: bits(a) for n, a in expected.items()}
        np.testing.assert_array_equal(features.scale(together), [features.scale(state) for state in states])


def beside(states: Sequence[State]) -> State:
    """Of the mix: the axis of the streams is the last but one."""
    return {name: np.stack([state[name] for state in states], state.ndim - 1) for name, state in states[0].items()}


@FEW
@given(m=COUNTS, streams=st.integers(1, 5), blank=st.sampled_from([0.0, 0.3, 0.9]), seed=st.integers(0, 2**32))
def test_mix(m: int, streams: int, blank: float, seed: int) -> None:
    """Where nothing was seen of one of them, too, and where no expert is any good."""
    random = np.random.default_rng(seed)
    states: list[State] = [mix.initial(5, m) for _ in range(streams)]
    for _ in range(8):
        change = 4.0 * random.normal(size=(streams, m))
        seen = None if blank == 0.0 else random.random((streams, m)) >= blank
        predicted, scale = random.normal(size=(5, streams, m)), random.random((streams, m))
        found, served = mix.propose(mix.learn(beside(states), change, seen), predicted, scale)
        alone = [
            mix.propose(mix.learn(state, change[s], None if seen is None else seen[s]), predicted[:, s], scale[s])
            for s, state in enumerate(states)
        ]
        assert [bits(served[s].copy()) for s in range(streams)] == [bits(each) for _, each in alone]
        states = [state for state, _ in alone]
        expected = beside(states)
        assert {name: bits(array) for name, array in found.items()} == {n: bits(a) for n, a in expected.items()}


@FEW
@given(m=COUNTS, streams=st.integers(1, 5), hidden=st.sampled_from([0, 1, 64]), seed=st.integers(0, 2**32))
def test_experts(m: int, streams: int, hidden: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    layout = Layout.of(45, hidden, m)
    linear = Experts(layout, random.normal(size=(m, len(experts.NAMES), layout.width)))
    features, last = random.normal(size=(streams, m, 50)), random.normal(size=(streams, m, hidden))
    columns = random.permutation(m)
    found: Floats = linear.predict(layout.basis(features[:, columns], features[..., 0], last, columns))
    for s in range(streams):
        alone = layout.basis(features[s, columns], features[s, :, 0], last[s], columns)
        assert bits(found[:, s].copy()) == bits(linear.predict(alone).copy())
