"""The fit of the linear experts against NumPy's least squares and closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from streamer.core import experts
from streamer.core.experts import NAMES, OWN, Experts, Layout
from streamer.core.grid import Floats
from streamer.model import ridge
from streamer.model.ridge import PENALTIES, Cells

FIT_END, STOP_END, ROWS = 600, 800, 1_000
HALF_LIFE = 8_000


def cells(m: int = 3, rows: int = ROWS, noise: float = 1.0, apart: float = 0.0, seed: int = 0) -> Cells:
    """Targets that are linear in their own two regressors, `apart` from each other, under noise.

    There is one symbol more than targets, and the targets come in another order than the symbols.
    """
    rng = np.random.default_rng(seed)
    layout, columns = Layout.of(regressors=2, hidden=1, n_symbols=m + 1), np.arange(m, 0, -1)
    features = rng.normal(size=(rows, m + 1, 3)).astype(np.float32)
    hidden = rng.normal(size=(rows, m, 1)).astype(np.float32)
    slopes = np.array([0.5, -0.3]) + apart * rng.normal(size=(m, 2))
    y = np.einsum("tmk,mk->tm", features[:, columns, :2], slopes) + noise * rng.normal(size=(rows, m))
    return Cells(layout, features, hidden, columns, y.astype(np.float32), np.ones((rows, m), np.bool_))


def seen_by(found: Cells, target: int, end: int, clip: float = np.inf) -> tuple[Floats, Floats]:
    """Basis and changes of one target within `[0, end)`: those that lead nowhere else, and count; old ones less.

    Both times the root of their weight, so that a plain sum of squares is the weighted one.
    """
    kept = np.flatnonzero(found.mask[: end - 1, target])
    features = found.features[kept].astype(np.float64)
    hidden = found.hidden[kept][:, [target]].astype(np.float64)
    column = found.columns[[target]]
    x = found.layout.basis(features[:, column], features[..., 0], hidden, column)[:, 0]
    root = np.sqrt(0.5 ** ((end - kept) / HALF_LIFE))
    return x * root[:, None], np.clip(found.y[kept, target].astype(np.float64), -clip, clip) * root


def total_weight(end: int) -> float:
    """Of the rows of one target within `[0, end)` that is always seen."""
    return float((0.5 ** ((end - np.arange(end - 1)) / HALF_LIFE)).sum())


def fit(found: Cells, end: int, penalties: list[float]) -> Experts:
    return ridge.fit(found.layout, found.moments(0, end), penalties)


def choose_penalties(found: Cells, fit_end: int, stop_end: int) -> list[float]:
    held_out = found.moments(fit_end, stop_end, ridge.STOP_CLIP)
    return ridge.choose_penalties(found.layout, found.moments(0, fit_end), held_out)


def linear(found: Cells, coefficients: Floats) -> Floats:
    """Those of the linear expert, `(m, 2)`."""
    chosen: Floats = coefficients[:, NAMES.index(OWN), :2]
    return chosen


def same(penalty: float) -> list[float]:
    return [penalty] * len(NAMES)


def test_without_a_penalty_each_target_has_its_least_squares_fit() -> None:
    found = cells(apart=0.5)
    found.mask[::7, 1] = False
    fitted = fit(found, STOP_END, same(1e-12)).coefficients
    assert fitted.shape == (3, len(NAMES), found.layout.width)
    for index, name in enumerate(NAMES):
        columns = found.layout.columns(name)
        assert not fitted[:, index, ~columns].any(), "what an expert does not use is zero"
        for target in range(3):
            x, y = seen_by(found, target, STOP_END)
            moving = columns & x.any(axis=0)  # a symbol's own change among the others' is zero, and of no consequence
            expected = np.linalg.lstsq(x[:, moving], y, rcond=None)[0]
            np.testing.assert_allclose(fitted[target, index, moving], expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_a_penalty_draws_the_common_fit_to_zero_and_each_own_to_the_common_one(penalty: float) -> None:
    """Both in closed form: stacked least squares with the penalty's rows below."""
    found = cells(apart=0.5)
    fitted = fit(found, STOP_END, same(penalty)).coefficients
    parts = [seen_by(found, target, STOP_END) for target in range(3)]
    for index, name in enumerate(NAMES):
        columns = found.layout.columns(name)
        width, n = columns.sum(), total_weight(STOP_END)
        x = np.vstack([part[:, columns] for part, _ in parts])
        y = np.concatenate([changes for _, changes in parts])
        common = least_squares(x, y, penalty / 3.0 * 3 * n)
        for target, (part, changes) in enumerate(parts):
            own = least_squares(part[:, columns], changes - part[:, columns] @ common, 10.0 * penalty * n)
            assert fitted[target, index, columns].shape == (width,)
            np.testing.assert_allclose(fitted[target, index, columns], common + own, rtol=1e-6, atol=1e-9)


