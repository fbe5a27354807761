"""Intervals cover what they promise, in the long run and after the market has changed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.core.calibration import Calibration
from tests.core.helpers import MODERATE


def coverage_over(errors: np.ndarray, coverage: float) -> np.ndarray:
    """Whether each error, in sigmas, `(steps, symbols)`, fell into the interval promised before it."""
    calibration = Calibration.initial(errors.shape[1], coverage)
    inside = np.empty(errors.shape, np.bool_)
    for i, error in enumerate(np.abs(errors)):
        inside[i] = error <= calibration.width
        calibration = calibration.updated(np.ones(len(error)), (~inside[i]).astype(np.float64))
    return inside


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("law", ["normal", "laplace", "t3"])
def test_independent_errors_are_covered_as_often_as_promised(coverage: float, law: str) -> None:
    """To 1 %: four standard deviations of the share among 20,000 are at most 0.4 % x sqrt(10)."""
    rng = np.random.default_rng(3)
    errors = {
        "normal": rng.standard_normal((20_000, 2)),
        "laplace": rng.laplace(size=(20_000, 2)),
        "t3": rng.standard_t(3, (20_000, 2)),
    }

    inside = coverage_over(errors[law], coverage)

    np.testing.assert_allclose(inside[200:].mean(axis=0), coverage, atol=0.01)


def test_after_a_shift_of_the_variance_the_promise_is_kept_again() -> None:
    """Errors four times as large, then as before: the width follows within 200 forecasts each time."""
    rng = np.random.default_rng(4)
    scale = np.repeat([1.0, 4.0, 1.0], 5_000)[:, None]

    inside = coverage_over(scale * rng.standard_normal((15_000, 4)), 0.9)

    for start in (0, 5_000, 10_000):
        np.testing.assert_allclose(inside[start + 200 : start + 5_000].mean(), 0.9, atol=0.01)
    assert inside[5_000:5_010].mean() < 0.8, "or there was no shift to follow"


@MODERATE
@given(missed=hnp.arrays(np.bool_, st.integers(1, 60)), times=st.integers(1, 60))
def test_a_width_stays_within_its_bounds_whatever_happens(missed: np.ndarray, times: int) -> None:
    calibration = Calibration.initial(1, 0.9)
    for miss in np.tile(missed, times):
        calibration = calibration.updated(np.ones(1), np.array([float(miss)]))

    assert -12.0 <= calibration.log_width[0] <= 12.0


def test_a_symbol_that_never_moved_is_covered_again_after_it_has_come_to_life() -> None:
    """Its width has shrunk as far as it goes; 500 misses bring it back."""
    still = np.zeros((10_000, 1))
    alive = np.random.default_rng(5).standard_normal((3_000, 1))

    inside = coverage_over(np.concatenate([still, alive]), 0.9)

    assert inside[10_500:].mean() == pytest.approx(0.9, abs=0.02)


def test_only_scored_symbols_learn() -> None:
    initial = Calibration.initial(3, 0.9)

    after = initial.updated(np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]))

    assert after.width[0] > initial.width[0]
    assert after.width[1] < initial.width[1]
    assert after.width[2] == initial.width[2]
    assert after.count.tolist() == [1.0, 1.0, 0.0]


def test_a_calibration_is_a_value() -> None:
    initial = Calibration.initial(1, 0.9)

    initial.updated(np.ones(1), np.ones(1))

    assert initial.width[0] == pytest.approx(1.645)
    assert initial.count[0] == 0.0


def test_symbols_that_join_are_uncalibrated_and_leave_the_others_alone() -> None:
    learned = Calibration.initial(1, 0.9).updated(np.ones(1), np.ones(1))

    widened = learned.widened(3)

    assert widened.log_width.tolist() == [learned.log_width[0], math.log(1.645), math.log(1.645)]
    assert widened.count.tolist() == [1.0, 0.0, 0.0]
