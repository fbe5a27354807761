"""What the network sees of each row."""

import numpy as np
import pytest

from streamer.core.features import CLIP, Features
from streamer.core.grid import Floats, Row
from streamer.core.levels import Change, Levels

NAN = np.nan


def seen(prices: list[float], breaks: tuple[int, ...] = (0,), change: Change = Change.DIFFERENCE) -> Floats:
    """Features `(rows, 2)` of one symbol: scaled change and mask."""
    features = Features(Levels.starting([change]))
    state, rows = features.initial(1), []
    for i, price in enumerate(prices):
        state, row = features.step(state, Row(i, np.array([price]), i in breaks))
        rows.append(row[0])
    return np.array(rows)


def test_the_first_price_is_no_change() -> None:
    assert seen([5.0, 6.0]).tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_a_blank_is_a_zero_change_and_the_next_price_brings_all_of_it() -> None:
    """Scaled by the volatility that its own change has raised: sqrt of about (1 + 4) / 2."""
    rows = seen([5.0, 6.0, NAN, 8.0])

    assert rows[2].tolist() == [0.0, 0.0]
    assert rows[3] == pytest.approx([2.0 / np.sqrt(2.5), 1.0], rel=0.01)


def test_the_change_across_a_break_is_not_fed_but_the_next_one_is() -> None:
    rows = seen([5.0, 6.0, 100.0, 101.0], breaks=(0, 2))

    assert rows[2:].tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_a_bad_print_is_clipped() -> None:
    calm = (100.0 + np.random.default_rng(0).normal(size=200).cumsum()).tolist()

    rows = seen([*calm, 1.06, calm[-1], calm[-1] + 1.0])

    assert rows[-3:-1, 0].tolist() == pytest.approx([-CLIP, CLIP], rel=0.15)
    assert np.abs(rows).max() <= CLIP
    assert 0.3 < rows[-1, 0] < 3.0, "and the scale is not blown up by it"


@pytest.mark.parametrize("change", Change)
def test_features_do_not_depend_on_the_unit_of_a_price(change: Change) -> None:
    prices = 100.0 + np.random.default_rng(1).normal(size=50).cumsum()

    np.testing.assert_allclose(
        seen(prices.tolist(), change=change),
        seen((1_000.0 * prices).tolist(), change=change),
        rtol=1e-6,
        atol=1e-9,
    )


def test_scale_is_the_volatility_known_at_the_row() -> None:
    features = Features(Levels.starting([Change.DIFFERENCE] * 2))
    state = features.initial(2)
    for i, row in enumerate(([1.0, 10.0], [3.0, 10.0], [1.0, NAN])):
        state, _ = features.step(state, Row(i, np.array(row), is_break=i == 0))

    assert features.scale(state)[0] == pytest.approx(2.0)
    assert 0.0 < features.scale(state)[1] < 1e-9
