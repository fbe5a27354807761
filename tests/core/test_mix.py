"""The mix against plain loops, and what it has to do: find skill where there is some, and be persistence where not."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import mix
from streamer.core.features import State
from streamer.core.grid import Floats
from tests.core.helpers import FEW, MODERATE, bits

EXTRA = len(mix.EXTRA)


def follow(predictions: Floats, changes: Floats) -> tuple[State, Floats]:
    """The last state, and what was served before each of `changes` `(T, m)`, NaN where unseen."""
    _, n_experts, m = predictions.shape
    state: State = mix.initial(n_experts, m)
    served = np.empty(changes.shape)
    for t, (predicted, change) in enumerate(zip(predictions, changes, strict=True)):
        state, served[t] = mix.propose(state, predicted, np.ones(m))
        state = mix.learn(state, change, np.isfinite(change))
    return state, served


@dataclass
class Oracle:
    """Mix and guard in loops over targets and experts, from the paper and the module's description."""

    experts: int
    targets: int
    regrets: list[list[float]] = field(default_factory=list)
    squares: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.regrets = [[3.0] * (2 + self.experts) for _ in range(self.targets)]
        self.squares = [[0.0] * (2 + self.experts) for _ in range(self.targets)]
        self.gain, self.power, self.error = ([0.0] * self.targets for _ in range(3))

    def shared(self, values: list[float], target: int, share: float) -> float:
        """A target's own value, and less of each other's; of many others each has less to say."""
        others = self.targets - 1
        if others > 10:
            share = share * 10 / others
        return values[target] + share * math.fsum(value for i, value in enumerate(values) if i != target)

    def weights(self, target: int) -> list[float]:
        found = []
        for k in range(2 + self.experts):
            regret = self.shared([own[k] for own in self.regrets], target, 0.5)
            square = self.shared([own[k] for own in self.squares], target, 0.5)
            found.append(max(regret, 0.0) / (1.0 + square))
        total = sum(found)
        return [weight / total for weight in found] if total > 0.0 else [1.0] + [0.0] * (1 + self.experts)

    def guard(self, target: int) -> float:
        gain, power = self.shared(self.gain, target, 0.3), self.shared(self.power, target, 0.3)
        if power <= 0.0:
            return 0.0
        return min(1.25, max(0.0, gain - math.sqrt(self.error[target])) / max(power, 1e-12))

    def step(self, predicted: Floats, change: Floats) -> list[float]:
        """Serve, then hear what came; returns what was served."""
        proposals = []
        for target in range(self.targets):
            own = predicted[:, target].tolist()
            proposals.append([min(3.0, max(-3.0, p)) for p in (0.0, sum(own) / len(own), *own)])
        mixed = [sum(w * p for w, p in zip(self.weights(i), proposals[i], strict=True)) for i in range(self.targets)]
        served = [mixed[i] * self.guard(i) for i in range(self.targets)]
        self.learn(proposals, mixed, change.tolist())
        return served

    def learn(self, proposals: list[list[float]], mixed: list[float], change: list[float]) -> None:
        if all(np.isnan(change)):
            return
        said = [0.0 if np.isnan(y) else mixed[i] for i, y in enumerate(change)]
        came = [0.0 if np.isnan(y) else y for y in change]
        agreement = [said[i] * min(3.0, max(-3.0, came[i])) for i in range(self.targets)]
        decay = 0.5 ** (1 / 8000)
        for i in range(self.targets):
            self.gain[i] = decay * self.gain[i] + said[i] * min(10.0, max(-10.0, came[i]))
            self.power[i] = decay * self.power[i] + said[i] ** 2
            self.error[i] = decay * self.error[i] + self.shared(agreement, i, 0.3) ** 2
            if np.isnan(change[i]):
                continue
            slope = 2.0 * (mixed[i] - min(5.0, max(-5.0, came[i])))
            for k, proposal in enumerate(proposals[i]):
                regret = slope * (mixed[i] - proposal)
                self.regrets[i][k] = 0.9995 * self.regrets[i][k] + regret
                self.squares[i][k] = 0.9995 * self.squares[i][k] + regret**2


