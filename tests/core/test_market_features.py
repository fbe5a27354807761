"""Market features against oracles that work each out over a whole series at once."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import snapshot, volatility
from streamer.core.features import CLIP, State
from streamer.core.grid import Floats, Row
from streamer.core.levels import Change, Levels
from streamer.core.market_features import NAMES, PEERS, REGRESSORS, MarketFeatures, most_correlated
from tests.core.helpers import FEW, MODERATE, bits

NAN = np.nan
OWN = (1, 2, 5, 15, 60)
SPREAD = (3, 10, 40, 160, 640)
ALONE = [
    name for name in NAMES if not name.startswith(("market", "peer", "others", "gap"))
]  # features of a symbol that its market has no say in


def peers_of(n: int) -> np.ndarray:
    """Each symbol's next ones in the order of the columns, its own index where there are no more."""
    return np.array([[(i + k) % n if k < n else i for k in range(1, PEERS + 1)] for i in range(n)], np.intp)


def market(n: int, change: Change = Change.DIFFERENCE) -> MarketFeatures:
    return MarketFeatures(Levels.starting([change] * n), peers_of(n))


def rows_of(prices: Floats, breaks: Iterable[int] = (0,)) -> list[Row]:
    return [Row(i, row, i in set(breaks)) for i, row in enumerate(prices)]


def run(features: MarketFeatures, rows: Iterable[Row], state: State | None = None) -> tuple[State, Floats]:
    """The last state, and all features `(T, n, len(NAMES))`."""
    state = features.initial(len(features.peers)) if state is None else state
    found = []
    for row in rows:
        state, row_features = features.step(state, row)
        found.append(row_features)
    return state, np.array(found)


def seen(prices: Floats, breaks: Iterable[int] = (0,), change: Change = Change.DIFFERENCE) -> dict[str, Floats]:
    """Each feature of all symbols, `(T, n)`, by name."""
    _, found = run(market(prices.shape[1], change), rows_of(prices, breaks))
    return {name: found[:, :, column] for column, name in enumerate(NAMES)}