def least_squares(x: Floats, y: Floats, penalty: float) -> Floats:
    """Ridge regression as NumPy does it: rows of zeros to be hit, beside the real ones."""
    below = np.sqrt(penalty) * np.eye(x.shape[1])
    solved: Floats = np.linalg.lstsq(np.vstack([x, below]), np.concatenate([y, np.zeros(len(below))]), rcond=None)[0]
    return solved


def test_a_heavy_penalty_leaves_the_targets_what_they_have_in_common() -> None:
    fitted = linear(cells(apart=0.5), fit(cells(apart=0.5), STOP_END, same(3.0)).coefficients)
    light = linear(cells(apart=0.5), fit(cells(apart=0.5), STOP_END, same(0.003)).coefficients)
    assert fitted.std(axis=0).max() < 0.05 * light.std(axis=0).max()


def test_a_thin_symbol_keeps_closer_to_the_common_coefficients_than_a_thick_one() -> None:
    """Both differ from the others alike; the thin one has too little to show for it."""
    found = cells(m=8)
    slopes = np.tile([0.5, -0.3], (8, 1))
    slopes[:2] = [0.5, 1.7]
    own = np.einsum("tmk,mk->tm", found.features[:, found.columns, :2], slopes)
    found = replace(found, y=own.astype(np.float32))
    found.mask[20:, 0] = False
    fitted = linear(found, fit(found, STOP_END, same(0.03)).coefficients)[:, 1]
    common = np.median(fitted)
    thin, thick = fitted[:2] - common
    assert 0.0 < thin < 0.5 * thick


def test_a_target_without_any_change_has_what_is_common() -> None:
    found = cells(apart=0.3)
    found.mask[:, 1] = False
    fitted = fit(found, STOP_END, same(0.01)).coefficients
    others = replace(
        found,
        hidden=found.hidden[:, [0, 2]],
        columns=found.columns[[0, 2]],
        y=found.y[:, [0, 2]],
        mask=found.mask[:, [0, 2]],
    )
    moments = others.moments(0, STOP_END).of(found.layout.columns(OWN))
    gram, cross = sum(m.gram for m in moments.each), sum(m.cross for m in moments.each)
    common = np.linalg.solve(gram + 0.01 / 3.0 * 2 * total_weight(STOP_END) * np.eye(2), cross)
    np.testing.assert_allclose(linear(found, fitted)[1], common, rtol=1e-9)


def test_no_data_at_all_gives_experts_that_expect_nothing() -> None:
    found = cells()
    found.mask[:] = False
    penalties = choose_penalties(found, FIT_END, STOP_END)
    assert set(penalties) <= set(PENALTIES)
    assert not fit(found, STOP_END, penalties).coefficients.any()


def test_what_does_not_count_changes_nothing() -> None:
    found = cells()
    found.mask[::3, 0] = False
    other = replace(found, y=np.where(found.mask, found.y, 1e6).astype(np.float32))
    assert chosen_and_fitted(found) == chosen_and_fitted(other)


def chosen_and_fitted(found: Cells) -> tuple[list[float], bytes]:
    penalties = choose_penalties(found, FIT_END, STOP_END)
    return penalties, fit(found, FIT_END, penalties).coefficients.tobytes()


def perturbed(found: Cells, start: int) -> Cells:
    """Other features, hidden states and changes from the row `start` on; the change to it is the row's before."""
    other = cells(seed=9)
    features, hidden, y = found.features.copy(), found.hidden.copy(), found.y.copy()
    features[start:], hidden[start:], y[start - 1 :] = other.features[start:], other.hidden[start:], 7.0
    return replace(found, features=features, hidden=hidden, y=y)


def test_the_penalty_is_chosen_by_the_stop_slice_and_nothing_after_it() -> None:
    """Nor do coefficients depend on anything that lies behind the rows they are fitted on."""
    found = cells(noise=3.0)
    assert chosen_and_fitted(perturbed(found, STOP_END)) == chosen_and_fitted(found)
    coefficients = [fit(given, FIT_END, same(0.1)).coefficients for given in (found, perturbed(found, FIT_END))]
    assert coefficients[0].tobytes() == coefficients[1].tobytes()
    reached = fit(perturbed(found, FIT_END - 1), FIT_END, same(0.1)).coefficients
    assert reached.tobytes() != coefficients[0].tobytes(), "what is perturbed is what would be seen"


