"""Figures against what NumPy, or a count by hand, says."""

import numpy as np
import pytest

from streamer.backtesting import scores
from streamer.backtesting.scores import Column, Interval
from streamer.core.forecaster import FORECASTERS, PERSISTENCE, SERVED
from streamer.core.grid import Floats

NAN = np.nan
rng = np.random.default_rng(0)


def column(actual: Floats, served: Floats, last: Floats, before: Floats | None = None) -> Column:
    yhat = dict.fromkeys(FORECASTERS, served) | {PERSISTENCE: last}
    zeros = np.zeros(len(actual)) if before is None else before
    return Column("A", actual, zeros, yhat, served - 1.0, served + 1.0, last - 2.0, last + 2.0)


def test_errors_are_over_the_cells_with_a_forecast_and_a_price() -> None:
    actual = np.array([1.0, NAN, 3.0, 4.0])
    served = np.array([2.0, 2.0, NAN, 6.0])
    score = column(actual, served, np.array([1.0, 1.0, 1.0, 8.0])).score(0.9)
    assert score.n == 2
    assert score.forecast_share == pytest.approx(2 / 3)
    assert score.rmse[SERVED] == pytest.approx(np.sqrt((1 + 4) / 2))
    assert score.rmse[PERSISTENCE] == pytest.approx(np.sqrt(16 / 2))
    assert score.skill == pytest.approx(1 - np.sqrt(5 / 16))


def test_the_winkler_score_fines_what_lies_outside_by_its_distance() -> None:
    actual = np.array([0.0, 3.0, -1.5])
    interval = Interval.of(actual, np.full(3, -1.0), np.full(3, 1.0), 0.9)
    assert interval.coverage == pytest.approx(1 / 3)
    assert interval.width == 2.0
    assert interval.winkler == pytest.approx((2 + (2 + 20 * 2.0) + (2 + 20 * 0.5)) / 3)


def test_the_winkler_score_is_least_at_the_true_quantiles() -> None:
    actual = rng.normal(size=20_000)

    def winkler(half: float) -> float:
        return Interval.of(actual, np.full(len(actual), -half), np.full(len(actual), half), 0.9).winkler

    assert min((1.2, 1.645, 2.2), key=winkler) == 1.645


def test_a_copycat_follows_the_change_before_and_not_the_next() -> None:
    moves = rng.normal(size=4_000)
    prices = 100.0 + np.cumsum(moves)
    last, actual = prices[1:-1], prices[2:]
    before = scores.changes_before(prices[:, None], 2)[:, 0]
    copycat = column(actual, last + 0.5 * moves[1:-1], last, before).score(0.9)
    seer = column(actual, last + 0.5 * moves[2:], last, before).score(0.9)
    assert copycat.with_last == pytest.approx(1.0)
    assert abs(copycat.with_next or 1.0) < 0.06
    assert seer.with_next == pytest.approx(1.0)
    assert abs(seer.with_last or 1.0) < 0.06


def test_changes_before_carry_blanks_and_know_nothing_at_the_start() -> None:
    prices = np.array([[1.0], [4.0], [NAN], [5.0], [7.0]])
    np.testing.assert_array_equal(scores.changes_before(prices, 1)[:, 0], [NAN, 3.0, 0.0, 1.0])
    assert np.isnan(scores.changes_before(np.full((4, 1), NAN), 0)).all()


def test_persistence_has_no_correlation_to_show() -> None:
    last = rng.normal(size=50)
    score = column(rng.normal(size=50), last, last, rng.normal(size=50)).score(0.9)
    assert (score.with_last, score.with_next) == (None, None)
    assert score.skill == 0.0


def test_nothing_scored_is_nothing_to_say() -> None:
    score = column(np.full(3, NAN), np.ones(3), np.ones(3)).score(0.9)
    figures = score.figures()
    assert figures.pop("n") == 0
    assert set(figures.values()) == {None}


def test_totals_are_geometric_means_and_shares_of_all_cells() -> None:
    actual = np.array([0.0, 0.0, 0.0, 0.0])
    good = column(actual, np.full(4, 0.5), np.full(4, 1.0)).score(0.9)
    bad = column(actual[:2], np.full(2, 2.0), np.full(2, 1.0)).score(0.9)
    still = column(actual, actual, actual).score(0.9)
    found = [good, bad, still]
    assert scores.ratio(found) == pytest.approx(np.sqrt(0.5 * 2.0)), "a price that never moves has no ratio"
    assert scores.pooled_coverage(found) == pytest.approx(8 / 10)
    assert scores.ratio([still]) is None
    assert scores.winkler_ratio([good]) == pytest.approx(0.5)