def walks(rows: int, n: int, seed: int = 0, blank: float = 0.0, still: float = 0.0) -> Floats:
    """Random walks of a common part and parts of their own, with blanks, and prints that bring no change."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(size=(rows, 1)) + rng.normal(size=(rows, n))
    moves[rng.random((rows, n)) < still] = 0.0
    prices: Floats = 1_000.0 + moves.cumsum(axis=0)
    prices[rng.random((rows, n)) < blank] = NAN
    return prices


def clipped(values: Floats) -> Floats:
    return np.clip(values, -CLIP, CLIP)


def strayed(paths: Floats, half_life: float) -> Floats:
    """Level minus its exponentially weighted moving average, which begins with the first level."""
    frame = pd.DataFrame(paths)
    return (frame - frame.ewm(halflife=half_life, adjust=False).mean()).to_numpy()


def since_last(printed: np.ndarray, sums: Floats) -> Floats:
    """What `sums` grew by since the last true row of `printed`; since before the first where there is none."""
    row = np.where(printed, np.arange(len(printed)), -1)
    last = np.maximum.accumulate(row)
    grown: Floats = sums - np.where(last >= 0, sums[np.maximum(last, 0)], 0.0)
    return grown


class Oracle:
    """All of a series of prices `(T, n)` whose change is a difference, at once."""

    def __init__(self, prices: Floats, breaks: Iterable[int]) -> None:
        rows, self.n = prices.shape
        self.printed = np.asarray(np.isfinite(prices))
        carried = pd.DataFrame(prices).ffill().to_numpy()
        before = np.vstack([np.full(self.n, NAN), carried[:-1]])
        self.seen = self.printed & np.isfinite(before)
        self.seen[list(breaks)] = False
        self.moved = np.where(self.seen, carried - before, 0.0)
        variance = weight = np.zeros(self.n)
        self.sigma = np.empty(prices.shape)  # `test_volatility` has the oracle for it
        for t in range(rows):
            variance, weight = volatility.update(variance, weight, self.moved[t], self.seen[t].astype(float))
            self.sigma[t] = volatility.sigma(variance)
        self.scaled = clipped(self.moved / self.sigma)
        # A jump counts as one of 20 standard deviations.
        self.paths = np.clip(self.moved, -20.0 * self.sigma, 20.0 * self.sigma).cumsum(axis=0)

    def features(self) -> dict[str, Floats]:
        """By name, `(T, n)` each."""
        last, second, third = (clipped(self.earlier(ago) / self.sigma) for ago in range(3))
        found = {
            "change": self.scaled,
            "stale_change": np.where(self.seen, 0.0, last),
            "change_2": second,
            "change_3": third,
            "sign": np.sign(last),
            "flat_then": np.where(last == 0.0, second, 0.0),
            "signed_square": clipped(last * abs(last)),
        }
        market = (self.scaled.sum(axis=1) / np.maximum(1, self.seen.sum(axis=1))).cumsum()[:, None]
        for half_life in OWN:
            found[f"deviation_{half_life}"] = clipped(strayed(self.paths, half_life) / self.sigma)
            found[f"market_deviation_{half_life}"] = np.repeat(clipped(strayed(market, half_life)), self.n, axis=1)
        for place in range(PEERS):
            found |= self.of_peer(place, found)
        others = [np.delete(self.scaled, i, axis=1).sum(axis=1) / max(1, self.n - 1) for i in range(self.n)]
        found["others_since"] = self.since(np.stack(others, axis=1))
        for half_life in (10, 50):
            found[f"activity_{half_life}"] = self.activity(half_life)
        ever = np.ones((len(self.printed), self.n))
        found["age"] = np.log1p(self.unbounded_since(ever))
        found["gap"] = np.repeat(
            np.log1p(since_last(np.asarray(self.printed.any(axis=1)), ever[:, 0].cumsum()))[:, None], self.n, 1
        )
        return found

    def earlier(self, ago: int) -> Floats:
        """The change at the last print but `ago`, 0 before there were so many."""
        found = np.zeros(self.moved.shape)
        for i in range(self.n):
            own = self.moved[self.seen[:, i], i]
            count = self.seen[:, i].cumsum()
            known = count > ago
            found[known, i] = own[count[known] - 1 - ago]
        return found

    def of_peer(self, place: int, found: dict[str, Floats]) -> dict[str, Floats]:
        names = [f"deviation_{half_life}" for half_life in OWN[:3]]
        if self.n <= place + 1:
            spreads = [f"spread_{half_life}" for half_life in SPREAD]
            return {f"peer{place}_{name}": np.zeros(self.moved.shape) for name in (*names, "since", *spreads)}
        peer = peers_of(self.n)[:, place]
        own = {f"peer{place}_{name}": found[name][:, peer] for name in names}
        own[f"peer{place}_since"] = self.since(self.scaled[:, peer])
        spread = self.paths - self.paths[:, peer]
        square = pd.DataFrame(strayed(spread, 40) ** 2)
        common = np.sqrt(square.ewm(halflife=100, adjust=True).mean().to_numpy())
        for half_life in SPREAD:
            over = strayed(spread, half_life) / np.maximum(common, volatility.FLOOR)
            own[f"peer{place}_spread_{half_life}"] = clipped(over)
        return own

    def since(self, moves: Floats) -> Floats:
        return clipped(self.unbounded_since(moves))

    def unbounded_since(self, moves: Floats) -> Floats:
        sums = moves.cumsum(axis=0)
        return np.stack([since_last(self.printed[:, i], sums[:, i]) for i in range(self.n)], axis=1)

    def activity(self, half_life: int) -> Floats:
        """Of the prints alone, after a mean square of 1 before them."""
        found = np.empty(self.moved.shape)
        for i in range(self.n):
            squares = pd.Series([1.0, *self.scaled[self.seen[:, i], i] ** 2])
            means = squares.ewm(halflife=half_life, adjust=False).mean().to_numpy()
            found[:, i] = means[self.seen[:, i].cumsum()]
        return 0.5 * np.log(np.maximum(found, 1e-3))


@FEW
@given(
    n=st.integers(1, 5),
    blank=st.sampled_from([0.0, 0.3, 0.9]),
    still=st.sampled_from([0.0, 0.5]),
    breaks=st.sets(st.integers(0, 149), max_size=3),
    bad=st.integers(0, 149),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_feature_is_what_the_whole_series_says(
    n: int, blank: float, still: float, breaks: set[int], bad: int, seed: int
) -> None:
    """Deviations are levels minus moving averages of them, spreads differences of levels, and so on."""
    prices = walks(150, n, seed, blank, still)
    prices[bad] *= 1.5
    if seed % 2:
        prices[40:60] = NAN

    found, expected = seen(prices, breaks), Oracle(prices, breaks).features()

    assert set(expected) == set(NAMES)
    for name in NAMES:
        # A price of 1,500 has less than 1e-12 to its last bit, and a spread's common size may be as small as one.
        np.testing.assert_allclose(found[name], expected[name], atol=1e-7, err_msg=name)


def test_spreads_and_deviations_of_long_half_lives_are_those_of_the_whole_series() -> None:
    prices = walks(2_500, 3, blank=0.2)
    found, expected = seen(prices), Oracle(prices, (0,)).features()
    for name in ("deviation_60", "market_deviation_60", "peer1_spread_640"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-7, err_msg=name)


def test_the_first_feature_is_the_change_over_its_volatility_and_the_last_ones_are_no_regressors() -> None:
    features = market(2)
    assert features.names == NAMES
    assert NAMES[0] == "change"
    assert features.regressors == REGRESSORS
    assert NAMES[REGRESSORS:] == ("activity_10", "activity_50", "age", "gap")
    state, _ = run(features, rows_of(np.array([[1.0, 10.0], [3.0, 10.0], [1.0, NAN]])))
    assert features.scale(state)[0] == pytest.approx(2.0)
    assert 0.0 < features.scale(state)[1] < 1e-9


@MODERATE
@given(seed=st.integers(0, 2**32 - 1), at=st.integers(1, 59), symbol=st.integers(0, 2))
def test_a_blank_of_one_symbol_leaves_what_is_the_others_own_as_it_was(seed: int, at: int, symbol: int) -> None:
    prices = walks(60, 3, seed)
    blanked = prices.copy()
    blanked[at, symbol] = NAN
    whole, with_blank = seen(prices), seen(blanked)
    others = np.delete(np.arange(3), symbol)
    for name in [*ALONE, "gap"]:
        assert whole[name][:, others].tobytes() == with_blank[name][:, others].tobytes(), name
    for name in NAMES:
        assert whole[name][:at].tobytes() == with_blank[name][:at].tobytes(), f"{name} before the blank"


def test_a_blank_is_a_zero_change_and_the_next_price_brings_all_of_it() -> None:
    prices = walks(40, 2)
    prices[30, 0] = NAN
    found = seen(prices)
    assert found["change"][30, 0] == 0.0
    assert found["stale_change"][30, 0] == found["change"][29, 0] != 0.0
    assert found["change_2"][30, 0] == found["change_2"][29, 0], "earlier changes stay where they were"
    sigma = Oracle(prices, (0,)).sigma[31, 0]
    assert found["change"][31, 0] == pytest.approx(np.clip((prices[31, 0] - prices[29, 0]) / sigma, -CLIP, CLIP))


@pytest.mark.parametrize("n", [1, 3])
def test_a_blank_row_teaches_nothing_and_lets_deviations_fade(n: int) -> None:
    features = market(n)
    before, last = run(features, rows_of(walks(50, n)))
    after, found = features.step(before, Row(50, np.full(n, NAN)))
    for name in (f"features.{each}" for each in ("level", "variance", "weight", "changes", "activity")):
        assert bits(after[name]) == bits(before[name]), name
    assert not found[:, NAMES.index("change")].any()
    for name in ("deviation_5", "market_deviation_5"):
        faded = last[-1, :, NAMES.index(name)] * 0.5 ** (1 / 5)
        np.testing.assert_allclose(found[:, NAMES.index(name)], faded, rtol=1e-12)
    assert (found[:, NAMES.index("gap")] == np.log(2.0)).all()
    assert (found[:, NAMES.index("age")] == np.log(2.0)).all()


def test_the_change_across_a_break_is_nowhere_but_the_next_one_is() -> None:
    """A level that has jumped meanwhile leaves every feature as it would be without the jump."""
    prices = walks(80, 3)
    jumped = prices.copy()
    jumped[50:] += [500.0, -300.0, 0.0]
    still, moved = seen(prices, (0, 50)), seen(jumped, (0, 50))
    for name in NAMES:
        np.testing.assert_allclose(moved[name], still[name], atol=1e-9, err_msg=name)
    assert not moved["change"][50].any()
    assert moved["change"][51].all()


def test_a_bad_print_is_clipped_wherever_it_turns_up_and_does_not_blow_up_the_scale() -> None:
    calm = walks(300, 3)
    bad = calm.copy()
    bad[200, 0] *= 100.0
    hit, clean = seen(bad), seen(calm)
    for name in NAMES[:REGRESSORS]:
        assert abs(hit[name]).max() <= CLIP, name
    for name in ("change", "deviation_1", "peer0_deviation_1"):
        assert (abs(hit[name][200]) == CLIP).any(), name
    assert abs(hit["change"][202:, 0]).max() > 0.5 * abs(clean["change"][202:, 0]).max()
    np.testing.assert_array_equal(hit["change"][:, 1:], clean["change"][:, 1:])


@pytest.mark.parametrize("change", Change)
def test_features_do_not_depend_on_the_unit_of_prices(change: Change) -> None:
    """Of log returns on no symbol's own; of differences on what all have in common."""
    prices = walks(100, 3, blank=0.1)
    factor = 1_000.0 * (1.0 if change is Change.DIFFERENCE else np.array([1.0, 1e-3, 7.0]))
    found, other = seen(prices, change=change), seen(factor * prices, change=change)
    for name in NAMES:
        np.testing.assert_allclose(other[name], found[name], rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_features_of_a_peer_that_there_is_not_are_zero(n: int) -> None:
    found = seen(walks(60, n, blank=0.2))
    for place in range(PEERS):
        for name in NAMES:
            if name.startswith(f"peer{place}"):
                assert found[name].any() == (place < n - 1), name
    assert found["others_since"].any() == (n > 1)
    assert found["market_deviation_5"].any()


@FEW
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_replayed_in_one_go_equals_live_with_stops_bit_for_bit(seed: int, cuts: list[int]) -> None:
    """Each stop takes the state through a snapshot, and leaves the one that it was given as it is."""
    rows = rows_of(walks(60, 3, seed, blank=0.3, still=0.2), (0, 20))
    last, replayed = run(market(3), rows)
    state, parts = market(3).initial(3), []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 60], strict=True):
        given = {name: bits(array) for name, array in state.items()}
        after, part = run(market(3), rows[begin:end], state)
        assert {name: bits(array) for name, array in state.items()} == given
        _, state = snapshot.unpack(snapshot.pack({}, after))
        parts += list(part)
    assert np.array(parts).tobytes() == replayed.tobytes()
    assert {name: bits(array) for name, array in state.items()} == {name: bits(array) for name, array in last.items()}


