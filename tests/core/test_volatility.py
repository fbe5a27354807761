"""Volatility against a NumPy oracle of the exponentially weighted mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import volatility
from tests.core.helpers import MODERATE

DECAY = 0.5 ** (1 / 200)


def follow(changes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Sigma after each of `changes`, `(steps, symbols)`."""
    variance = weight = np.zeros(changes.shape[1])
    sigmas = np.empty(changes.shape)
    for i, (change, mask) in enumerate(zip(changes, seen.astype(np.float64), strict=True)):
        variance, weight = volatility.update(variance, weight, change, mask)
        sigmas[i] = volatility.sigma(variance)
    return sigmas


@MODERATE
@given(
    steps=st.integers(1, 300),
    rate=st.floats(0.1, 1.0),
    scale=st.floats(1e-6, 1e3),
    seed=st.integers(0, 2**32 - 1),
)
def test_sigma_is_the_weighted_root_mean_square_of_what_was_seen(
    steps: int, rate: float, scale: float, seed: int
) -> None:
    """Weighted by 0.5 ** (prints ago / 200), and right from the first print on."""
    rng = np.random.default_rng(seed)
    changes = rng.uniform(0.5, 1.0, (steps, 2)) * scale  # no print is six times the others
    seen = rng.random((steps, 2)) < rate

    sigma = follow(changes, seen)[-1]

    for i in range(2):
        own = changes[seen[:, i], i]
        if not len(own):
            assert sigma[i] == volatility.FLOOR
            continue
        weights = DECAY ** np.arange(len(own))[::-1]
        np.testing.assert_allclose(sigma[i], np.sqrt(np.average(own**2, weights=weights)))


def test_half_the_weight_is_on_the_last_200_prints() -> None:
    changes = np.concatenate([np.full((5_000, 1), 1.0), np.full((200, 1), 3.0)])

    assert follow(changes, np.ones_like(changes))[-1] ** 2 == pytest.approx((1.0 + 9.0) / 2)


def test_a_bad_print_of_100_times_counts_as_one_of_6_sigmas() -> None:
    changes = np.random.default_rng(1).normal(size=(1_000, 1))
    bad = changes.copy()
    bad[500] = 100.0
    before = follow(changes, np.ones_like(changes))[499]
    bad_as_six = changes.copy()
    bad_as_six[500] = 6.0 * before

    sigmas = follow(bad, np.ones_like(bad))

    np.testing.assert_allclose(sigmas, follow(bad_as_six, np.ones_like(bad)))
    assert sigmas[500] < 1.1 * before


def test_sigma_grows_to_a_lasting_change_of_scale() -> None:
    changes = np.concatenate([np.full((1_000, 1), 1.0), np.full((2_000, 1), 100.0)])

    assert follow(changes, np.ones_like(changes))[-1] == pytest.approx(100.0, rel=0.01)


def test_a_symbol_that_never_moved_has_a_sigma_that_divides() -> None:
    sigma = follow(np.zeros((50, 1)), np.ones((50, 1)))[-1]

    assert sigma[0] == volatility.FLOOR > 0.0


def test_the_state_is_a_value() -> None:
    variance, weight = np.array([4.0]), np.array([2.0])

    volatility.update(variance, weight, np.array([1.0]), np.array([1.0]))

    assert (variance.tolist(), weight.tolist()) == ([4.0], [2.0])