@FEW
@given(
    n_experts=st.integers(1, 4),
    m=st.sampled_from([1, 2, 3, 11, 13]),
    skill=st.sampled_from([0.0, 0.3]),
    blank=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_served_is_what_plain_loops_say(n_experts: int, m: int, skill: float, blank: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    changes = 2.0 * rng.standard_t(3, size=(60, m))
    predictions = skill * changes[:, None] + rng.normal(size=(60, n_experts, m))
    changes[rng.random((60, m)) < blank] = np.nan
    oracle = Oracle(n_experts, m)

    state, served = follow(predictions, changes)

    expected = [oracle.step(predicted, change) for predicted, change in zip(predictions, changes, strict=True)]
    np.testing.assert_allclose(served, expected, atol=1e-9)
    np.testing.assert_allclose(mix.weights(state).T, [oracle.weights(i) for i in range(m)], atol=1e-9)
    np.testing.assert_allclose(mix.guard(state), [oracle.guard(i) for i in range(m)], atol=1e-9)


def test_before_anything_is_known_all_weigh_alike_and_persistence_is_served() -> None:
    state = mix.initial(3, 2)
    assert mix.weights(state).tolist() == [[0.2, 0.2]] * 5
    assert mix.guard(state).tolist() == [0.0, 0.0]
    state, served = mix.propose(state, np.ones((3, 2)), np.ones(2))
    assert served.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(state[mix.MIXED], 0.8)


def test_where_the_mix_does_as_well_as_any_of_them_it_stays_with_persistence() -> None:
    regrets = mix.initial(3, 2)[mix.REGRETS]
    regrets[0] = np.array([[-1.0, -1.0]] * 4 + [[-1.0, 2.0]])
    state = {mix.REGRETS: regrets}
    assert mix.weights({mix.REGRETS: regrets - [[[9.0]], [[0.0]]]}).tolist() == [[1.0, 1.0]] + [[0.0, 0.0]] * 4
    np.testing.assert_allclose(mix.weights(state)[4], [0.0, 1.0], err_msg="here one did better than the mix")


_any_number = st.one_of(st.floats(-10.0, 10.0), st.sampled_from([0.0, 1e-300, 1e12, -1e12, 1e300, -1e300]))
_anything = st.one_of(_any_number, st.sampled_from([np.nan, np.inf, -np.inf]))


@MODERATE
@given(m=st.integers(1, 3), data=st.data())
def test_nothing_that_comes_makes_it_no_number_and_weights_stay_shares(m: int, data: st.DataObject) -> None:
    """Changes a million million sigmas off, blanks, and experts that have lost their minds."""
    change = st.lists(_anything, min_size=m, max_size=m)
    predicted = st.lists(st.lists(_any_number, min_size=m, max_size=m), min_size=2, max_size=2)
    state: State = mix.initial(2, m)
    for predictions, came, seen in data.draw(
        st.lists(st.tuples(predicted, change, st.lists(st.booleans(), min_size=m, max_size=m)), max_size=15)
    ):
        state, served = mix.propose(state, np.array(predictions), np.ones(m))
        assert (abs(served) <= 1.25 * 3.0 + 1e-12).all()
        changes = np.array(came)
        state = mix.learn(state, changes, np.array(seen) & ~np.isnan(changes))
        for name, array in state.items():
            assert np.isfinite(array).all(), name
        np.testing.assert_allclose(mix.weights(state).sum(axis=0), 1.0)
        assert (mix.weights(state) >= 0.0).all()
        assert ((mix.guard(state) >= 0.0) & (mix.guard(state) <= 1.25)).all()


def noise(rows: int, n_experts: int, m: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Predictions that have nothing to do with what comes, and what comes."""
    rng = np.random.default_rng(seed)
    return 0.3 * rng.normal(size=(rows, n_experts, m)), rng.normal(size=(rows, m))


def test_the_expert_that_knows_wins_and_the_guard_lets_it_through() -> None:
    predictions, changes = noise(600, 3, 2)
    predictions[:, 1] = changes
    state, served = follow(predictions, changes)
    assert (mix.weights(state)[EXTRA + 1] > 0.9).all()
    assert (mix.guard(state) > 0.9).all()
    late = slice(300, None)
    assert np.square(served - changes)[late].mean() < 0.05 * np.square(changes)[late].mean()


def test_a_little_real_skill_is_served_nearly_whole() -> None:
    """A twentieth of the variance, as in good markets."""
    rng = np.random.default_rng(1)
    signal = 0.25 * rng.normal(size=(6_000, 4))
    changes = signal + rng.normal(size=signal.shape)
    predictions = np.stack([signal, 0.2 * rng.normal(size=signal.shape)], axis=1)
    state, served = follow(predictions, changes)
    assert (mix.guard(state) > 0.7).all()
    flat, best, loss = (np.square(said - changes)[1_000:].mean() for said in (0.0, signal, served))
    assert flat - loss > 0.8 * (flat - best)


@pytest.mark.parametrize("heavy", [False, True], ids=["gaussian", "student-t"])
def test_experts_without_skill_leave_persistence(heavy: bool) -> None:
    """On random walks, over ten seeds: next to nothing is served, and next to nothing lost."""
    ratios, guards = [], []
    for seed in range(10):
        predictions, changes = noise(1_500, 4, 5, seed)
        if heavy:
            changes = np.random.default_rng(seed).standard_t(3, size=changes.shape)
        state, served = follow(predictions, changes)
        ratios.append(np.sqrt(np.square(served - changes).mean() / np.square(changes).mean()))
        guards.append(mix.guard(state).mean())
    assert np.mean(guards) < 0.1
    assert np.mean(ratios) < 1.0002
    assert max(ratios) < 1.0006


@pytest.mark.parametrize(("timidity", "factor"), [(0.9, 1.11), (0.5, 1.25)])
def test_experts_that_are_too_timid_are_stretched_by_a_quarter_at_most(timidity: float, factor: float) -> None:
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(3_000, 4))
    state, served = follow(timidity * signal[:, None], signal + 0.1 * rng.normal(size=signal.shape))
    np.testing.assert_allclose(mix.guard(state), factor, rtol=0.05)
    np.testing.assert_allclose(served[-1], timidity * mix.guard(state) * signal[-1], rtol=0.02)


def test_an_expert_that_is_always_wrong_is_not_served() -> None:
    predictions, changes = noise(300, 1, 2)
    predictions[:, 0] = -changes
    state, served = follow(predictions, changes)
    np.testing.assert_array_equal(served, 0.0)
    assert (mix.weights(state)[0] > 0.9).all(), "the weight is persistence's"


def test_the_regret_is_bounded_by_that_of_the_best_expert() -> None:
    """Excess over the best one in hindsight, per forecast, fades as the bound of the paper says it does."""
    predictions, changes = noise(4_000, 5, 1)
    predictions[:, 2] += 0.3 * changes
    state: State = mix.initial(5, 1)
    mixed = np.empty(changes.shape)
    for t, (predicted, change) in enumerate(zip(predictions, changes, strict=True)):
        state, _ = mix.propose(state, predicted, np.ones(1))
        mixed[t] = state[mix.MIXED]
        state = mix.learn(state, change, np.ones(1, np.bool_))

    def loss(said: Floats) -> Floats:
        return np.square(said - changes).cumsum()

    best = loss(predictions[:, 2])
    excess = (loss(mixed) - best) / np.arange(1, 4_001)
    assert excess[-1] < 0.02
    assert excess[-1] < 0.5 * excess[200]


@FEW
@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(4)))
def test_symbols_in_another_order_are_served_the_same(seed: int, order: list[int]) -> None:
    predictions, changes = noise(40, 3, 4, seed)
    changes[np.random.default_rng(seed).random(changes.shape) < 0.2] = np.nan
    _, served = follow(predictions, changes)
    _, permuted = follow(predictions[:, :, order], changes[:, order])
    np.testing.assert_allclose(permuted, served[:, order], atol=1e-12)


def test_where_no_target_is_seen_the_state_stays_as_it_is() -> None:
    state, _ = follow(*noise(50, 2, 3))
    state, _ = mix.propose(state, np.ones((2, 3)), np.ones(3))
    after = mix.learn(state, np.full(3, np.nan), np.zeros(3, np.bool_))
    assert {name: bits(array) for name, array in after.items()} == {name: bits(array) for name, array in state.items()}


def test_a_target_that_is_not_seen_keeps_its_own_regrets_whatever_stands_in_its_place() -> None:
    state, _ = follow(*noise(50, 2, 3))
    seen = np.array([True, False, True])
    after = mix.learn(state, np.array([0.5, 1e9, -0.5]), seen)
    before, now = state[mix.REGRETS], after[mix.REGRETS]
    for sums in (0, 1):
        assert bits(now[sums, :, 1].copy()) == bits(before[sums, :, 1].copy())
        assert (now[sums][:, seen] != before[sums][:, seen]).any()
    blank = mix.learn(state, np.array([0.5, np.nan, -0.5]), seen)
    assert {name: bits(array) for name, array in blank.items()} == {name: bits(array) for name, array in after.items()}


@pytest.mark.parametrize("absurd", [1e12, -1e12, 1e300])
def test_one_absurd_price_moves_weights_and_guard_within_bounds(absurd: float) -> None:
    """As any change of five sigmas, or for the guard of ten, would."""
    predictions, changes = noise(400, 2, 2)
    predictions[:, 0] = 0.5 * changes
    state, _ = follow(predictions, changes)
    once = np.array([absurd, 0.0])
    seen = np.ones(2, np.bool_)
    hit, bounded = mix.learn(state, once, seen), mix.learn(state, np.clip(once, -10.0, 10.0), seen)
    assert {name: bits(array) for name, array in hit.items()} == {name: bits(array) for name, array in bounded.items()}
    np.testing.assert_allclose(mix.weights(hit), mix.weights(state), atol=0.2)


def test_neither_learn_nor_propose_writes_into_the_state_that_it_was_given() -> None:
    state, _ = follow(*noise(20, 2, 2))
    for array in state.values():
        array.setflags(write=False)
    after, _ = mix.propose(state, np.ones((2, 2)), np.ones(2))
    mix.learn(after, np.ones(2), np.ones(2, np.bool_))


def test_a_thin_symbol_learns_from_the_others_which_expert_to_trust() -> None:
    predictions, changes = noise(500, 3, 4)
    predictions[:, 1] = 0.7 * changes
    changes[:, 3] = np.nan
    state, _ = follow(predictions, changes)
    assert mix.weights(state)[EXTRA + 1, 3] > 0.8
    assert mix.guard(state)[3] > 0.8


def test_a_hundred_others_that_agree_weigh_no_more_than_ten_of_them() -> None:
    """A symbol's own voice would drown."""
    predictions, changes = noise(300, 2, 2)
    predictions += 0.05 * changes[:, None]
    state, _ = follow(predictions, changes)
    few, many = ({name: state[name][..., [0, *others * [1]]] for name in state} for others in (10, 100))
    assert 0.0 < mix.guard(few)[0] < 1.0
    np.testing.assert_allclose(mix.weights(many)[:, 0], mix.weights(few)[:, 0])
    np.testing.assert_allclose(mix.guard(many)[0], mix.guard(few)[0])
