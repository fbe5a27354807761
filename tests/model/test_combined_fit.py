"""A whole model, with market features, members, experts and mix: what is judged, what is fitted again, what is kept."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.core import experts, mix
from streamer.core.experts import NAMES, VECTOR
from streamer.core.features import State
from streamer.core.forecaster import MIX
from streamer.core.grid import Floats, Row
from streamer.core.market_features import MarketFeatures, most_correlated
from streamer.errors import ArtifactError
from streamer.model import artifact
from streamer.model.artifact import Artifact
from streamer.model.dataset import TrainingSet
from streamer.model.fit import FitResult, fit
from streamer.model.forecaster import EXPERTS_KEY, PEERS_KEY, LstmForecaster, hidden
from streamer.model.gate import Beginning, replay
from streamer.model.spec import FitSpec, GateSpec, LayerSpec, NetworkSpec
from streamer.model.training import Slices
from tests.core.conformance import check_forecaster
from tests.model.helpers import bits, training_set, walk

NETWORK = NetworkSpec(layers=(LayerSpec(4),), features="market", embedding=3, skip=True, members=2)
JUDGED = FitSpec(steps=12, sequence=12, lanes=4, combine=True)
REFIT = replace(JUDGED, refit=True)
TARGETS = ("C", "A")
ROWS = 400
SLICES = Slices.of(ROWS, GateSpec())


@dataclass(frozen=True)
class Fitted:
    history: TrainingSet
    result: FitResult
    model: Artifact

    @property
    def forecaster(self) -> LstmForecaster:
        return LstmForecaster.from_artifact(self.model)


def bouncing(rows: int) -> Floats:
    """Walks under ten times as much noise: most of each move is taken back, which is soon learned. Some are blank."""
    rng = np.random.default_rng(1)
    prices = walk(500, symbols=3) + rng.normal(size=(500, 3))
    prices[rng.random(prices.shape) < 0.1] = np.nan
    return prices[:rows]


def run(history: TrainingSet, out: Path, spec: FitSpec, incumbent: Artifact | None = None) -> Fitted:
    result = fit(history, NETWORK, spec, GateSpec(), incumbent, out)
    return Fitted(history, result, artifact.read(out))


HISTORY = training_set(bouncing(ROWS), targets=TARGETS)
LONGER = training_set(bouncing(460), targets=TARGETS)


def perturbed(start: int) -> TrainingSet:
    """Other prices from the row `start` on."""
    prices = HISTORY.prices.copy()
    prices[start:] *= 1.0 + 0.002 * np.cos(np.arange(ROWS - start))[:, None]
    return replace(HISTORY, prices=prices)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return run(HISTORY, tmp_path_factory.mktemp("judged") / "model", JUDGED)


@pytest.fixture(scope="module")
def refitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return run(HISTORY, tmp_path_factory.mktemp("refitted") / "model", REFIT)


@pytest.fixture(params=["judged", "refitted"])
def fitted(request: pytest.FixtureRequest) -> Fitted:
    found: Fitted = request.getfixturevalue(request.param)
    return found


def network_of(model: Artifact) -> dict[str, bytes]:
    return bits({name: w for name, w in model.weights.items() if name not in (PEERS_KEY, EXPERTS_KEY)})


def mix_of(state: State) -> dict[str, bytes]:
    return bits({name: array for name, array in state.items() if name.startswith(MIX)})


def test_it_learns_conforms_and_is_read_as_it_was_written(fitted: Fitted) -> None:
    assert fitted.result.promoted
    assert fitted.result.report.ratio < 0.95
    assert fitted.model.manifest.network == NETWORK
    assert fitted.forecaster.id == fitted.result.model_id
    assert any(w.any() for name, w in fitted.model.weights.items() if "head" in name), "the network has learned too"
    check_forecaster(fitted.forecaster)


def test_the_gates_figures_are_those_of_the_judged_model_whatever_is_fitted_again(
    judged: Fitted, refitted: Fitted
) -> None:
    assert refitted.model.manifest.gate == judged.model.manifest.gate
    assert mix_of(refitted.model.state) == mix_of(judged.model.state)
    assert network_of(refitted.model) != network_of(judged.model)
    assert bits({"c": refitted.model.weights[EXPERTS_KEY]}) != bits({"c": judged.model.weights[EXPERTS_KEY]})
    assert bits({"p": refitted.model.weights[PEERS_KEY]}) == bits({"p": judged.model.weights[PEERS_KEY]})


def test_what_is_judged_does_not_depend_on_the_gate_slice_and_what_is_refitted_does(
    judged: Fitted, refitted: Fitted, tmp_path: Path
) -> None:
    """Network, experts, their penalties, and peers: the change to the slice's first row included."""
    other = perturbed(SLICES.stop_end)
    once = run(other, tmp_path / "judged", JUDGED)
    assert bits(once.model.weights) == bits(judged.model.weights)
    assert once.model.manifest.gate != judged.model.manifest.gate
    again = run(other, tmp_path / "refitted", REFIT)
    assert again.result.promoted
    assert network_of(again.model) != network_of(refitted.model)
    coefficients = [each.model.weights[EXPERTS_KEY][:, NAMES.index(VECTOR)] for each in (again, refitted)]
    assert (coefficients[0] != coefficients[1]).any(), "of an expert that does not see the network"