_any_price = st.one_of(
    st.floats(0.01, 1e6), st.sampled_from([5e-324, 1e-100, 1e100, -1e100, 0.0, 7.0, 7.0, NAN, np.inf])
)


@MODERATE
@given(
    change=st.sampled_from([Change.LOG_RETURN, Change.DIFFERENCE]),
    n=st.integers(1, 4),
    data=st.data(),
    breaks=st.sets(st.integers(0, 19)),
)
def test_features_are_finite_whatever_the_prices(change: Change, n: int, data: st.DataObject, breaks: set[int]) -> None:
    features = market(n, change)
    vectors = data.draw(st.lists(st.lists(_any_price, min_size=n, max_size=n), min_size=1, max_size=20))
    prices = features.change.usable(np.array(vectors))
    state, found = run(features, rows_of(prices, breaks))
    assert np.isfinite(found).all()
    assert abs(found[:, :, :REGRESSORS]).max() <= CLIP
    assert np.isfinite(features.scale(state)).all()
    assert (features.scale(state) > 0.0).all()


@FEW
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 58))
def test_later_prices_change_no_feature_before(seed: int, cut: int) -> None:
    prices = walks(60, 3, seed, blank=0.2)
    other = prices.copy()
    other[cut + 1 :] = walks(60, 3, seed ^ 1)[cut + 1 :]
    found, changed = (run(market(3), rows_of(given))[1] for given in (prices, other))
    assert found[: cut + 1].tobytes() == changed[: cut + 1].tobytes()


