"""Prices and their changes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.core.levels import Change, Levels, is_price
from tests.core.helpers import MODERATE

AUTO, LOG, DIFFERENCE = Change.AUTO, Change.LOG_RETURN, Change.DIFFERENCE
NAN = math.nan

kinds = st.lists(st.sampled_from([LOG, DIFFERENCE]), min_size=3, max_size=3).map(Levels.starting)
columns = hnp.arrays(np.float64, (2, 3), elements=st.floats(1e-3, 1e6))


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (Levels.starting([LOG]), [1.5, None, None, None, None, None]),
        (Levels.starting([DIFFERENCE]), [1.5, 0.0, -2.0, None, None, None]),
        (Levels.reading([LOG]), [1.5, None, None, None, None, None]),
        (Levels.reading([DIFFERENCE]), [1.5, 0.0, -2.0, None, None, None]),
        (Levels.reading([AUTO]), [1.5, 0.0, -2.0, None, None, None]),
    ],
)
def test_what_is_no_price_is_blank(levels: Levels, expected: list[float | None]) -> None:
    prices = levels.usable(np.array([[1.5], [0.0], [-2.0], [NAN], [math.inf], [-math.inf]]))

    assert [None if math.isnan(price) else price for price in prices[:, 0]] == expected


@MODERATE
@given(price=st.floats() | st.sampled_from([0.0, -0.0, 1e100, -1e100]), change=st.sampled_from(Change))
def test_of_one_price_the_short_way_says_the_same(price: float, change: Change) -> None:
    assert is_price(price, change) == bool(np.isfinite(Levels.reading([change]).usable(np.array([price])))[0])


@MODERATE
@given(prices=columns, levels=kinds)
def test_applying_the_change_between_two_prices_gives_the_second(prices: np.ndarray, levels: Levels) -> None:
    before, after = prices

    np.testing.assert_allclose(levels.apply(before, levels.between(before, after)), after, rtol=1e-9, atol=1e-9)


@MODERATE
@given(price=st.floats(1e-300, 1e100), levels=kinds)
def test_no_change_gives_exactly_the_price(price: float, levels: Levels) -> None:
    assert levels.apply(np.full(3, price), np.zeros(3)).tolist() == [price] * 3


@MODERATE
@given(price=st.floats(1e-300, 1e100), moved=st.floats(allow_nan=False), levels=kinds)
def test_whatever_change_a_network_says_the_price_is_finite(price: float, moved: float, levels: Levels) -> None:
    assert np.isfinite(levels.apply(np.full(3, price), np.full(3, moved))).all()


@MODERATE
@given(
    prices=hnp.arrays(np.float64, (2, 3), elements=st.floats(-1e3, 1e3)),
    moved=hnp.arrays(np.float64, (4, 3), elements=st.floats(-100.0, 100.0)),
    levels=kinds,
)
def test_symbols_together_are_as_each_is_alone(prices: np.ndarray, moved: np.ndarray, levels: Levels) -> None:
    usable = levels.usable(prices)
    together = (
        usable,
        levels.level(usable),
        levels.between(usable[0], usable[1]),
        levels.apply(usable[1], moved),
    )
    for column in range(3):
        alone = levels.take([column])
        own = alone.usable(prices[:, [column]])
        expected = (own, alone.level(own), alone.between(own[0], own[1]), alone.apply(own[1], moved[:, [column]]))
        for found, each in zip(together, expected, strict=True):
            assert found[..., [column]].tobytes() == each.tobytes()


def test_auto_takes_log_returns_until_a_price_is_not_positive() -> None:
    levels = Levels.starting([AUTO, LOG, DIFFERENCE, AUTO])
    assert levels.changes == (LOG, LOG, DIFFERENCE, LOG)
    assert levels.seeing(np.array([1.0, NAN, -1.0, 3.0])) is levels
    assert levels.seeing(np.array([0.0, 1.0, 1.0, 3.0])).changes == (DIFFERENCE, LOG, DIFFERENCE, LOG)
    assert levels.seeing(np.array([[1.0, NAN, 1.0, 3.0], [2.0, 1.0, 1.0, -3.0]])).changes[3] == DIFFERENCE
    assert Levels.starting(levels.changes).changes == levels.changes


def test_levels_are_put_together_by_column() -> None:
    levels = Levels.starting([LOG, DIFFERENCE, LOG])
    assert levels.take([2, 1]).changes == (LOG, DIFFERENCE)
    assert levels.take(np.array([False, True, True])).changes == (DIFFERENCE, LOG)
    assert levels.widened(Levels.starting([DIFFERENCE])).changes == (LOG, DIFFERENCE, LOG, DIFFERENCE)
    assert levels.replaced([2, 0], Levels.starting([DIFFERENCE, LOG])).changes == (LOG, DIFFERENCE, DIFFERENCE)
    assert levels.changes == (LOG, DIFFERENCE, LOG), "it is a value"


def test_a_change_of_other_levels_leads_to_the_same_price() -> None:
    logs, differences = Levels.starting([LOG, LOG]), Levels.starting([LOG, DIFFERENCE])
    before, moved = np.array([5.0, 7.0]), np.array([[0.1, 0.2], [-0.3, 0.0]])

    for one, other in ((logs, differences), (differences, logs)):
        translated = one.into(other, before, moved)
        np.testing.assert_allclose(other.apply(before, translated), one.apply(before, moved), rtol=1e-12)
        assert translated[:, 0].tobytes() == moved[:, 0].tobytes(), "where they are the same, nothing is touched"
        assert translated[1, 1] == 0.0


@pytest.mark.parametrize(
    ("one", "other", "before", "moved"),
    [
        pytest.param(LOG, DIFFERENCE, 0.0, 0.1, id="log return from zero"),
        pytest.param(LOG, DIFFERENCE, -5.0, 0.1, id="log return from below zero"),
        pytest.param(LOG, DIFFERENCE, NAN, 0.1, id="log return from nothing"),
        pytest.param(DIFFERENCE, LOG, 5.0, -5.0, id="difference to zero"),
        pytest.param(DIFFERENCE, LOG, 5.0, -7.0, id="difference to below zero"),
    ],
)
def test_a_change_that_other_levels_cannot_tell_is_none(
    one: Change, other: Change, before: float, moved: float
) -> None:
    translated = Levels.starting([one]).into(Levels.starting([other]), np.array([before]), np.array([moved]))

    assert translated.tolist() == [0.0]
