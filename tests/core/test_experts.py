"""The basis of the linear experts, and what they make of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.experts import ADDITIVE, NAMES, OWN, READOUT, VECTOR, Experts, Layout
from streamer.core.grid import Floats
from tests.core.helpers import MODERATE

OTHERS_SHARE = 10.0**-0.5


def parts(layout: Layout) -> dict[str, slice]:
    """Where in the basis what is."""
    r, bent = layout.regressors, 3 * layout.regressors
    return {
        "own": slice(r),
        "tanh": slice(r, 2 * r),
        "tanh2": slice(2 * r, bent),
        "hidden": slice(bent, bent + layout.hidden),
        "others": slice(bent + layout.hidden, None),
    }


def basis_of(layout: Layout, features: Floats, hidden: Floats, target: int, column: int) -> list[float]:
    """That of one target, in plain loops."""
    own = features[column, : layout.regressors].tolist()
    found = [*own, *(np.tanh(x) for x in own), *(np.tanh(2 * x) for x in own), *hidden[target].tolist()]
    if layout.others:
        found += [0.0 if i == column else OTHERS_SHARE * features[i, 0] for i in range(len(features))]
    return found


@MODERATE
@given(
    n=st.integers(1, 5),
    regressors=st.integers(1, 4),
    units=st.integers(0, 3),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
)
def test_basis_and_predictions_are_those_of_plain_loops(
    n: int, regressors: int, units: int, data: st.DataObject, seed: int
) -> None:
    """For targets that are some of the symbols, in any order; of one row, and of many at once."""
    columns = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True)), np.intp)
    rng = np.random.default_rng(seed)
    layout, m = Layout.of(regressors, units, n), len(columns)
    features, hidden = rng.normal(size=(7, n, regressors + 2)), rng.normal(size=(7, m, units))
    experts = Experts(layout, rng.normal(size=(m, len(NAMES), layout.width)))

    together = layout.basis(features[:, columns], features[..., 0], hidden, columns)

    assert together.shape == (7, m, layout.width)
    for t in range(7):
        basis = layout.basis(features[t, columns], features[t, :, 0], hidden[t], columns)
        assert basis.tobytes() == together[t].tobytes()
        predicted = experts.predict(basis)
        assert predicted.shape == (len(NAMES), m)
        for target, column in enumerate(columns):
            expected = basis_of(layout, features[t], hidden[t], target, int(column))
            np.testing.assert_allclose(basis[target], expected, rtol=1e-12)
            for index in range(len(NAMES)):
                said = sum(c * x for c, x in zip(experts.coefficients[target, index], expected, strict=True))
                assert predicted[index, target] == pytest.approx(said, abs=1e-9)


@pytest.mark.parametrize(
    ("expert", "used"),
    [
        (OWN, {"own"}),
        (ADDITIVE, {"own", "tanh", "tanh2"}),
        (VECTOR, {"own", "others"}),
        (READOUT, {"own", "tanh", "tanh2", "hidden", "others"}),
    ],
)
def test_each_expert_uses_its_parts_of_the_basis_and_no_others(expert: str, used: set[str]) -> None:
    layout = Layout.of(regressors=4, hidden=5, n_symbols=3)
    columns = layout.columns(expert)
    assert columns.shape == (layout.width,) == (20,)
    for name, part in parts(layout).items():
        assert columns[part].all() == columns[part].any() == (name in used), name


def test_its_own_change_is_not_among_the_others_changes() -> None:
    """It is a regressor already, with a tenth of the penalty."""
    layout = Layout.of(regressors=2, hidden=0, n_symbols=4)
    basis = layout.basis(np.ones((2, 3)), np.ones(4), np.zeros((2, 0)), np.array([2, 0]))
    np.testing.assert_allclose(basis[:, -4:] / OTHERS_SHARE, [[1, 1, 0, 1], [0, 1, 1, 1]])


def test_features_beyond_the_regressors_are_not_used() -> None:
    layout, columns = Layout.of(regressors=2, hidden=1, n_symbols=2), np.array([0, 1])
    features, hidden = np.random.default_rng(0).normal(size=(2, 5)), np.zeros((2, 1))
    other = features.copy()
    other[:, 2:] = 9.0
    bases = [layout.basis(each, each[:, 0], hidden, columns) for each in (features, other)]
    assert bases[0].tobytes() == bases[1].tobytes()


def test_a_basis_changes_nothing_that_it_was_given() -> None:
    layout = Layout.of(regressors=2, hidden=1, n_symbols=2)
    features, hidden = np.ones((2, 2)), np.ones((2, 1))
    features.setflags(write=False)
    hidden.setflags(write=False)
    layout.basis(features, features[:, 0], hidden, np.array([0, 1]))


@pytest.mark.parametrize(("n", "others"), [(64, 64), (65, 0), (2_048, 0)])
def test_of_more_than_64_symbols_the_others_changes_are_left_out(n: int, others: int) -> None:
    layout = Layout.of(regressors=3, hidden=2, n_symbols=n)
    assert (layout.others, layout.width) == (others, 3 * 3 + 2 + others)
    basis = layout.basis(np.ones((n, 3)), np.ones(n), np.ones((n, 2)), np.arange(n))
    assert basis.shape == (n, layout.width)
    assert layout.columns(VECTOR).sum() == 3 + others