def planted(rows: int = 500, seed: int = 0) -> Floats:
    """Changes of eight symbols: 0 to 3 share one factor, 4 to 7 another, each ever more loosely, 7 against it."""
    rng = np.random.default_rng(seed)
    factors = np.repeat(rng.normal(size=(rows, 2)), 4, axis=1) * [1, 1, 1, 1, 1, 1, 1, -1]
    changes: Floats = factors + np.tile([0.1, 0.2, 0.4, 0.8], 2) * rng.normal(size=(rows, 8))
    return changes


def test_peers_are_the_most_correlated_symbols_best_first_whatever_their_sign_and_scale() -> None:
    changes = planted() * 10.0 ** np.arange(-4, 4)
    peers = most_correlated(changes)
    assert peers.dtype == np.intp
    assert peers.tolist() == [
        [1, 2, 3],
        [0, 2, 3],
        [0, 1, 3],
        [0, 1, 2],
        [5, 6, 7],
        [4, 6, 7],
        [4, 5, 7],
        [4, 5, 6],
    ]


def test_peers_are_those_of_the_correlations_of_what_two_have_in_common() -> None:
    """Of changes within the clip, whose mean is next to nothing: in loops over pairs, each with its own blanks."""
    changes = np.clip(planted(2_000, seed=1), -3.0, 3.0)
    rng = np.random.default_rng(2)
    changes *= np.where(rng.random((2_000, 1)) < 0.5, 0.2, 1.0)  # calm rows and wild ones: blanks fall on either
    changes[(rng.random(changes.shape) < 0.8) & (abs(changes[:, [0]]) > 0.5) & (np.arange(8) % 3 == 1)] = NAN
    likeness = np.full((8, 8), -1.0)
    for i, one in enumerate(changes.T):
        for j, other in enumerate(changes.T):
            both = np.isfinite(one) & np.isfinite(other)
            if i != j:
                products = one[both] @ one[both] * (other[both] @ other[both])
                likeness[i, j] = abs(one[both] @ other[both]) / np.sqrt(products)
    assert most_correlated(changes).tolist() == np.argsort(-likeness, axis=1)[:, :PEERS].tolist()