def test_the_penalty_is_the_one_of_the_least_loss_on_the_stop_slice() -> None:
    """In plain loops: log of the squared error over persistence's, mean over targets, changes cut at five sigmas."""
    found = cells(noise=3.0, apart=0.3)
    expected = []
    for index in range(len(NAMES)):
        losses = []
        for penalty in PENALTIES:
            own = fit(found, FIT_END, same(penalty)).coefficients[:, index]
            logs = []
            for target in range(3):
                x, y = (part[FIT_END:] for part in seen_by(found, target, STOP_END, clip=5.0))
                logs.append(np.log(np.square(x @ own[target] - y).sum() / np.square(y).sum()))
            losses.append(np.mean(logs))
        expected.append(PENALTIES[int(np.argmin(losses))])
    assert choose_penalties(found, FIT_END, STOP_END) == expected
    assert len(set(expected)) > 1, "or any one would do"


def test_one_jump_does_not_choose_the_penalty() -> None:
    """Beyond five sigmas, how far it was makes no difference."""
    found = cells(noise=3.0, apart=0.3)
    chosen = []
    for jump in (6.0, 1e4):
        y = found.y.copy()
        y[FIT_END + 10] = jump
        chosen.append(choose_penalties(replace(found, y=y), FIT_END, STOP_END))
    assert chosen[0] == chosen[1]


def test_noise_asks_for_a_heavy_penalty_and_a_clear_signal_for_a_light_one() -> None:
    quiet = choose_penalties(cells(noise=0.05), FIT_END, STOP_END)
    none = replace(cells(rows=200), y=np.random.default_rng(5).normal(size=(200, 3)).astype(np.float32))
    assert quiet[NAMES.index(OWN)] <= 0.01
    assert np.mean(np.log(choose_penalties(none, 100, 200))) > np.mean(np.log(quiet)) + 2.0


def test_fitted_experts_predict_what_the_targets_do() -> None:
    found = cells(noise=0.0)
    fitted = fit(found, STOP_END, same(1e-9))
    t = 900
    features, hidden = found.features[t].astype(float), found.hidden[t].astype(float)
    basis = found.layout.basis(features[found.columns], features[:, 0], hidden, found.columns)
    predicted = fitted.predict(basis)
    assert predicted.shape == (len(experts.NAMES), 3)
    np.testing.assert_allclose(predicted, np.tile(found.y[t], (len(NAMES), 1)), atol=1e-4)


def test_what_was_true_lately_counts_for_more_than_what_was_once() -> None:
    found = cells(m=1, rows=16_001, noise=0.0)
    found = replace(found, y=found.y * np.where(np.arange(16_001) < 8_000, 0.0, 1.0)[:, None].astype(np.float32))
    slope = linear(found, fit(found, 16_001, same(1e-9)).coefficients)[0]
    np.testing.assert_allclose(slope, np.array([0.5, -0.3]) * 2.0 / 3.0, rtol=0.05, err_msg="half-life 8,000 rows")


def test_with_more_rows_a_penalty_is_as_heavy_in_all_and_lighter_for_each() -> None:
    assert ridge.for_rows([0.1, 3.0], few=700, many=1_000) == pytest.approx([0.07, 2.1])


def test_penalties_are_for_regressors_of_any_number_of_rows() -> None:
    """The same rows once more draw the coefficients hardly elsewhere: a penalty is in units of their number."""
    once = cells(rows=501)
    again = np.r_[:500, :501]
    twice = replace(
        once, features=once.features[again], hidden=once.hidden[again], y=once.y[again], mask=once.mask[again]
    )
    few, many = fit(once, 501, same(0.3)), fit(twice, 1_001, same(0.3))
    np.testing.assert_allclose(many.coefficients, few.coefficients, atol=2e-3)


def test_the_moments_of_two_histories_add_up_to_those_of_their_rows() -> None:
    """As least squares on all rows, each weighted by its age in its own history."""
    histories = [cells(seed=1), cells(seed=2, rows=300)]
    moments = histories[0].moments(0, ROWS) + histories[1].moments(0, 300)
    fitted = ridge.fit(histories[0].layout, moments, same(1e-12)).coefficients
    for target in range(3):
        rows = [seen_by(found, target, end) for found, end in zip(histories, (ROWS, 300), strict=True)]
        x, y = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        columns = histories[0].layout.columns(OWN)
        expected = np.linalg.lstsq(x[:, columns], y, rcond=None)[0]
        np.testing.assert_allclose(fitted[target, NAMES.index(OWN), columns], expected, atol=1e-6)