def test_peers_are_picked_from_the_fit_slice(judged: Fitted) -> None:
    changes = HISTORY.changes()[: SLICES.fit_end]
    np.testing.assert_array_equal(judged.model.weights[PEERS_KEY], most_correlated(changes))


def test_the_mix_goes_on_from_what_the_gate_left_and_the_rest_from_serving_all_of_the_history(fitted: Fitted) -> None:
    model = fitted.forecaster
    assert mix_of(model.trained_state()) == mix_of(fitted.result.report.state)
    state = model.initial_state()
    for row in HISTORY.rows():
        state, _ = model.step(state, row)
    served, kept = ({k: v for k, v in s.items() if not k.startswith(MIX)} for s in (state, model.trained_state()))
    assert bits(served) == bits(kept)
    assert mix_of(state) != mix_of(model.trained_state()), "the gate's began to learn where the fit slice ends"


def errors(model: LstmForecaster, history: TrainingSet, changes: Floats, first: int) -> Floats:
    """RMSE of each target of what was served at the rows from `first` on, in plain loops."""
    found = []
    for name in TARGETS:
        prices, column = history.prices[:, history.symbols.index(name)], model.targets.index(name)
        last, squares = np.nan, []
        for t, (now, after) in enumerate(pairwise(prices)):
            last = last if np.isnan(now) else now
            if t >= first and np.isfinite(last) and np.isfinite(after):
                squares.append((last * np.exp(changes[t, column]) - after) ** 2)
        found.append(np.sqrt(np.mean(squares)))
    return np.array(found)