def test_blanks_and_single_large_changes_do_not_hide_the_peers() -> None:
    changes = planted()
    changes[np.random.default_rng(3).random(changes.shape) < 0.3] = NAN
    changes[7, 0], changes[8, 5] = 1e6, -1e6
    changes[9, 2:5] = 1e3
    groups = [set(row) | {i} for i, row in enumerate(most_correlated(changes).tolist())]
    assert groups == [{0, 1, 2, 3}] * 4 + [{4, 5, 6, 7}] * 4


def test_a_likeness_from_few_common_changes_counts_for_little() -> None:
    """Ten changes that agree altogether are not the peer that 300 good ones are."""
    changes = planted(300)[:, [0, 1, 4, 5, 6]]
    changes[:290, 2] = NAN
    changes[290:, 2] = changes[290:, 0]
    assert most_correlated(changes)[0, 0] == 1
    changes[:, 2] = changes[:, 0]
    assert most_correlated(changes)[0, 0] == 2


@pytest.mark.parametrize("n", [5, 300])
def test_among_equals_the_first_in_order_is_the_peer(n: int) -> None:
    """Here none has anything in common with any other."""
    assert most_correlated(np.zeros((200, n))).tolist() == [[i for i in range(n) if i != k][:PEERS] for k in range(n)]


@pytest.mark.parametrize("dead", [0.0, NAN])
def test_a_symbol_that_never_moved_or_was_never_seen_is_the_last_choice(dead: float) -> None:
    changes = planted()
    changes[:, 1] = dead
    peers = most_correlated(changes)
    assert all(1 not in row for i, row in enumerate(peers.tolist()) if i != 1)
    assert peers[1].tolist() == [0, 2, 3], "and has peers by the order of the columns"


@pytest.mark.parametrize(("n", "first"), [(1, [0, 0, 0]), (2, [1, 0, 0]), (3, [1, 2, 0])])
def test_with_few_symbols_its_own_index_stands_for_a_peer_that_there_is_not(n: int, first: list[int]) -> None:
    assert most_correlated(planted()[:, :n])[0].tolist() == first
    assert most_correlated(np.full((1, n), NAN)).shape == (n, PEERS)
