"""The scoreboard against NumPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.scoring import Scoreboard
from tests.core.helpers import MODERATE, bits

FORECASTERS = 3


def fed(window: int, scored: np.ndarray, seed: int = 0) -> tuple[Scoreboard, list[np.ndarray], list[np.ndarray]]:
    """A scoreboard that took in `scored`, bool `(steps, symbols)`; and each symbol's errors and hits, in order."""
    rng = np.random.default_rng(seed)
    steps, n = scored.shape
    errors, hits = rng.exponential(size=(steps, n, FORECASTERS)), rng.random((steps, n)) < 0.8
    board = Scoreboard(n, FORECASTERS, window)
    for row, error, hit in zip(scored, errors, hits, strict=True):
        cells = np.flatnonzero(row)
        board.add(cells, error[cells], hit[cells])
    return (
        board,
        [errors[scored[:, i], i] for i in range(n)],
        [hits[scored[:, i], i] for i in range(n)],
    )


@MODERATE
@given(
    window=st.integers(1, 120),
    steps=st.integers(0, 400),
    rates=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_window_covers_the_last_scored_forecasts_that_it_says(
    window: int, steps: int, rates: list[float], seed: int
) -> None:
    scored = np.random.default_rng(seed).random((steps, len(rates))) < np.array(rates)

    board, errors, hits = fed(window, scored, seed)

    for i in range(len(rates)):
        count = int(board.scored[i])
        assert count <= min(window, len(errors[i]))
        if not count:
            assert len(errors[i]) == 0
            assert np.isnan(board.rmse[i]).all()
            assert math.isnan(board.coverage[i])
            continue
        np.testing.assert_allclose(board.rmse[i], np.sqrt(errors[i][-count:].mean(axis=0)))
        assert board.coverage[i] == pytest.approx(hits[i][-count:].mean())
        np.testing.assert_allclose(board.squared_error_total[i], errors[i].sum(axis=0))
        assert board.scored_total[i] == len(errors[i])


@MODERATE
@given(blocks=st.integers(1, 60), steps=st.integers(0, 3_000))
def test_a_full_window_covers_at_least_23_24ths_of_its_length(blocks: int, steps: int) -> None:
    window = 24 * blocks
    board, _, _ = fed(window, np.ones((steps, 1), np.bool_))

    assert min(steps, window - window // 24) <= board.scored[0] <= window


@pytest.mark.parametrize("window", [1, 2, 23, 24, 25, 30, 47, 49, 100, 1_000, 1_439])
def test_a_window_of_any_length_is_covered_but_for_two_blocks(window: int) -> None:
    """A length that no equal blocks add up to is rounded down to one that they do."""
    block = math.ceil(window / 24)

    for steps in range(window, window + 2 * block + 1):
        board, _, _ = fed(window, np.ones((steps, 1), np.bool_))
        assert window - 2 * block + 2 <= board.scored[0] <= window


def test_symbols_that_join_are_unscored_and_leave_the_others_alone() -> None:
    board, _, _ = fed(24, np.ones((30, 2), np.bool_))
    before = board.rmse, board.coverage, board.scored, board.scored_total.copy()

    board = board.widened(3)

    for figures, known in zip((board.rmse, board.coverage, board.scored, board.scored_total), before, strict=True):
        np.testing.assert_array_equal(figures[:2], known)
    assert np.isnan(board.rmse[2]).all()
    assert (board.scored[2], board.scored_total[2]) == (0, 0)
    board.add(np.array([2]), np.full((1, FORECASTERS), 4.0), np.array([True]))
    assert board.rmse[2].tolist() == [2.0] * FORECASTERS


def test_a_restored_scoreboard_goes_on_as_the_one_that_was_saved() -> None:
    board, _, _ = fed(48, np.ones((61, 2), np.bool_))
    again = Scoreboard(2, FORECASTERS, 48).restored(board.arrays())

    for _ in range(50):
        for each in (board, again):
            each.add(np.array([0, 1]), np.full((2, FORECASTERS), 2.5), np.array([True, False]))

    for name, array in board.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name], err_msg=name)


def test_a_scoreboard_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        Scoreboard(2, FORECASTERS, 24).restored(Scoreboard(3, FORECASTERS, 24).arrays())


@MODERATE
@given(
    window=st.integers(1, 120), steps=st.integers(0, 400), blank=st.floats(0.0, 0.05), seed=st.integers(0, 2**32 - 1)
)
def test_symbols_that_are_scored_together_get_the_bits_of_those_that_are_scored_alone(
    window: int, steps: int, blank: float, seed: int
) -> None:
    scored = np.random.default_rng(seed).random((steps, 3)) >= blank
    together, errors, hits = fed(window, scored, seed)
    for i in range(3):
        alone = Scoreboard(1, FORECASTERS, window)
        for error, hit in zip(errors[i], hits[i], strict=True):
            alone.add(np.array([0]), error[None], hit[None])
        for name, array in alone.arrays().items():
            assert bits(together.arrays()[name][i : i + 1].copy()) == bits(array), name