@pytest.fixture(scope="module")
def challenged(refitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Sixty rows later, against the refitted model, which has seen the first nine of the gate slice."""
    return run(LONGER, tmp_path_factory.mktemp("challenged") / "model", JUDGED, refitted.model)


def test_a_refitted_incumbent_is_judged_on_the_rows_after_its_history_alone(
    refitted: Fitted, challenged: Fitted
) -> None:
    """From its trained state on; the challenger beside it on the same rows, and beside persistence on all."""
    slices = Slices.of(460, GateSpec())
    assert slices.stop_end < ROWS
    old, new = refitted.forecaster, challenged.forecaster
    state, theirs = old.trained_state(), np.zeros((460, 2))
    for t, row in enumerate(LONGER.rows()):
        if t >= ROWS:
            state, changes = old.step(state, row)
            theirs[t] = changes[0]
    own, _ = replay(new, LONGER, TARGETS, Beginning(mix_row=slices.fit_end))
    scores = [challenged.result.report.symbols[name] for name in TARGETS]
    incumbent, beside = ([getattr(score, name) for score in scores] for name in ("incumbent", "beside"))
    np.testing.assert_allclose(incumbent, errors(old, LONGER, theirs, ROWS))
    np.testing.assert_allclose(beside, errors(new, LONGER, own, ROWS))
    np.testing.assert_allclose([score.challenger for score in scores], errors(new, LONGER, own, slices.stop_end))


def test_a_refitted_incumbent_is_no_warm_start(challenged: Fitted, tmp_path: Path) -> None:
    """Its weights know the rows of the gate slice."""
    alone = run(LONGER, tmp_path / "alone", JUDGED)
    assert bits(challenged.model.weights) == bits(alone.model.weights)


def test_a_refit_begins_anew_whatever_the_incumbent_so_the_same_seed_gives_the_same_model(
    judged: Fitted, refitted: Fitted, tmp_path: Path
) -> None:
    """Against the very model that is judged here, both replayed alike, it is a draw."""
    again = run(HISTORY, tmp_path / "model", REFIT, judged.model)
    assert again.result.report.ratio == 1.0
    assert again.result.promoted
    assert again.model.id == refitted.model.id
    assert {name: data for name, data in again.model.contents().items() if name != artifact.MANIFEST} == {
        name: data for name, data in refitted.model.contents().items() if name != artifact.MANIFEST
    }


def test_later_prices_change_no_forecast_before(refitted: Fitted) -> None:
    """What it serves from its trained state on."""
    model = refitted.forecaster
    rows = list(LONGER.rows())[ROWS:]
    other = [*rows[:30], *(Row(row.time, 1.01 * row.prices) for row in rows[30:])]
    found = []
    for given in (rows, other):
        state, changes = model.trained_state(), []
        for row in given:
            state, change = model.step(state, row)
            changes.append(change)
        found.append(np.array(changes))
    assert found[0][:30].tobytes() == found[1][:30].tobytes()
    assert found[0][30:].tobytes() != found[1][30:].tobytes()


def test_the_linear_forecaster_is_the_vector_expert_and_the_network_is_served_beside_it(fitted: Fitted) -> None:
    model, row = fitted.forecaster, list(LONGER.rows())[ROWS]
    state = model.trained_state()
    assert isinstance(model.features, MarketFeatures)
    seen, features = model.features.step(state, row)
    columns = np.array([2, 0])
    y, network = model.runtime.step(features[columns].astype(np.float32), state)
    assert model.experts is not None
    basis = model.experts.layout.basis(features[columns], features[:, 0], hidden(network, NETWORK, 2), columns)
    scale = model.features.scale(seen)[columns]

    after, changes = model.step(state, row)

    np.testing.assert_allclose(changes[1], y[:, 0] * scale)
    np.testing.assert_allclose(changes[2], model.experts.predict(basis)[NAMES.index(VECTOR)] * scale)
    assert hidden(network, NETWORK, 2).shape == (2, 8), "of both members"
    shares = model.shares(after)
    assert list(shares) == ["persistence", "mean", "network", *experts.NAMES]
    said = np.stack([0.0 * scale, *after[mix.PROPOSALS][1:]])
    served = sum(share * each for share, each in zip(shares.values(), said, strict=True))
    np.testing.assert_allclose(changes[0], served * scale, atol=1e-15)


@pytest.mark.parametrize("what", ["price", "blank", "break"])
def test_the_mix_hears_of_a_price_that_came_a_step_later_and_of_nothing_else(judged: Fitted, what: str) -> None:
    model, row = judged.forecaster, list(LONGER.rows())[ROWS]
    prices = np.array([101.0, 102.0, 103.0])
    state, _ = model.step(model.trained_state(), Row(row.time, prices))
    came = np.full(3, np.nan) if what == "blank" else prices + 0.1
    after, _ = model.step(state, Row(row.time + 60_000, came, is_break=what == "break"))
    for name, sums in ((mix.REGRETS, 2), (mix.EVIDENCE, 3)):
        for each in range(sums):
            heard = after[name][each].tobytes() != state[name][each].tobytes()
            assert heard == (what == "price"), (name, each)


def test_a_network_that_went_wrong_does_not_reach_experts_and_mix(judged: Fitted) -> None:
    model, row = judged.forecaster, list(LONGER.rows())[ROWS]
    state = dict(model.trained_state())
    state["h1"] = np.full_like(state["h1"], np.nan)
    after, changes = model.step(state, row)
    assert np.isfinite(changes).all()
    assert not changes[1].any()
    assert changes[2].any(), "the linear expert goes on"
    assert all(np.isfinite(array).all() for name, array in after.items() if name.startswith(MIX))


def test_replays_that_begin_a_thousand_rows_before_are_as_good_as_whole_ones(tmp_path: Path) -> None:
    """To the bit in the features, which are known at their first row, and to single precision in the network."""
    prices = np.tile(bouncing(425), (4, 1))
    fitted = run(training_set(prices, targets=TARGETS), tmp_path / "model", replace(JUDGED, steps=1))
    model, fit_end = fitted.forecaster, Slices.of(len(prices), GateSpec()).fit_end
    whole, end = replay(model, fitted.history, TARGETS, Beginning(mix_row=fit_end))
    kept = model.trained_state()
    assert fit_end > 1_000
    for name in end:
        if name.startswith("features."):
            assert kept[name].tobytes() == end[name].tobytes(), name
        else:
            np.testing.assert_allclose(kept[name], end[name], rtol=1e-4, atol=1e-5, err_msg=name)
    stop_end = Slices.of(len(prices), GateSpec()).stop_end
    scores = [fitted.result.report.symbols[name].challenger for name in TARGETS]
    np.testing.assert_allclose(scores, errors(model, fitted.history, whole, stop_end), rtol=1e-5)


_PEERS = [[1, 2, 0], [0, 2, 1], [0, 1, 2]]


@pytest.mark.parametrize(
    "peers",
    [
        None,
        np.array(_PEERS[:2]),
        np.array(_PEERS)[:, :2],
        np.array(_PEERS, np.float64),
        np.array([*_PEERS[:2], [0, 1, 3]]),
        np.array([*_PEERS[:2], [0, 1, -1]]),
        np.array([["1", "2", "0"]] * 3),
    ],
)
def test_peers_that_are_none_of_the_symbols_are_refused(judged: Fitted, peers: Any) -> None:
    refuse(judged.model, PEERS_KEY, peers, "does not say which symbols are peers")


@pytest.mark.parametrize("wrong", [None, "shape", "targets", "nan", "inf", "text", "integers"])
def test_coefficients_that_do_not_fit_or_are_no_numbers_are_refused(judged: Fitted, wrong: str | None) -> None:
    good = judged.model.weights[EXPERTS_KEY]
    given = {
        None: None,
        "shape": good[:, :, :-1],
        "targets": good[:1],
        "nan": np.where(np.arange(good.shape[2]) == 3, np.nan, good),
        "inf": np.full_like(good, np.inf),
        "text": good.astype(str),
        "integers": good.astype(np.int64),
    }
    refuse(judged.model, EXPERTS_KEY, given[wrong], "has no experts that fit its manifest")


def refuse(model: Artifact, key: str, array: Any, reason: str) -> None:
    """One line that names the model and says what to do."""
    weights = {name: w for name, w in model.weights.items() if name != key}
    if array is not None:
        weights[key] = array
    with pytest.raises(ArtifactError, match=reason) as refused:
        LstmForecaster.from_artifact(replace(model, weights=weights))
    text = str(refused.value)
    assert text.startswith(f"weights.npz of model {model.id} ")
    assert text.endswith("train it anew")
    assert "\n" not in text
