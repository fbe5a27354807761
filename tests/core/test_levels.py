"""Prices and their changes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.core.levels import Change
from tests.core.helpers import MODERATE


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change.LOG_RETURN, [1.5, None, None, None, None, None]),
        (Change.DIFFERENCE, [1.5, 0.0, -2.0, None, None, None]),
    ],
)
def test_what_is_no_price_is_blank(change: Change, expected: list[float | None]) -> None:
    prices = change.usable(np.array([1.5, 0.0, -2.0, math.nan, math.inf, -math.inf]))

    assert [None if math.isnan(price) else price for price in prices] == expected


@MODERATE
@given(prices=hnp.arrays(np.float64, (2, 4), elements=st.floats(1e-3, 1e6)), change=st.sampled_from(Change))
def test_applying_the_change_between_two_prices_gives_the_second(prices: np.ndarray, change: Change) -> None:
    before, after = prices

    np.testing.assert_allclose(change.apply(before, change.between(before, after)), after, rtol=1e-9, atol=1e-9)


@MODERATE
@given(price=st.floats(1e-300, 1e100), change=st.sampled_from(Change))
def test_no_change_gives_exactly_the_price(price: float, change: Change) -> None:
    assert change.apply(np.array([price]), np.zeros(1))[0] == price


@MODERATE
@given(
    price=st.floats(1e-300, 1e100),
    moved=st.floats(allow_nan=False),
    change=st.sampled_from(Change),
)
def test_whatever_change_a_network_says_the_price_is_finite(price: float, moved: float, change: Change) -> None:
    assert np.isfinite(change.apply(np.array([price]), np.array([moved]))).all()
